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
FEW = 8
"""Fewer blocks than these are made one by one."""
RUN, KEPT_RUNS = 64, 128
"""Blocks of the pattern that are made at once, and how many such runs are kept: what makes an image also judges it."""


@lru_cache(KEPT_BLOCKS)
def block(fill: int, nsid: int, lba: int, size: int) -> bytes:
    """Return one logical block of ``size`` bytes; no two of them are alike."""
    return _pattern(fill, nsid, lba, size)


def _pattern(fill: int, nsid: int, lba: int, size: int) -> bytes:
    return hashlib.shake_128(struct.pack("<QIQ", fill, nsid, lba)).digest(size)


def blocks(fill: int, nsid: int, lba: int, count: int, size: int) -> bytes:
    """Return ``count`` blocks from ``lba`` on."""
    return b"".join(block(fill, nsid, lba + i, size) for i in range(count))


@lru_cache(KEPT_RUNS)
def _run(fill: int, nsid: int, number: int, size: int) -> bytes:
    """Return `RUN` blocks, the ``number``-th so many."""
    return b"".join(_pattern(fill, nsid, lba, size) for lba in range(number * RUN, (number + 1) * RUN))


def initial(seed: int, namespace: Namespace, lba: int) -> bytes:
    """Return what block ``lba`` of a fresh namespace holds: pattern inside its areas, zeros outside, and an MBR in block 0.

    Or what the image of its file system holds there.
    """
    return initial_blocks(seed, namespace, lba, 1)


def initial_blocks(seed: int, namespace: Namespace, lba: int, count: int) -> bytes:
    """Return what ``count`` blocks from ``lba`` on of a fresh namespace hold."""
    size = namespace.block_size
    if namespace.filesystem:
        return filesystems.held(namespace.filesystem, namespace.blocks, lba * size, count * size)
    found = bytearray(count * size)
    for area, length in namespace.areas:
        first, last = max(area, lba), min(area + length, lba + count)
        if last - first < FEW:  # many small namespaces have no more
            found[(first - lba) * size : (last - lba) * size] = blocks(seed, namespace.nsid, first, last - first, size)
            continue
        while first < last:
            number, inside = divmod(first, RUN)
            part = _run(seed, namespace.nsid, number, size)[inside * size : min(RUN, inside + last - first) * size]
            found[(first - lba) * size : (first - lba) * size + len(part)] = part
            first += len(part) // size
    if lba == 0 and count and any(area == 0 and length for area, length in namespace.areas):
        found[:size] = mbr(bytes(found[:size]), namespace.blocks)
    return bytes(found)


def mbr(raw: bytes, disk_blocks: int) -> bytes:
    """Return the block with a partition table of one Linux partition from block 64 on, and 55 AA at 510."""
    count = min(max(disk_blocks - 64, 1), 0xFFFFFFFF)
    entry = struct.pack("<B3sB3sII", 0, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff", min(64, disk_blocks - 1), count)
    return raw[:446] + entry + bytes(48) + b"\x55\xaa" + raw[512:]


def areas_of(namespace: Namespace) -> tuple[tuple[int, int], ...]:
    """Return (first block, blocks) of everything that is not zero at the start."""
    kind = namespace.filesystem
    if not kind:
        return namespace.areas
    return filesystems.areas(kind, namespace.block_size, namespace.blocks if kind == filesystems.GPT else 0)


def areas(seed: int, namespace: Namespace) -> Iterator[tuple[int, bytes]]:
    """Yield (byte offset, bytes) of everything that is not zero at the start."""
    for first, count in areas_of(namespace):
        yield first * namespace.block_size, initial_blocks(seed, namespace, first, count)
