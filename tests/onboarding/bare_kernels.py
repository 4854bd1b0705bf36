"""Kernels of a few instructions for arm64 and riscv64, as ELF files made by hand: they print a text, and spin."""

from __future__ import annotations

import struct

ARM, RISCV = 183, 243
"""EM_AARCH64, EM_RISCV."""
LOADED_AT = {ARM: 0x4020_0000, RISCV: 0x8020_0000}
"""In the RAM of QEMU's machine virt, behind its device tree, or behind OpenSBI."""
CODE = {
    # movz x0, #0x900, lsl #16 (PL011); adr x1, text; 1: ldrb w2, [x1], #1; cbz w2, 2f; str w2, [x0]; b 1b; 2: b 2b
    ARM: struct.pack("<7I", 0xD2A12000, 0x100000C1, 0x38401422, 0x34000062, 0xB9000002, 0x17FFFFFD, 0x14000000),
    # lui a0, 0x10000 (16550); auipc a1, 0; addi a1, a1, 32; 1: lbu a2, 0(a1); beqz a2, 2f; sb a2, 0(a0); addi a1, a1, 1;
    # j 1b; nop; 2: j 2b
    RISCV: struct.pack(
        "<10I", 0x10000537, 0x00000597, 0x02458593, 0x0005C603, 0x00060A63, 0x00C50023, 0x00158593, 0xFF1FF06F,
        0x00000013, 0x0000006F,
    ),
}  # fmt: skip


def kernel(machine: int, text: bytes, *, at: int | None = None) -> bytes:
    """Return an ELF kernel that prints the text on the first serial port of QEMU's machine virt."""
    content, place = CODE[machine] + text + b"\0", at if at is not None else LOADED_AT[machine]
    head = b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<2HI3QI6H", 2, machine, 1, place, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    segment = struct.pack("<2I6Q", 1, 7, 128, place, place, len(content), len(content), 16)
    return (head + segment).ljust(128, b"\0") + content
