"""The smallest UEFI firmware with a driver: a volume with a compressed volume with a PE image in it."""

from __future__ import annotations

import lzma
import struct
from uuid import UUID

from lab.coverage.uefi import LZMA_GUID

CODE_AT, DATA_AT = 0x200, 0x400
"""Where code and data are in the image, as a file and in memory."""


def image(code: bytes, data: bytes = b"", entry: int = CODE_AT, machine: int = 0x8664) -> bytes:
    """Return a PE image (Microsoft PE Format) with a section of code and one of data."""
    header = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x40)
    header += struct.pack("<4sHHIIIHH", b"PE\0\0", machine, 2, 0, 0, 0, 0x20, 0)
    header += struct.pack("<HBBIIII", 0x20B, 0, 0, 0, 0, 0, entry).ljust(0x20, b"\0")
    for name, at, content, flags in ((b".text", CODE_AT, code, 0x60000020), (b".data", DATA_AT, data, 0xC0000040)):
        header += struct.pack("<8sIIIIIIHHI", name, len(content), at, len(content), at, 0, 0, 0, 0, flags)
    return header.ljust(CODE_AT, b"\0") + code.ljust(DATA_AT - CODE_AT, b"\0") + data


def section(kind: int, content: bytes) -> bytes:
    """Return a section of a file."""
    return (len(content) + 4).to_bytes(3, "little") + bytes([kind]) + content


def file(guid: UUID, content: bytes) -> bytes:
    """Return a file of a volume."""
    return guid.bytes_le + b"\0\0\x07\0" + (len(content) + 24).to_bytes(3, "little") + b"\xf8" + content


def volume(*files: bytes) -> bytes:
    """Return a firmware volume."""
    content = b"".join(one.ljust(-(-len(one) // 8) * 8, b"\xff") for one in files)
    header = bytes(16) + bytes(16) + struct.pack("<Q4sIHHHBB", 72 + len(content), b"_FVH", 0, 72, 0, 0, 0, 2)
    return header.ljust(72, b"\0") + content


def firmware(guid: UUID, pe: bytes) -> bytes:
    """Return a firmware whose driver is in a compressed volume, behind a file that is none."""
    inner = section(0x17, volume(file(UUID(int=7), section(0x15, b"x\0")), file(guid, section(0x10, pe))))
    packed = lzma.compress(inner, lzma.FORMAT_ALONE)
    guided = section(0x02, LZMA_GUID.bytes_le + struct.pack("<HH", 24, 1) + packed)
    return bytes(0x100) + volume(file(UUID(int=3), guided))
