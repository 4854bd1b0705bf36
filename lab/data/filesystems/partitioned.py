"""A disk as systems expect one: a GUID partition table, a FAT32 and an ext2 file system in its partitions.

Sources: UEFI 2.10, 5.2.3 (protective MBR), 5.3.2 and 5.3.3 (header and entries). All is for blocks of 512 bytes.
"""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass
from zlib import crc32

BLOCK = 512
HEADER_BYTES, ENTRY_BYTES, ENTRIES = 92, 128, 128
TABLE_BLOCKS = ENTRIES * ENTRY_BYTES // BLOCK
FIRST_BLOCK = 2048
"""Of the first partition, and what partitions are aligned to: 1 MiB."""
FIRST_USABLE = 2 + TABLE_BLOCKS
PROTECTIVE = 0xEE
DISK_GUID = uuid.UUID("4e564d65-4c61-4200-8000-0000000000ff")


@dataclass(frozen=True)
class Partition:
    """One partition, and the file system in it."""

    kind: str
    label: str
    type_guid: uuid.UUID
    guid: uuid.UUID


PARTITIONS = (
    Partition("fat32", "LAB-FAT", uuid.UUID("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7"), uuid.UUID(int=DISK_GUID.int + 1)),
    Partition("ext2", "LAB-EXT", uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4"), uuid.UUID(int=DISK_GUID.int + 2)),
)


def places(sizes: dict[str, int]) -> dict[str, tuple[int, int]]:
    """Return (first block, blocks) of each partition by its kind; ``sizes`` are the bytes of the file systems."""
    found, first = dict[str, tuple[int, int]](), FIRST_BLOCK
    for partition in PARTITIONS:
        blocks = -(-sizes[partition.kind] // BLOCK)
        found[partition.kind] = (first, blocks)
        first = -(-(first + blocks) // FIRST_BLOCK) * FIRST_BLOCK
    return found


def least_blocks(sizes: dict[str, int]) -> int:
    """Return how large a disk must be."""
    return max(first + blocks for first, blocks in places(sizes).values()) + TABLE_BLOCKS + 1


def tables(blocks: int, sizes: dict[str, int]) -> tuple[tuple[int, bytes], ...]:
    """Return (first block, bytes) of the protective MBR and both tables of a disk of so many blocks."""
    entries = b"".join(_entry(partition, *places(sizes)[partition.kind]) for partition in PARTITIONS)
    entries = entries.ljust(ENTRIES * ENTRY_BYTES, b"\0")
    protective = struct.pack("<B3sB3sII", 0, b"\0\2\0", PROTECTIVE, b"\xff\xff\xff", 1, min(blocks - 1, 0xFFFFFFFF))
    mbr = bytes(446) + protective + bytes(48) + b"\x55\xaa"
    last = blocks - 1
    return (
        (0, mbr + _header(1, last, 2, blocks, entries) + entries),
        (last - TABLE_BLOCKS, entries + _header(last, 1, last - TABLE_BLOCKS, blocks, entries)),
    )


def _header(own: int, other: int, table: int, blocks: int, entries: bytes) -> bytes:
    usable = (FIRST_USABLE, blocks - 2 - TABLE_BLOCKS)
    rest = struct.pack("<4Q16sQ3I", own, other, *usable, DISK_GUID.bytes_le, table, ENTRIES, ENTRY_BYTES, crc32(entries))
    head = struct.pack("<8s2I", b"EFI PART", 0x10000, HEADER_BYTES)
    checksum = crc32(head + bytes(8) + rest)
    return (head + struct.pack("<2I", checksum, 0) + rest).ljust(BLOCK, b"\0")


def _entry(partition: Partition, first: int, blocks: int) -> bytes:
    fields = struct.pack("<16s16s3Q", partition.type_guid.bytes_le, partition.guid.bytes_le, first, first + blocks - 1, 0)
    return (fields + partition.label.encode("utf-16-le")).ljust(ENTRY_BYTES, b"\0")
