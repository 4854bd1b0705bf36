"""What a benchmark has found, as data, and where."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from lab.guest.accelerator import accelerator
from lab.toolchain import Toolchain
from lab.toolchain.qemu import dotted


@dataclass(frozen=True)
class Figure:
    """One measured value beside another of the same kind."""

    name: str
    value: float
    unit: str
    against: str
    """What it is compared with."""
    against_value: float
    more_is_better: bool = False
    """As of a rate; a time, or memory, is the better the less it is."""

    @property
    def ratio(self) -> float:
        """How many times as good as the other one: 2 is twice as fast, or half the time."""
        mine, other = (self.value, self.against_value) if self.more_is_better else (self.against_value, self.value)
        return mine / other

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data."""
        names = ("name", "value", "unit", "against", "against_value", "ratio")
        return {name: getattr(self, name) for name in names}


Say = Callable[[str], None]


def no_progress(text: str) -> None:
    """Ignore the progress."""


def numbered_rounds(rounds: int, what: str, say: Say) -> Iterator[int]:
    """Yield the numbers of the rounds; report each before it begins, with the time that is left."""
    began = time.monotonic()
    for number in range(rounds):
        left = f", about {(time.monotonic() - began) / number * (rounds - number):.0f} s left" if number else ""
        say(f"{what}: round {number + 1} of {rounds}{left}")
        yield number


def environment(toolchain: Toolchain) -> dict[str, Any]:
    """Return what the figures depend on besides the lab."""
    found: dict[str, Any] = {
        "system": platform.system(), "release": platform.release(), "machine": platform.machine(),
        "cpus": len(os.sched_getaffinity(0)), "load": os.getloadavg()[0], "python": platform.python_version(),
    }  # fmt: skip
    if (qemu := toolchain.qemu) is not None:
        kept = toolchain.cache.root / "accelerator.json" if toolchain.cache else None
        found |= {"qemu": dotted(qemu.version), "accelerator": accelerator(qemu.command, qemu.env, kept).name}
    if toolchain.linux is not None:
        found["guest"] = toolchain.linux.release
    return found
