"""The programs that ask firmware's own drivers: they are what their sources say, and each driver is asked through its one."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from conformance.suite.selection import SCENARIOS
from lab import drivers
from lab.data.events import ActionEnded, Submitted
from lab.data.evidence import Evidence
from lab.data.plan import DeviceKind
from lab.drivers import devices, find
from lab.nvme.commands import Read, Write
from lab.recording.record import record
from lab.toolchain import Toolchain

PROGRAMS = Path(drivers.__file__).parent / "programs"
COMPILER = "12.2.0"
"""Of Debian 12, with which edk2.rom was made: others choose other instructions."""


def built(source: Path, folder: Path) -> bytes:
    """Return the program as the command in its source's first comment makes it."""
    for file in PROGRAMS.iterdir():
        if file.suffix in (".S", ".c", ".ld"):
            shutil.copy(file, folder)
    comment = source.read_text().partition("*/")[0].partition("Build:")[2]
    command = " ".join(line.strip(" *") for line in comment.splitlines())
    subprocess.run(command, shell=True, check=True, cwd=folder)
    return (folder / source.with_suffix(".rom").name).read_bytes()


@pytest.mark.skipif(not (shutil.which("gcc") and shutil.which("objcopy")), reason="no gcc and objcopy to assemble with")
def test_the_bios_program_is_what_its_source_says(tmp_path: Path) -> None:
    assert built(PROGRAMS / "seabios.S", tmp_path) == (PROGRAMS / "seabios.rom").read_bytes()


def compiler() -> str:
    if not shutil.which("gcc"):
        return ""
    return subprocess.run(["gcc", "-dumpfullversion"], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.skipif(compiler() != COMPILER, reason=f"gcc {COMPILER} made the program, and is not here")
def test_the_uefi_program_is_what_its_source_says(tmp_path: Path) -> None:
    assert built(PROGRAMS / "edk2.c", tmp_path) == (PROGRAMS / "edk2.rom").read_bytes()


def test_the_bios_program_leaves_its_first_sector_to_the_header() -> None:
    rom = (PROGRAMS / "seabios.rom").read_bytes()
    setup = (rom[0x1F1] + 1) * 512
    assert rom[0x202:0x206] == b"HdrS"
    assert rom[510:512] == b"\x55\xaa"
    assert len(rom) > setup, "the kernel proper is there, and empty: all of the code is in the setup"
    assert not any(rom[setup:]), "the kernel proper is there, and empty: all of the code is in the setup"


def test_the_uefi_programs_buffer_is_where_the_manifest_has_it() -> None:
    defined = re.search(r"#define BUFFER (0x[0-9a-f]+)", (PROGRAMS / "edk2.c").read_text())
    assert defined
    assert int(defined[1], 16) == find("edk2").limits.address


@pytest.mark.parametrize("device", ["qemu", "lab"])
@pytest.mark.parametrize("name", ["seabios", "edk2", "u-boot-arm64", "u-boot-riscv64"])
def test_blocks_are_read_and_written_through_it(name: str, device: DeviceKind, toolchain: Toolchain, tmp_path: Path) -> None:
    manifest = find(name)
    assert device in devices(manifest)
    scenario = SCENARIOS["write/basic"].resolve(0)
    record(manifest, scenario, device, tmp_path / "evidence", toolchain=toolchain)
    evidence = Evidence(tmp_path / "evidence")
    assert evidence.end, evidence.end
    assert evidence.end.outcome == "complete", evidence.end
    answers = [event.answer["status"] for event in evidence.events() if isinstance(event, ActionEnded)]
    asked = [action.name for action in scenario.actions]
    assert len(answers) == len(asked)
    for action, status in zip(asked, answers, strict=True):
        assert status == ("success" if action in manifest.actions or action == "load" else "unsupported"), action
    sent = [event.command for event in evidence.events() if isinstance(event, Submitted) and event.sqid]
    assert {Read, Write} <= {type(command) for command in sent}
