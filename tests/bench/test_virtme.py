"""virtme-ng beside our forks; a program that says what a guest of its would say stands for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.bench import virtme
from lab.bench.figures import Figure
from lab.errors import LabError
from lab.toolchain import Toolchain

FORKED = Figure("fork", 0.25, "s", "boot", 4.0)
STAND_IN = """#!/bin/sh
for option; do case $option in *file=*) disk=${option#*file=};; esac; done
dd if="${disk%% *}" bs=4096 skip=BLOCK count=1 status=none | sha256sum
"""


def test_root_does_not_run_it(program_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(program_folder, 1)
    monkeypatch.setenv("PATH", str(program_folder))
    said: list[str] = []
    for is_root, found in ((False, str(program_folder / "vng")), (True, None)):
        monkeypatch.setattr(virtme, "can_switch_user", lambda answer=is_root: answer)
        assert virtme.find_program(said.append) == found
    assert said == ["vng is left out: it would run QEMU as root; run the benchmark as another user"]


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    (tmp_path / "package/boot").mkdir(parents=True)
    (tmp_path / "package/boot/vmlinuz-6.1").write_text("kernel")
    return tmp_path / "package"


def stand_in(folder: Path, block: int) -> str:
    program = folder / "vng"
    program.write_text(STAND_IN.replace("BLOCK", str(block)))
    program.chmod(0o755)
    return str(program)


def test_its_time_stands_against_the_forks(toolchain: Toolchain, kernel: Path, tmp_path: Path, program_folder: Path) -> None:
    (tmp_path / "run").mkdir()
    figure = virtme.beside(FORKED, stand_in(program_folder, 1), toolchain, kernel, tmp_path / "run")
    assert (figure.name, figure.value) == ("fork", 0.25)
    assert figure.against_value > 0


def test_a_guest_that_has_read_something_else_is_no_figure(
    toolchain: Toolchain, kernel: Path, tmp_path: Path, program_folder: Path
) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(LabError, match=r"did not read the block; it said: [0-9a-f]{64}"):
        virtme.beside(FORKED, stand_in(program_folder, 0), toolchain, kernel, tmp_path / "run")
