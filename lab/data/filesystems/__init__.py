"""File systems that namespaces can hold: one small image of each kind, with the same files in it.

They were made by mke2fs, mkfs.xfs and mkfs.fat (tests/data/filesystem_images.py). An image is the same everywhere, so that
evidence need not carry it; what a file holds follows from its path.
"""

from __future__ import annotations

import lzma
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal

Kind = Literal["ext4", "xfs", "vfat"]
KINDS: tuple[Kind, ...] = ("ext4", "xfs", "vfat")
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
def areas(kind: str, block_size: int = 512) -> tuple[tuple[int, int], ...]:
    """Return (first block, blocks) of what is not zero in an image, in whole chunks."""
    data, found = image(kind), list[tuple[int, int]]()
    for at in range(0, len(data), CHUNK):
        chunk = data[at : at + CHUNK]
        if chunk.count(0) == len(chunk):
            continue
        first, count = at // block_size, len(chunk) // block_size
        if found and sum(found[-1]) == first:
            found[-1] = (found[-1][0], found[-1][1] + count)
        else:
            found.append((first, count))
    return tuple(found)
