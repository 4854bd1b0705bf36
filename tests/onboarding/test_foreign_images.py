"""Systems for arm64 and riscv64: what they are recognised by, how they are booted, and two of them before a device."""

from __future__ import annotations

import struct
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest

from conformance.commands.init import render
from conformance.commands.observe import _target
from conformance.onboarding.observation import Boot, BootImage, Observer
from conformance.onboarding.recognise import recognise
from lab.architectures import ARCHITECTURES
from lab.data.manifest import Boot as BootTable
from lab.data.manifest import parse
from lab.device.probe import PLATFORMS
from lab.drivers import adapters, shape, wants
from lab.errors import UsageError
from lab.toolchain import WANTS, Toolchain
from tests.onboarding.bare_kernels import ARM, LOADED_AT, RISCV, kernel

FAT_LONG_NAME = b"B\0O\0O\0T\0R\0\x0f\0\x8bI\0S\0C\0V\x006\x004\0\0\0.\0E\0"


def at(*parts: tuple[int, bytes], size: int = 1 << 17) -> bytes:
    found = bytearray(size)
    for offset, content in parts:
        found[offset : offset + len(content)] = content
    return bytes(found)


def words(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}I", *numbers)


SECTOR = (510, b"\x55\xaa")
PE_ARM = at((0, b"MZ"), (60, b"\x80\0\0\0"), (128, b"PE\0\0\x64\xaa"))


