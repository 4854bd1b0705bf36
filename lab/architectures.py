"""Architectures of guests: QEMU's usual machine for each, and what on it differs from a PC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

X86_64, AARCH64, RISCV64 = "x86_64", "aarch64", "riscv64"


@dataclass(frozen=True)
class Architecture:
    """One architecture, by the name that QEMU's program for it has."""

    name: str
    shown: str
    """As its vendor writes it."""
    machine: str
    cpus: tuple[str, ...]
    """Processor models, the usual one first."""
    ram_base: int
    """The physical address of the RAM's first byte."""
    linux_console: str
    """Linux's name of the first serial port."""
    efi_program: str
    """What UEFI starts from a disk that it does not know (UEFI 2.10, 3.5.1.1), in its folder EFI/BOOT."""
    edk2: str
    """What of the toolchain is the UEFI firmware."""
    flash_bytes: int = 0
    """A firmware of exactly this size lies in the machine's flash memory, and is not loaded by -bios."""

    @property
    def is_pc(self) -> bool:
        """Return whether its machines are PCs: with COM2, port E9h, a VGA screen, a keyboard, IDE and floppy drives."""
        return self.name == X86_64


ARCHITECTURES: Mapping[str, Architecture] = {
    found.name: found
    for found in (
        Architecture(X86_64, "x86-64", "q35", ("max", "qemu64"), 0, "ttyS0", "BOOTX64.EFI", "edk2"),
        # hw/arm/virt.c
        Architecture(
            AARCH64, "AArch64", "virt", ("cortex-a57", "max"), 1 << 30, "ttyAMA0", "BOOTAA64.EFI", "edk2-arm64"
        ),
        # hw/riscv/virt.c; EDK2's code is as large as its flash memory
        Architecture(
            RISCV64, "RISC-V", "virt", ("rv64", "max"), 1 << 31, "ttyS0", "BOOTRISCV64.EFI", "edk2-riscv64", 32 << 20
        ),
    )
}  # fmt: skip
