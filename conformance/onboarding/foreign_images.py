"""Images for guests of arm64 and riscv64: what tells them from those of PCs.

Sources: Linux' Documentation/arch/arm64/booting.rst and arch/riscv/boot-image-header.rst (Image), and for EFI zboot images
drivers/firmware/efi/libstub/zboot-header.S; UEFI 2.10, 3.5.1.1 (the names of removable media); PI 1.8 vol. 3 (_FVH); PE (the
machine in the COFF header); Microsoft's FAT specification 1.03 (long names); the Arm and RISC-V manuals (first instructions).
"""

from __future__ import annotations

import mmap
import re
import struct
from pathlib import Path

from lab.architectures import AARCH64, RISCV64, X86_64

MOST_SEARCHED = 512 << 20
"""Bytes of a disk that are searched for what UEFI starts."""
PE_MACHINES = {0x8664: X86_64, 0xAA64: AARCH64, 0x5064: RISCV64}
EFI_PROGRAMS = {
    X86_64: re.compile(rb"BOOTX64 ?\.?EFI", re.IGNORECASE),
    AARCH64: re.compile(rb"BOOTAA64\.?EFI", re.IGNORECASE),
    # longer than eight letters: in a FAT it is spread over a long name's entry, five letters, then six, then two
    RISCV64: re.compile(rb"BOOTRISCV64\.EFI|B\0O\0O\0T\0R\0\x0f\0.I\0S\0C\0V\x006\x004\0", re.IGNORECASE | re.DOTALL),
}
"""What UEFI starts from removable media, as FAT and ISO 9660 write its name."""
ARM_BRANCH, ARM_NOP = 0b000101, 0xD503201F
RISCV_JUMP, RISCV_READ_HART = 0x6F, 0xF1402573
"""The opcode of JAL; and csrr a0, mhartid, which only machine mode may execute."""
RISCV_KEEP_ARGUMENTS = 0x84AE822A
"""c.mv tp, a0 and c.mv s1, a1: U-Boot in supervisor mode (its arch/riscv/cpu/start.S) keeps what OpenSBI hands it."""
FIRST_VOLUME = (0x0, 0x1000)
"""Where a firmware's first volume begins, whose signature lies 28h bytes behind."""


def linux_image(head: bytes) -> str:
    """Return the architecture of an uncompressed Linux Image, or of an EFI zboot image; "" for anything else."""
    if head[0x38:0x3C] == b"ARM\x64":
        return AARCH64
    if head[0x30:0x38] == b"RISCV\0\0\0":
        return RISCV64
    return pe_architecture(head) if head[:2] == b"MZ" and head[4:8] == b"zimg" else ""


def is_supervisor_program(head: bytes) -> bool:
    """Return whether it is a U-Boot for RISC-V that is started as a kernel is, by OpenSBI."""
    return head[:4] == RISCV_KEEP_ARGUMENTS.to_bytes(4, "little")


def firmware(head: bytes) -> tuple[str, str]:
    """Return what firmware it is in words and its architecture; two empty words if it is none of these."""
    if len(head) < 8:
        return "", ""
    first, second = struct.unpack_from("<2I", head)
    is_volume = any(head[at + 0x28 : at + 0x2C] == b"_FVH" for at in FIRST_VOLUME)
    if first >> 26 == ARM_BRANCH and is_volume:
        return "a UEFI firmware for AArch64", AARCH64
    if first & 0x7F == RISCV_JUMP and is_volume:
        return "a UEFI firmware for RISC-V", RISCV64
    if first >> 26 == ARM_BRANCH and second == ARM_NOP:
        return "a firmware for AArch64: it begins with a branch", AARCH64
    if first == RISCV_READ_HART:
        return "a firmware for RISC-V: it begins in machine mode", RISCV64
    return "", ""


def pe_architecture(head: bytes) -> str:
    """Return the architecture of a PE program; "" if it is another, or no PE program."""
    (at,) = struct.unpack_from("<I", head.ljust(64, b"\0"), 60)
    if head[at : at + 4] != b"PE\0\0":
        return ""
    return PE_MACHINES.get(int.from_bytes(head[at + 4 : at + 6], "little"), "")


def efi_architectures(path: Path) -> list[str]:
    """Return the architectures for which UEFI can start something from a disk or disc."""
    with path.open("rb") as stream:
        if not path.stat().st_size:
            return []
        with mmap.mmap(stream.fileno(), min(path.stat().st_size, MOST_SEARCHED), access=mmap.ACCESS_READ) as content:
            return [arch for arch, name in EFI_PROGRAMS.items() if name.search(content)]


def disk_architecture(path: Path) -> str:
    """Return the only other architecture than the PC's that UEFI can start from a disk; the PC's for all else."""
    found = efi_architectures(path)
    return found[0] if len(found) == 1 else X86_64
