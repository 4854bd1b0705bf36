"""The memory that a host lends to the controller. Base 2.0, 5.27.1.10 "Host Memory Buffer", 8.9.

The controller writes a pattern into it and looks later whether all of it is still there: nothing else may write it.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

from lab.controller.core import Core
from lab.controller.dma import DmaRefusedError
from lab.controller.fetched import CommandStatusError
from lab.nvme.commands import SetFeatures
from lab.nvme.features import HostMemoryBuffer, HostMemoryDescriptor
from lab.nvme.status import Status

MOST_ENTRIES = 256
"""Descriptors that the controller reads; the rest of the memory stays unused."""


@dataclass(frozen=True)
class Lent:
    """What was lent: pages, the list's address and content, its regions (address, bytes), and what they hold."""

    pages: int
    address: int
    entries: bytes
    regions: tuple[tuple[int, int], ...]
    content: bytes


class LentMemory:
    """One controller's host memory buffer."""

    def __init__(self, core: Core) -> None:
        """Begin without memory."""
        self._core = core
        self._lent: Lent | None = None
        self._last: Lent | None = None

    @property
    def enabled(self) -> bool:
        """Whether the controller may use host memory."""
        return self._lent is not None

    def set(self, command: SetFeatures) -> None:
        """Take the memory that Set Features lends, or give it back; CommandStatusError for what cannot be."""
        asked = HostMemoryBuffer(command.CDW11)
        if not asked.EHM:
            self.release()
            return
        if self.enabled:
            raise CommandStatusError(Status.COMMAND_SEQUENCE_ERROR)
        core, address = self._core, command.CDW14 << 32 | command.CDW13 & ~0xF
        if not command.CDW15 or not command.CDW12:
            raise CommandStatusError(Status.INVALID_FIELD)
        size = HostMemoryDescriptor.SIZE
        entries = core.dma_read(address, min(command.CDW15, MOST_ENTRIES) * size)
        listed = [HostMemoryDescriptor(entries[at : at + size]) for at in range(0, len(entries), size)]
        if wrong := [one for one in listed if one.BADD % core.page_size or not one.BSIZE]:
            core.remark("hmb-descriptor", address=wrong[0].BADD, pages=wrong[0].BSIZE)
            raise CommandStatusError(Status.INVALID_FIELD)
        regions = tuple((one.BADD, one.BSIZE * core.page_size) for one in listed)
        if asked.MR:
            found = Lent(command.CDW12, address, entries, regions, self._content(regions))
            self._compare(found)
        else:
            for at, length in regions:
                core.dma_write(at, blake2b(at.to_bytes(8, "little")).digest() * (length // 64))
            found = Lent(command.CDW12, address, entries, regions, self._content(regions))
        self._lent = found
        core.remark("hmb-enabled", pages=command.CDW12, regions=[[address, len(entries)], *map(list, regions)])

    def release(self) -> None:
        """Stop to use the memory, after a look at it."""
        if self._lent is not None:
            self._look(self._lent)
            self._last, self._lent = self._lent, None

    def forget(self) -> None:
        """Return to the state after a reset, by which the memory is the host's again."""
        self.release()

    def _content(self, regions: tuple[tuple[int, int], ...]) -> bytes:
        found = blake2b()
        for address, length in regions:
            found.update(self._core.dma_read(address, length))
        return found.digest()

    def _look(self, lent: Lent) -> None:
        """Remark on memory that somebody else has written; what cannot be reached any more is not judged."""
        try:
            entries = self._core.dma_read(lent.address, len(lent.entries))
            content = self._content(lent.regions)
        except DmaRefusedError:
            return
        if entries != lent.entries:
            self._core.remark("hmb-touched", what="the descriptor list", address=lent.address)
        if content != lent.content:
            self._core.remark("hmb-touched", what="the memory", address=lent.regions[0][0])

    def _compare(self, found: Lent) -> None:
        """Record what is not as it was in memory that the host says to return (MR)."""
        last = self._last
        names = ("pages", "address", "entries", "regions", "content")
        differs = [name for name in names if last is None or getattr(found, name) != getattr(last, name)]
        self._core.remark("hmb-returned", differs=differs)
