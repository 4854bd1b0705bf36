"""The host's memory as a device reaches it: ranges of bus addresses that are backed by buffers, and nothing else."""

from __future__ import annotations

import mmap
import os
from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass

from lab.controller.guarded_mapping import GuardedMapping


class DmaRefusedError(Exception):
    """The device may not reach ``length`` bytes at ``address``: not mapped, or mapped for reading only."""

    def __init__(self, address: int, length: int, why: str = "not mapped") -> None:
        """Name the range in bytes, and the reason."""
        super().__init__(f"{length} bytes at {address:#x}: {why}")
        self.address, self.length, self.why = address, length, why


@dataclass(eq=False)
class Range:
    """Bus addresses ``start`` to ``end`` (exclusive). Memory without a buffer is known and cannot be reached (a ROM)."""

    start: int
    end: int
    view: memoryview | None
    writable: bool


MAX_RANGES = 65535
"""Ranges that may be open: max_dma_maps of the vfio-user protocol, its default."""
NOWHERE = Range(0, 0, None, False)
PAGE_BITS = 12
KNOWN_PAGES = 1 << 16
"""Pages whose ranges are kept for the next access."""


class HostMemory:
    """What the device may reach by DMA. An access may span adjacent ranges; DmaRefusedError names the address otherwise."""

    def __init__(self) -> None:
        """Begin with no range mapped."""
        self._starts: list[int] = []
        self._ranges: dict[int, Range] = {}
        self._known: dict[int, Range] = {}  # by page: where an access hit before
        self._files: dict[tuple[int, int], GuardedMapping] = {}  # whole files by device and inode
        self._own = NOWHERE

    def read(self, address: int, length: int) -> bytes:
        """Return bytes of the host's memory."""
        known = self._known.get(address >> PAGE_BITS, NOWHERE)
        if known.start <= address and address + length <= known.end and known.view is not None:
            at = address - known.start
            return known.view[at : at + length].tobytes()
        return b"".join(self._pieces(address, length, writing=False))

    def write(self, address: int, data: bytes | memoryview) -> None:
        """Write bytes of the host's memory: all of them or none."""
        known, length = self._known.get(address >> PAGE_BITS, NOWHERE), len(data)
        if known.start <= address and address + length <= known.end and known.writable and known.view is not None:
            at = address - known.start
            known.view[at : at + length] = data
            return
        at = 0
        for piece in self._pieces(address, length, writing=True):  # all found before the first is written
            piece[:] = data[at : at + len(piece)]
            at += len(piece)

    def map(self, address: int, view: memoryview | None, length: int, writable: bool = True) -> None:
        """Open ``length`` bytes at ``address``; ValueError if they overlap what is open already, or are none."""
        self._check(address, length)
        self._add(Range(address, address + length, view, writable))

    def map_file(self, address: int, length: int, fd: int, offset: int, writable: bool = True) -> None:
        """Open a part of a file; its descriptor stays the caller's. OSError or ValueError if it cannot be mapped.

        A file is mapped once and as a whole: behind an IOMMU its pages come and go with every command.
        """
        self._check(address, length)
        status = os.fstat(fd)
        if status.st_size < offset + length:
            raise ValueError(f"{length:#x} bytes at {offset:#x} of a file of {status.st_size:#x}")  # it would be a SIGBUS
        whole = self._files.get((status.st_dev, status.st_ino))
        if whole is None or whole.lost or whole.size < status.st_size:
            whole = self._files[status.st_dev, status.st_ino] = GuardedMapping(fd, status.st_size)
        self._add(Range(address, address + length, whole.view[offset : offset + length], writable and whole.writable))

    def unmap(self, address: int, length: int) -> list[tuple[int, int]]:
        """Close every range that lies inside, and return them as (address, length). One that would be cut in two stays."""
        first, last = bisect_left(self._starts, address), bisect_left(self._starts, address + length)
        gone = [start for start in self._starts[first:last] if self._ranges[start].end <= address + length]
        if len(gone) == last - first:
            del self._starts[first:last]
        else:
            kept = set(gone)
            self._starts[first:last] = [start for start in self._starts[first:last] if start not in kept]
        self._known.clear()
        return [(start, self._ranges.pop(start).end - start) for start in gone]

    def clear(self) -> None:
        """Close everything: the host is gone."""
        self.unmap(0, 1 << 64)
        self._files.clear()  # the mappings end with the last view on them

    def place(self, address: int, view: memoryview | None) -> bool:
        """Put memory of the device's own at these addresses, or nowhere; return False where the host has opened some of them.

        The host's own is reached first: that is what the device cannot know when the host opens more later.
        """
        self._known.clear()
        self._own = NOWHERE
        if view is None:
            return True
        end = address + len(view)
        if end > 1 << 64 or any(start < end and address < start + length for start, length in self.ranges):
            return False
        self._own = Range(address, end, view, True)
        return True

    def is_own(self, address: int, length: int) -> tuple[bool, bool]:
        """Return whether any of these bytes is the device's own memory, and whether all are."""
        inside = min(address + length, self._own.end) - max(address, self._own.start)
        return inside > 0, inside == length

    @property
    def lost(self) -> bool:
        """Whether a file was cut off behind its mapping: its bytes are not the host's any more."""
        return any(whole.lost for whole in self._files.values())

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """(address, length) of everything open."""
        return [(start, self._ranges[start].end - start) for start in self._starts]

    def _check(self, start: int, length: int) -> None:
        if len(self._starts) >= MAX_RANGES:
            raise ValueError(f"more than {MAX_RANGES} ranges")
        end = start + length
        if length <= 0 or end > 1 << 64:
            raise ValueError(f"no bytes, or beyond the last address: {length:#x} at {start:#x}")
        index = bisect_right(self._starts, start)
        for neighbour in self._starts[max(0, index - 1) : index + 1]:
            other = self._ranges[neighbour]
            if other.start < end and start < other.end:
                raise ValueError(f"{start:#x}..{end:#x} overlaps {other.start:#x}..{other.end:#x}")

    def _add(self, new: Range) -> None:
        insort(self._starts, new.start)
        self._ranges[new.start] = new

    def _pieces(self, address: int, length: int, *, writing: bool) -> list[memoryview]:
        pieces, at, end = [], address, address + length
        while at < end:
            index = bisect_right(self._starts, at) - 1
            found = self._ranges[self._starts[index]] if index >= 0 else None
            if (found is None or at >= found.end) and self._own.start <= at < self._own.end:
                found = self._own
            if found is None or at >= found.end or found.view is None:
                raise DmaRefusedError(at, end - at)
            if writing and not found.writable:
                raise DmaRefusedError(at, end - at, "mapped for reading only")
            until = min(end, found.end)
            pieces.append(found.view[at - found.start : until - found.start])
            if len(self._known) >= KNOWN_PAGES:
                self._known.clear()
            self._known[at >> PAGE_BITS] = found
            at = until
        return pieces


class LocalMemory(HostMemory):
    """Memory of this process with its own arena of ``size`` bytes from ``base`` on, for a device without a guest.

    With ``strict`` the device reaches only what was opened with `own`, as behind a strict IOMMU.
    """

    def __init__(self, size: int = 64 << 20, base: int = 0x1_0000_0000, *, strict: bool = False) -> None:
        """Make the arena, and open it unless ``strict``."""
        super().__init__()
        self.base, self.size = base, size
        self.arena = memoryview(mmap.mmap(-1, size))
        """The arena as the host sees it, whatever the device may reach."""
        if not strict:
            self.map(base, self.arena, size)

    def own(self, address: int, length: int, writable: bool = True) -> None:
        """Open a part of the arena to the device."""
        at = address - self.base
        self.map(address, self.arena[at : at + length], length, writable)
