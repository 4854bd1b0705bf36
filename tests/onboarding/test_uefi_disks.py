"""Disks that UEFI starts: told from those with code for a BIOS, and booted without the NVMe driver of the firmware."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from conformance.commands import run_command
from conformance.commands.init import render
from conformance.commands.observe import _target
from conformance.onboarding.boot_code import Starts, bios_starts_disc, pc_starts
from conformance.onboarding.observation import Boot, Observer
from conformance.onboarding.recognise import recognise
from lab.data.events import RegisterRead
from lab.data.evidence import Evidence
from lab.drivers import find
from lab.nvme.registers import CAP
from lab.toolchain import Toolchain
from tests.hobby.iso import bootable
from tests.onboarding.boot_sectors import COM1, image, printer
from tests.onboarding.test_foreign_images import options
from tests.onboarding.uefi_disks import bare_arm64, disk, program

UEFI_ONLY, BIOS_ONLY, EITHER = Starts(bios=False, uefi=True), Starts(bios=True, uefi=False), Starts(bios=True, uefi=True)


def catalog(*entries: tuple[int, int]) -> bytes:
    """Return an El Torito catalog of (platform, indicator) in headers of their own, behind the validation entry."""
    first, *others = entries
    found = bytes([1, first[0]]).ljust(32, b"\0") + bytes([first[1]]).ljust(32, b"\0")
    for platform, indicator in others:
        found += bytes([0x91, platform]).ljust(32, b"\0") + bytes([indicator]).ljust(32, b"\0")
    return found


@pytest.mark.parametrize(
    ("content", "starts"),
    [
        (disk(b"x"), UEFI_ONLY),
        (disk(b"x", boot_code=bytes(30) + b"\x0e\x1f\xbe\x5b\x7cThis is not a bootable disk."), UEFI_ONLY),
        (disk(b"x", boot_code=bytes(30) + b"\xfa\xeb\xfe"), EITHER),
        (disk(b"x", b"BOOTAA64EFI", boot_code=bytes(30) + b"\xfa\xeb\xfe"), BIOS_ONLY),
        (image(printer(COM1, b"x")), BIOS_ONLY),
        (image(b""), Starts(bios=False, uefi=False)),
    ],
)
def test_what_starts_a_disk(tmp_path: Path, content: bytes, starts: Starts) -> None:
    file = tmp_path / "disk"
    file.write_bytes(content)
    assert pc_starts(file, "disk") == starts


@pytest.mark.parametrize(
    ("entries", "bios"),
    [
        (((0, 0x88),), True),
        (((0xEF, 0x88),), False),
        (((0, 0x88), (0xEF, 0x88)), True),
        (((0, 0), (0xEF, 0x88)), False),
    ],
)
def test_what_starts_a_disc(tmp_path: Path, entries: tuple[tuple[int, int], ...], bios: bool) -> None:
    file = tmp_path / "disc"
    made = bytearray(bootable(b"\xfa\xf4"))
    (at,) = struct.unpack_from("<I", made, 17 * 2048 + 0x47)
    made[at * 2048 : (at + 1) * 2048] = catalog(*entries).ljust(2048, b"\0")
    file.write_bytes(made)
    assert bios_starts_disc(file) == bios


def test_what_uefi_alone_starts_is_booted_by_edk2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.img").write_bytes(disk(b"x"))
    assert recognise(tmp_path / "my.img").what.endswith("for UEFI")
    target, _, _ = _target(tmp_path / "my.img", None, None, options())
    assert {machine["firmware"] for machine in target.variants()} == {"{edk2}"}
    assert target.wants == {"qemu", "edk2"}
    assert run_command(("init", "my.img", "--no-boot")) == 0
    manifest = find("my.toml")
    assert (manifest.boot.disk, manifest.boot.firmware, manifest.needs) == ("my.img", "{edk2}", ("edk2",))


def test_what_either_starts_is_first_booted_by_the_bios(tmp_path: Path) -> None:
    file = tmp_path / "my.img"
    file.write_bytes(disk(b"x", boot_code=bytes(30) + b"\xfa\xeb\xfe"))
    target, _, _ = _target(file, None, None, options())
    assert [machine.get("firmware", "") for machine in target.variants()][:2] == ["", "{edk2}"]
    chosen, _, _ = _target(file, None, None, options(firmware=file))
    assert all("firmware" not in machine for machine in chosen.variants())


def test_a_disk_without_boot_code_is_said_to_be_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "my.img"
    file.write_bytes(bytes(0x438) + b"\x53\xef" + bytes(4096))
    assert run_command(("observe", str(file))) == 4
    assert "ext2, ext3 or ext4 file system without boot code" in capsys.readouterr().err


def test_the_written_manifest_boots_by_uefi_too(tmp_path: Path) -> None:
    target, _, _ = _target(None, None, None, options(disk=made(tmp_path, disk(b"x"))))
    machine = next(target.variants())
    text = render(
        "observed.toml.j2", name="x", what="a disk", boot={**target.boot, "firmware": machine["firmware"]}, machine=machine,
        disk=None, stages=["detect"], memory="256M", target=target, needs=["edk2"],
    )  # fmt: skip
    assert 'firmware = "{edk2}"' in text
    assert 'needs = ["edk2"]' in text


def made(folder: Path, content: bytes) -> Path:
    file = folder / "disk.img"
    file.write_bytes(content)
    return file


# -- guests ---------------------------------------------------------------------------------------------------------


def observed(folder: Path, toolchain: Toolchain, content: bytes, **given: Any) -> Boot:
    target, name, _ = _target(made(folder, content), None, None, options(**given))
    return Observer(name, target, folder, toolchain, lambda _: None).plain()


def test_only_what_the_system_does_is_recorded_and_not_what_edk2_could(toolchain: Toolchain, tmp_path: Path) -> None:
    """The program reads CAP, and nothing else. EDK2 has an NVMe driver, which must leave the device alone."""
    found = observed(tmp_path, toolchain, disk(program(b"it runs\r\n")))
    assert "it runs" in found.said["COM1"]
    accesses = [event for event in Evidence(found.evidence).events() if isinstance(event, RegisterRead)]
    assert {event.offset for event in accesses} <= {CAP.OFFSET, CAP.OFFSET + 4}
    assert len(accesses) in (1, 2)
    assert list(found.seen.steps) == ["detect"]


@pytest.mark.soak
def test_a_disk_for_arm64_is_booted_and_edk2_leaves_the_device_alone(toolchain: Toolchain, tmp_path: Path) -> None:
    found = observed(tmp_path, toolchain, disk(bare_arm64(b"it runs\r\n"), b"BOOTAA64EFI"))
    assert "it runs" in found.said["COM1"]
    assert found.how == "not-reached"
    assert not found.seen.accesses