@pytest.mark.parametrize(
    ("content", "what", "boots", "arch"),
    [
        (kernel(ARM, b""), "a 64-bit ELF kernel for AArch64", "kernel", "aarch64"),
        (kernel(RISCV, b""), "a 64-bit ELF kernel for RISC-V", "kernel", "riscv64"),
        (kernel(RISCV, b"", at=0x8000_0000), "a 64-bit ELF firmware for RISC-V", "firmware", "riscv64"),
        (at((0, b"MZ"), (0x38, b"ARM\x64")), "a Linux kernel (Image) for AArch64", "kernel", "aarch64"),
        (at((0x30, b"RISCV\0\0\0RSC\5")), "a Linux kernel (Image) for RISC-V", "kernel", "riscv64"),
        (at((0, b"MZ\0\0zimg"), (60, b"\x80\0\0\0"), (128, b"PE\0\0\x64\x50")), "a Linux kernel (Image) for RISC-V",
         "kernel", "riscv64"),
        (at((0, words(0x14000400)), (0x1028, b"_FVH")), "a UEFI firmware for AArch64", "firmware", "aarch64"),
        (at((0, words(0x3000006F)), (0x28, b"_FVH")), "a UEFI firmware for RISC-V", "firmware", "riscv64"),
        (at((0, words(0x1400000A, 0xD503201F))), "a firmware for AArch64", "firmware", "aarch64"),
        (at((0, words(0xF1402573))), "a firmware for RISC-V", "firmware", "riscv64"),
        (at((0, words(0x84AE822A))), "U-Boot for RISC-V, in supervisor mode", "kernel", "riscv64"),
        (at(SECTOR, (70000, b"BOOTAA64EFI")), "a disk image with a boot sector (master boot record) for AArch64 (UEFI)",
         "disk", "aarch64"),
        (at(SECTOR, (512, b"EFI PART"), (70000, FAT_LONG_NAME)), "a disk image with a boot sector (GPT) for RISC-V (UEFI)",
         "disk", "riscv64"),
        (at((32769, b"CD001"), (70000, b"BOOTAA64.EFI;1")), "an ISO 9660 image for AArch64 (UEFI)", "iso", "aarch64"),
        # of which several processors can be started is a PC's; and so is what says nothing
        (at(SECTOR, (70000, b"BOOTAA64EFI"), (80000, b"BOOTX64 EFI")), "a disk image", "disk", "x86_64"),
        (at(SECTOR), "a disk image", "disk", "x86_64"),
        (PE_ARM, "a UEFI application (PE) for AArch64", "", "x86_64"),
        (b"\x1f\x8b" + bytes(100), "a file compressed by gzip", "", "x86_64"),
    ],
)  # fmt: skip
def test_what_a_file_is_and_for_which_processor(tmp_path: Path, content: bytes, what: str, boots: str, arch: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    found = recognise(file)
    assert found.what.startswith(what)
    assert (found.boots, found.arch) == (boots, arch)
    assert boots or found.remedy


def test_a_program_of_another_processor_is_no_driver_in_the_guest(tmp_path: Path) -> None:
    file = tmp_path / "program"
    head = kernel(ARM, b"")
    interpreter = struct.pack("<2I6Q", 3, 4, 192, 0, 0, 30, 30, 1)
    file.write_bytes(head[:64] + interpreter + bytes(72) + b"/lib/ld-linux-aarch64.so.1\0".ljust(30, b"\0"))
    found = recognise(file)
    assert (found.what, found.boots) == ("a 64-bit Linux program for AArch64", "")


def options(**given: Any) -> dict[str, Any]:
    keys = ("kernel", "disk", "iso", "floppy", "firmware", "initrd", "append", "machine", "cpu", "memory", "arch")
    return {**dict.fromkeys(keys), "cpus": 1, "extra": (), **given}


def test_a_disk_is_started_by_the_firmware_of_its_architecture(tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(at(SECTOR, (70000, b"BOOTAA64EFI")))
    for image, nvme_disk in ((disk, None), (None, disk)):
        target, _, what = _target(image, nvme_disk, None, options())
        assert (target.arch, target.boot["firmware"]) == ("aarch64", "{edk2-arm64}")
        assert target.wants == {"qemu-aarch64", "edk2-arm64"}
        assert "firmware_driver" not in target.boot
        assert "EDK2 on AArch64" in what
    target, _, _ = _target(disk, None, None, options(arch="x86_64"))
    assert (target.arch, target.wants) == ("x86_64", {"qemu"})


def test_a_kernel_is_told_its_console_and_tried_on_two_processors(tmp_path: Path) -> None:
    image = tmp_path / "Image"
    image.write_bytes(at((0, b"MZ"), (0x38, b"ARM\x64")))
    target, _, _ = _target(image, None, None, options())
    assert target.boot["append"] == "console=ttyAMA0 panic=-1"
    assert [*target.variants()] == [
        {"machine": "virt", "cpu": "cortex-a57", "memory": "256M"},
        {"machine": "virt", "cpu": "max", "memory": "1G"},
    ]


@pytest.mark.parametrize("arch", [name for name, place in ARCHITECTURES.items() if not place.is_pc])
def test_one_key_makes_the_guest(arch: str, tmp_path: Path) -> None:
    place = ARCHITECTURES[arch]
    made = parse({"name": "x", "adapter": "generic-serial", "boot": {"kernel": "k", "arch": arch, "ready": "> "}},
                 tmp_path / "x.toml", adapters())  # fmt: skip
    assert (made.boot.machine, made.boot.cpu) == (place.machine, place.cpus[0])
    assert wants(made) == (f"qemu-{arch}",)
    assert {f"qemu-{arch}", place.edk2} <= set(WANTS)


def test_every_table_knows_the_same_architectures() -> None:
    assert set(ARCHITECTURES) == set(PLATFORMS) == set(get_args(BootTable.model_fields["arch"].annotation))


def test_nothing_boots_a_disk_without_a_firmware(tmp_path: Path) -> None:
    (tmp_path / "d.img").touch()
    table = {"disk": "d.img", "arch": "riscv64", "ready": "> "}
    with pytest.raises(UsageError, match=r'boot\.firmware: a guest of riscv64(?s:.*)firmware = "\{edk2-riscv64\}"'):
        shape.check(parse({"name": "x", "adapter": "generic-serial", "boot": table}, tmp_path / "x.toml", adapters()))


def test_the_written_manifest_names_the_architecture(tmp_path: Path) -> None:
    target = BootImage(
        {"disk": "/d.img", "firmware": "{edk2-arm64}", "cpus": 1}, tmp_path, arch="aarch64", needs=("edk2-arm64",)
    )
    text = render(
        "observed.toml.j2", name="x", what="a disk", boot=target.boot, machine=next(target.variants()), disk=None,
        stages=["detect"], memory="256M", target=target, needs=["edk2-arm64"],
    )  # fmt: skip
    made = parse(tomllib.loads(text), tmp_path / "x.toml", adapters())
    assert wants(made) == ("qemu-aarch64", "edk2-arm64")
    assert not made.boot.screen


# -- guests ---------------------------------------------------------------------------------------------------------


def observed(folder: Path, toolchain: Toolchain, arch: str, **boot: Any) -> Boot:
    target = BootImage(boot, folder, machine="virt", cpu=ARCHITECTURES[arch].cpus[0], memory="256M", arch=arch)
    return Observer("x", target, folder, toolchain, lambda _: None).plain()


def test_a_bare_kernel_is_heard_and_blamed_for_nothing(toolchain: Toolchain, tmp_path: Path) -> None:
    file = tmp_path / "kernel"
    file.write_bytes(kernel(RISCV, b"PANIC: no NVMe yet\r\n"))
    assert recognise(file).arch == "riscv64"
    found = observed(tmp_path, toolchain, "riscv64", kernel=str(file))
    assert found.how == "not-reached"
    assert found.crash == "PANIC: no NVMe yet"
    assert f"{LOADED_AT[RISCV] >> 12:x}" in found.reason, "it runs in a short loop there"
    assert not found.verdicts


def test_edk2_on_arm64_reads_before_the_device(toolchain: Toolchain, tmp_path: Path) -> None:
    firmware = toolchain.firmware["edk2-arm64"]
    assert recognise(firmware).arch == "aarch64"
    found = observed(tmp_path, toolchain, "aarch64", firmware=str(firmware), firmware_driver=True)
    assert {"detect", "admin-queue", "identify", "io-queues", "read"} <= set(found.seen.steps)
    assert {verdict.check.id for verdict in found.verdicts}
