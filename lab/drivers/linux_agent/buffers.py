"""Open files, and page-aligned memory for direct I/O (O_DIRECT)."""

import ctypes
import mmap
import os
from contextlib import suppress
from pathlib import Path

PAGE, HUGE_PAGE = 4096, 1 << 21
SPARE_BYTES = 1 << 14
spare: list[mmap.mmap] = []
"""Buffers of at least so many bytes that are free, also for the kernel: one whose command hangs does not come back here."""


class OpenFile:
    """A file descriptor while it is entered.

    It is a class because each end of a generator is an exception, whose code a fork would have to translate first.
    """

    def __init__(self, path: str | Path, flags: int) -> None:
        """Open the file with ``flags`` of open(2). OSError."""
        self._descriptor = os.open(path, flags)

    def __enter__(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        """Close the descriptor."""
        os.close(self._descriptor)


def new_buffer(length: int) -> mmap.mmap:
    """Return zeroed memory of whole pages, at least ``length`` bytes, which must not be 0."""
    return mmap.mmap(-1, -(-length // PAGE) * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def take_buffer(length: int) -> mmap.mmap:
    """Return a buffer with any content, at least ``length`` bytes. Its user puts it into `spare` after use."""
    return spare.pop() if length <= SPARE_BYTES and spare else new_buffer(max(length, SPARE_BYTES))


def take_huge(length: int) -> tuple[mmap.mmap, int]:
    """Return a buffer, and where in it ``length`` bytes begin that are in huge pages if the kernel has some: few pieces."""
    buffer = new_buffer(length + HUGE_PAGE)
    with suppress(OSError):  # a real-time kernel has none
        buffer.madvise(mmap.MADV_HUGEPAGE)
    return buffer, -ctypes.addressof(ctypes.c_char.from_buffer(buffer)) % HUGE_PAGE
