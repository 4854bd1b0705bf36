"""File systems that namespaces can hold: one small image of each kind, with the same files in it; and a disk with two of them.

They were made by mke2fs, mkfs.xfs and mkfs.fat (tests/data/filesystem_images.py). An image is the same everywhere, so that
evidence need not carry it; what a file holds follows from its path.
"""

from __future__ import annotations

import lzma
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final, Literal

from lab.data.filesystems import partitioned

Kind = Literal["ext4", "xfs", "vfat"]
KINDS: tuple[Kind, ...] = ("ext4", "xfs", "vfat")
GPT: Final = "gpt"
"""A disk with a partition table, and in the partitions a FAT32 and an ext2 file system with the same files."""
IMAGES = (*KINDS, *(partition.kind for partition in partitioned.PARTITIONS))
"""All that an image is shipped of."""
FILES: Mapping[str, int] = {
    "HELLO.TXT": 26,
    "BOOT/KERNEL.BIN": 150_000,
    "BOOT/EMPTY.BIN": 0,
    "DATA/PAGE.BIN": 4096,
    "DATA/ODD.BIN": 5001,
    "DATA/DEEP/LAST.BIN": 70_000,
}
"""Path and bytes of each file: none, less than a block, one page, and many blocks with a last one that is not full."""
CHUNK = 1 << 16
"""Bytes: what is zero in whole chunks takes no space on the disk of a scenario."""


def file_bytes(path: str) -> bytes:
    """Return what a file holds: lines that name the file and their place in it. KeyError for an unknown path."""
    size, held = FILES[path], bytearray()
    while len(held) < size:
        held += f"{path} {len(held):08d}\n".encode()
    return bytes(held[:size])


@cache
def image(kind: str) -> bytes:
    """Return the whole image of a file system of this kind."""
    return lzma.decompress((Path(__file__).parent / f"{kind}.img.xz").read_bytes())


@cache
def pieces(kind: str, blocks: int = 0) -> tuple[tuple[int, bytes], ...]:
    """Return (first byte, bytes) of all that is not zero; ``blocks`` of 512 bytes is the size of a disk with partitions."""
    if kind != GPT:
        return tuple(_chunks(image(kind)))
    sizes = partition_sizes()
    found = [(first * partitioned.BLOCK, data) for first, data in partitioned.tables(blocks, sizes)]
    for partition, (first, _) in partitioned.places(sizes).items():
        found += [(first * partitioned.BLOCK + at, data) for at, data in pieces(partition)]
    return tuple(sorted(found))


@cache
def partition_sizes() -> dict[str, int]:
    """Return the bytes of each file system on a disk with partitions."""
    return {partition.kind: len(image(partition.kind)) for partition in partitioned.PARTITIONS}


def held(kind: str, blocks: int, at: int, length: int) -> bytes:
    """Return ``length`` bytes from byte ``at`` on of a disk of so many blocks."""
    found = bytearray(length)
    for first, data in pieces(kind, blocks if kind == GPT else 0):
        begin, end = max(first, at), min(first + len(data), at + length)
        if begin < end:
            found[begin - at : end - at] = data[begin - first : end - first]
    return bytes(found)


def _chunks(data: bytes) -> Iterator[tuple[int, bytes]]:
    for at in range(0, len(data), CHUNK):
        chunk = data[at : at + CHUNK]
        if chunk.count(0) != len(chunk):
            yield at, chunk


@cache
def areas(kind: str, block_size: int = 512, blocks: int = 0) -> tuple[tuple[int, int], ...]:
    """Return (first block, blocks) of what is not zero in an image, in whole chunks; ``blocks`` as for `pieces`."""
    found = list[tuple[int, int]]()
    for at, data in pieces(kind, blocks):
        first, count = at // block_size, len(data) // block_size
        if found and sum(found[-1]) == first:
            found[-1] = (found[-1][0], found[-1][1] + count)
        else:
            found.append((first, count))
    return tuple(found)
