"""A bootable ISO 9660 image out of a boot image: El Torito without emulation, and an empty root directory.

ECMA-119 (ISO 9660), 6 and 8.4; "El Torito" Bootable CD-ROM Format Specification 1.0, 2.0 to 2.2.
"""

from __future__ import annotations

import struct

SECTOR, VIRTUAL_SECTOR = 2048, 512
DESCRIPTORS = 16  # where they begin; what is before is the system's own
CATALOG, ROOT, PATHS, PATHS_BIG_ENDIAN, IMAGE = range(DESCRIPTORS + 3, DESCRIPTORS + 8)
NO_EMULATION = 0
ADDED = b"\0" * 7
"""A date that was not set."""


def bootable(image: bytes, label: str = "HOBBY") -> bytes:
    """Return the disc. The BIOS loads all of ``image`` to 7C00h and starts it there."""
    sectors = IMAGE + -(-len(image) // SECTOR)
    layout = {
        DESCRIPTORS: _primary(label, sectors),
        DESCRIPTORS + 1: struct.pack("<B5sB32s32xI", 0, b"CD001", 1, b"EL TORITO SPECIFICATION", CATALOG),
        DESCRIPTORS + 2: struct.pack("<B5sB", 255, b"CD001", 1),
        CATALOG: _catalog(-(-len(image) // VIRTUAL_SECTOR)),
        ROOT: _directory(b"\0") + _directory(b"\1"),
        PATHS: struct.pack("<BBIHs", 1, 0, ROOT, 1, b"\0"),
        PATHS_BIG_ENDIAN: struct.pack(">BBIHs", 1, 0, ROOT, 1, b"\0"),
    }
    head = b"".join(layout.get(sector, b"").ljust(SECTOR, b"\0") for sector in range(IMAGE))
    return head + image.ljust((sectors - IMAGE) * SECTOR, b"\0")


def _both(value: int, size: str) -> bytes:
    """Return a number as ISO 9660 has it: little-endian, and once more big-endian."""
    return struct.pack("<" + size, value) + struct.pack(">" + size, value)


def _directory(name: bytes) -> bytes:
    """Return the root directory's record of itself and, one directory higher, of itself again.

    9.1
    """
    record = struct.pack("<xB8s8s7sBBB4sB", 0, _both(ROOT, "I"), _both(SECTOR, "I"), ADDED, 2, 0, 0, _both(1, "H"), 1) + name
    return bytes([len(record)]) + record[1:]


def _primary(label: str, sectors: int) -> bytes:
    """Return the primary volume descriptor.

    8.4
    """
    return b"".join(
        (
            struct.pack("<B5sB33s", 1, b"CD001", 1, b""),
            label.ljust(32).encode() + bytes(8) + _both(sectors, "I") + bytes(32),
            _both(1, "H") + _both(1, "H") + _both(SECTOR, "H") + _both(10, "I"),
            struct.pack("<II", PATHS, 0) + struct.pack(">II", PATHS_BIG_ENDIAN, 0),
            _directory(b"\0") + b" " * 623 + (b"0" * 16 + b"\0") * 4 + b"\1",
        )
    )


def _catalog(virtual_sectors: int) -> bytes:
    """Return the validation entry, whose words add up to 0, and the one thing that can be booted.

    El Torito 2.1, 2.2
    """
    validation = struct.pack("<BBH24sHBB", 1, 0, 0, b"", 0, 0x55, 0xAA)
    missing = -sum(struct.unpack("<16H", validation)) & 0xFFFF
    validation = validation[:28] + struct.pack("<H", missing) + validation[30:]
    return validation + struct.pack("<BBHBxHI20x", 0x88, NO_EMULATION, 0, 0, virtual_sectors, IMAGE)
