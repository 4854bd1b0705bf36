"""The machine code of one driver in a UEFI firmware: its file of the firmware volumes, compressed ones included.

Sources: UEFI Platform Initialization Specification 1.7, volume 3, 3.2 (volumes, files, sections); Microsoft PE Format.
"""

from __future__ import annotations

import lzma
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from lab.errors import LabError

VOLUME_SIGNATURE, VOLUME_SIGNATURE_AT = b"_FVH", 40
FILE_HEADER, LARGE_FILE_HEADER = 24, 32
LARGE = 0x01
"""Of a file's attributes: FFS_ATTRIB_LARGE_FILE, its size is in eight more bytes."""
PAD_FILE = 0xF0
UNUSED_GUID = UUID(int=(1 << 128) - 1)
GUID_DEFINED, PE32, VOLUME_IMAGE = 0x02, 0x10, 0x17
"""Types of sections."""
LZMA_GUID = UUID("ee4e5898-3914-4259-9d6e-dc7bd79403cf")
PROCESSING_REQUIRED = 0x01
MOST_BYTES = 64 << 20
"""Of what a compressed section unpacks to."""
DEEPEST = 8
MACHINES = {0x8664: "x86-64", 0x014C: "x86", 0xAA64: "arm64"}
"""IMAGE_FILE_MACHINE_…: the processors of `lab.coverage.disassembly`."""
CODE = 0x20
"""IMAGE_SCN_CNT_CODE."""


class NoUefiImageError(LabError):
    """The firmware has no such file, or none whose machine code can be read."""


@dataclass(frozen=True)
class UefiImage:
    """One driver: its code as it is in memory, from the beginning of the image; ``entry`` is the offset of its entry point."""

    content: bytes
    processor: str
    code: tuple[tuple[int, int], ...]
    """Beginning and end of each section with code."""
    entry: int


def find_driver(firmware: bytes, guid: UUID) -> UefiImage:
    """Return the driver whose file has this GUID. NoUefiImageError if there is none, or it is damaged."""
    try:
        for name, image in _images(firmware, 0):
            if name == guid:
                return _loaded(image)
    except (struct.error, lzma.LZMAError, IndexError) as error:
        raise NoUefiImageError(f"the firmware's volumes are damaged: {error}") from error
    raise NoUefiImageError(f"no firmware volume holds a driver {guid}")


def _images(content: bytes, depth: int) -> Iterator[tuple[UUID, bytes]]:
    """Yield (GUID of the file, PE image) of all files in all volumes."""
    at = content.find(VOLUME_SIGNATURE)
    while at >= 0:
        begin = at - VOLUME_SIGNATURE_AT
        if begin >= 0:
            length, _, _, header, _, extended = struct.unpack_from("<Q4sIHHH", content, begin + 32)
            if header <= length <= len(content) - begin:
                yield from _files(content[begin : begin + length], header, extended, depth)
                at = begin + length - 1
        at = content.find(VOLUME_SIGNATURE, at + 1)


def _files(volume: bytes, header: int, extended: int, depth: int) -> Iterator[tuple[UUID, bytes]]:
    at = header
    if extended:
        at = extended + int(struct.unpack_from("<I", volume, extended + 16)[0])
    at = -(-at // 8) * 8
    while at + FILE_HEADER <= len(volume):
        guid = UUID(bytes_le=volume[at : at + 16])
        kind, attributes = volume[at + 18], volume[at + 19]
        size = int.from_bytes(volume[at + 20 : at + 23], "little")
        first = FILE_HEADER
        if attributes & LARGE:
            first, size = LARGE_FILE_HEADER, int(struct.unpack_from("<Q", volume, at + FILE_HEADER)[0])
        if guid == UNUSED_GUID or size < first:
            return
        if kind != PAD_FILE:
            yield from _sections(guid, volume[at + first : at + size], depth)
        at = -(-(at + size) // 8) * 8


def _sections(guid: UUID, content: bytes, depth: int) -> Iterator[tuple[UUID, bytes]]:
    at = 0
    while at + 4 <= len(content):
        size, kind, first = int.from_bytes(content[at : at + 3], "little"), content[at + 3], 4
        if size == 0xFFFFFF:
            size, first = int(struct.unpack_from("<I", content, at + 4)[0]), 8
        if size < first:
            return
        body = content[at + first : at + size]
        if kind == PE32:
            yield guid, body
        elif kind == VOLUME_IMAGE and depth < DEEPEST:
            yield from _images(body, depth + 1)
        elif kind == GUID_DEFINED and depth < DEEPEST:
            offset, attributes = struct.unpack_from("<HH", body, 16)
            packed = content[at + offset : at + size]
            if UUID(bytes_le=body[:16]) == LZMA_GUID:
                packed = lzma.LZMADecompressor(lzma.FORMAT_ALONE).decompress(packed, MOST_BYTES)
            elif attributes & PROCESSING_REQUIRED:
                packed = b""  # of another compression
            yield from _sections(guid, packed, depth + 1)
        at = -(-(at + size) // 4) * 4


def _loaded(image: bytes) -> UefiImage:
    """Return a PE image as it is in memory."""
    header = int(struct.unpack_from("<I", image, 0x3C)[0])
    signature, machine, sections, _, _, _, optional, _ = struct.unpack_from("<4sHHIIIHH", image, header)
    if signature != b"PE\0\0" or machine not in MACHINES:
        raise NoUefiImageError(f"the driver is no PE image for a known processor (machine {machine:#x})")
    entry = int(struct.unpack_from("<I", image, header + 24 + 16)[0])
    content = bytearray()
    code = []
    for number in range(sections):
        row = header + 24 + optional + 40 * number
        size, address, raw, offset = struct.unpack_from("<IIII", image, row + 8)
        content.extend(bytes(max(0, min(address + size, MOST_BYTES) - len(content))))
        content[address : address + min(size, raw)] = image[offset : offset + min(size, raw)]
        if struct.unpack_from("<I", image, row + 36)[0] & CODE:
            code.append((address, address + size))
    return UefiImage(bytes(content), MACHINES[machine], tuple(code), entry)
