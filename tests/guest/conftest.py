"""Guests that start in a moment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lab.guest.arguments import GuestSpec
from lab.guest.machine import Machine
from lab.toolchain import Toolchain

TCG = "tcg,thread=multi"
PROMPT = r"(?:^|\n)=> "

Start = Callable[..., Machine]


@pytest.fixture
def paused(toolchain: Toolchain, tmp_path: Path) -> Start:
    """Makes machines whose processor does not run: QEMU alone."""

    def make(spec: GuestSpec = GuestSpec(memory=16, extra=("-S",))) -> Machine:  # noqa: B008  frozen
        assert toolchain.qemu
        return Machine(toolchain.qemu.command, toolchain.qemu.env, spec, TCG, root=tmp_path / "run")

    return make
