"""Disks that UEFI starts, made by hand: a FAT file system with one program, which reads a register of an NVMe controller.

Sources: Microsoft's FAT specification 1.03; Microsoft's PE format; UEFI 2.10, 2.1.1 and 3.5.1.1; PCI Local Bus 3.0, 3.2.2.3.2.
"""

from __future__ import annotations

import struct

from tests.onboarding.bare_kernels import ARM, CODE

SECTOR, SECTORS_PER_CLUSTER, FAT_SECTORS, ROOT_ENTRIES = 512, 4, 64, 512
TOTAL_SECTORS = 32768
BASE = 0x200_0000
"""Where the program is linked to; EDK2 has memory there."""
NVME_SLOT = 4
"""The PCI device number of the lab's controller."""
X64, ARM64 = 0x8664, 0xAA64
EFI_APPLICATION = 10


def program(text: bytes) -> bytes:
    """Return a UEFI program for x86-64 that prints on COM1, reads the NVMe controller's CAP, and halts."""
    slot = 0x8000_0000 | NVME_SLOT << 11
    config = bytes.fromhex("66baf80c ef 66bafc0c")  # mov dx, cf8h; out dx, eax; mov dx, cfch
    code = bytes.fromhex("488d35") + b"TEXT" + bytes.fromhex("66baf803 ac 84c0 7403 ee ebf8")  # out each byte
    code += b"\xb8" + struct.pack("<I", slot | 4) + config + bytes.fromhex("ed 83c806 ef")  # command: memory, bus master
    code += b"\xb8" + struct.pack("<I", slot | 0x14) + config + bytes.fromhex("ed 89c3 48c1e320")  # upper half of BAR 0
    code += b"\xb8" + struct.pack("<I", slot | 0x10) + config + bytes.fromhex("ed 83e0f0 4809c3 488b03")  # CAP
    code += bytes.fromhex("f4 ebfd")
    return _pe(code.replace(b"TEXT", struct.pack("<i", len(code) - 7), 1) + text + b"\0", X64)


def bare_arm64(text: bytes) -> bytes:
    """Return a UEFI program for arm64 that prints on QEMU's first serial port, and spins."""
    return _pe(CODE[ARM] + text + b"\0", ARM64)


def _pe(code: bytes, machine: int) -> bytes:
    head = b"MZ".ljust(60, b"\0") + struct.pack("<I", 64)
    coff = struct.pack("<HHIIIHH", machine, 1, 0, 0, 0, 240, 0x22)  # executable, large addresses; it runs anywhere
    optional = struct.pack("<HBBIIIII", 0x20B, 0, 0, 512, 0, 0, 4096, 4096)
    optional += struct.pack("<QIIHHHHHHIIIIHHQQQQII", BASE, 4096, 512, 0, 0, 0, 0, 0, 0, 0, 8192, 512, 0, EFI_APPLICATION, 0,
                            0, 0, 0, 0, 0, 16)  # fmt: skip
    section = struct.pack("<8sIIIIIIHHI", b".text", len(code), 4096, 512, 512, 0, 0, 0, 0, 0xE000_0020)
    whole = head + b"PE\0\0" + coff + optional + bytes(128) + section
    return whole.ljust(512, b"\0") + code.ljust(512, b"\0")


def disk(content: bytes, name: bytes = b"BOOTX64 EFI", *, boot_code: bytes = b"") -> bytes:
    """Return a disk without a partition table: a FAT16 file system in which EFI/BOOT/``name`` is the content."""
    cluster = SECTOR * SECTORS_PER_CLUSTER
    clusters = -(-len(content) // cluster)
    first = (2, 3, 4)  # EFI, BOOT, the file
    fat = [0xFFF8, 0xFFFF, 0xFFFF, 0xFFFF, *range(5, 4 + clusters), 0xFFFF]
    boot = b"\xeb\x3c\x90LAB     " + struct.pack(
        "<HBHBHHBHHHII", SECTOR, SECTORS_PER_CLUSTER, 1, 2, ROOT_ENTRIES, TOTAL_SECTORS, 0xF8, FAT_SECTORS, 32, 64, 0, 0
    )
    boot += struct.pack("<BBBI11s8s", 0x80, 0, 0x29, 1, b"NO NAME    ", b"FAT16   ") + boot_code
    sectors = boot.ljust(510, b"\0") + b"\x55\xaa"
    table = struct.pack(f"<{len(fat)}H", *fat).ljust(FAT_SECTORS * SECTOR, b"\0")
    root = _entry(b"EFI        ", 0x10, first[0], 0).ljust(ROOT_ENTRIES * 32, b"\0")
    efi = (_folder(first[0], 0) + _entry(b"BOOT       ", 0x10, first[1], 0)).ljust(cluster, b"\0")
    inner = (_folder(first[1], first[0]) + _entry(name, 0x20, first[2], len(content))).ljust(cluster, b"\0")
    return (sectors + table * 2 + root + efi + inner + content).ljust(TOTAL_SECTORS * SECTOR, b"\0")


def _folder(own: int, parent: int) -> bytes:
    return _entry(b".          ", 0x10, own, 0) + _entry(b"..         ", 0x10, parent, 0)


def _entry(name: bytes, attributes: int, cluster: int, size: int) -> bytes:
    return struct.pack("<11sB14xHI", name, attributes, cluster, size)
