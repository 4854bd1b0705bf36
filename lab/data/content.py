"""The bytes of a block: a pure function of a fill number, namespace and LBA, so that any misplaced block betrays itself."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from functools import lru_cache

from lab.data import filesystems
from lab.data.plan import Namespace

KEPT_BLOCKS = 2048
"""Several checks expect the same blocks."""


@lru_cache(KEPT_BLOCKS)
def block(fill: int, nsid: int, lba: int, size: int) -> bytes:
    """Return one logical block of ``size`` bytes; no two of them are alike."""
    return hashlib.shake_128(struct.pack("<QIQ", fill, nsid, lba)).digest(size)


def blocks(fill: int, nsid: int, lba: int, count: int, size: int) -> bytes:
    """Return ``count`` blocks from ``lba`` on."""
    return b"".join(block(fill, nsid, lba + i, size) for i in range(count))


def initial(seed: int, namespace: Namespace, lba: int) -> bytes:
    """Return what block ``lba`` of a fresh namespace holds: pattern inside its areas, zeros outside, and an MBR in block 0.

    Or what the image of its file system holds there.
    """
    if namespace.filesystem:
        at = lba * namespace.block_size
        return filesystems.image(namespace.filesystem)[at : at + namespace.block_size].ljust(namespace.block_size, b"\0")
    inside = any(first <= lba < first + count for first, count in namespace.areas)
    if not inside:
        return bytes(namespace.block_size)
    raw = block(seed, namespace.nsid, lba, namespace.block_size)
    return mbr(raw, namespace.blocks) if lba == 0 else raw


def mbr(raw: bytes, disk_blocks: int) -> bytes:
    """Return the block with a partition table of one Linux partition from block 64 on, and 55 AA at 510."""
    count = min(max(disk_blocks - 64, 1), 0xFFFFFFFF)
    entry = struct.pack("<B3sB3sII", 0, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff", min(64, disk_blocks - 1), count)
    return raw[:446] + entry + bytes(48) + b"\x55\xaa" + raw[512:]


def areas_of(namespace: Namespace) -> tuple[tuple[int, int], ...]:
    """Return (first block, blocks) of everything that is not zero at the start."""
    return filesystems.areas(namespace.filesystem, namespace.block_size) if namespace.filesystem else namespace.areas


def areas(seed: int, namespace: Namespace) -> Iterator[tuple[int, bytes]]:
    """Yield (byte offset, bytes) of everything that is not zero at the start."""
    for first, count in areas_of(namespace):
        data = b"".join(initial(seed, namespace, lba) for lba in range(first, first + count))
        yield first * namespace.block_size, data
