from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import lab.guest.accelerator
from lab.deadline import Deadline
from lab.guest.accelerator import KVM, TCG, Accelerator, accelerator, firmware, probe
from lab.guest.arguments import GuestSpec
from lab.guest.machine import Machine
from lab.toolchain import Toolchain

SOURCE = Path(lab.guest.accelerator.__file__).with_suffix(".S")


@pytest.mark.skipif(not (shutil.which("gcc") and shutil.which("objcopy")), reason="no gcc and objcopy to assemble with")
def test_the_rom_is_what_its_source_says(tmp_path: Path) -> None:
    subprocess.run(["gcc", "-c", SOURCE, "-o", tmp_path / "rom.o"], check=True)
    subprocess.run(["objcopy", "-O", "binary", "-j", ".text", tmp_path / "rom.o", tmp_path / "rom"], check=True)
    assert (tmp_path / "rom").read_bytes() == SOURCE.with_suffix(".rom").read_bytes()


def test_the_rom_fills_the_segment_and_ends_with_the_reset_vector() -> None:
    rom = firmware()
    assert len(rom) == 0x10000
    assert rom[0xFFF0] in (0xE9, 0xEB), "a jump at F000:FFF0"


def test_tcg_passes_the_probe(toolchain: Toolchain) -> None:
    assert toolchain.qemu
    assert probe(toolchain.qemu.command, toolchain.qemu.env, TCG, seconds=20) == ""


def test_a_processor_that_never_gets_there_does_not(toolchain: Toolchain) -> None:
    assert toolchain.qemu
    trouble = probe((*toolchain.qemu.command, "-S"), toolchain.qemu.env, TCG, seconds=0.3)
    assert "had not ended after 0.3 s" in trouble


def test_a_qemu_that_refuses_does_not(toolchain: Toolchain) -> None:
    assert toolchain.qemu
    assert "exit status 1" in probe(toolchain.qemu.command, toolchain.qemu.env, "no-such-accelerator")


def test_a_guest_comes_up_under_the_choice(toolchain: Toolchain) -> None:
    assert toolchain.qemu
    found = accelerator(toolchain.qemu.command, toolchain.qemu.env)
    assert found.reason
    spec = GuestSpec(bios=toolchain.firmware["u-boot"])
    with Machine(toolchain.qemu.command, toolchain.qemu.env, spec, found.name) as guest:
        guest.console.expect("Hit any key", Deadline(30))


def test_the_choice_is_kept_for_this_boot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kept = tmp_path / "cache" / "accelerator.json"
    answers = iter(["too slow", ""])
    monkeypatch.setattr(lab.guest.accelerator, "kvm_trouble", lambda command, env: next(answers))

    def choose(command: str) -> Accelerator:
        lab.guest.accelerator._measured.cache_clear()  # as a new process
        return accelerator([command], {}, kept)

    assert [choose("qemu") for _ in range(2)] == [Accelerator(TCG, "too slow")] * 2
    assert choose("another-qemu").name == KVM
    kept.write_text("garbage")
    with pytest.raises(StopIteration):  # asks again
        choose("another-qemu")
