"""Memory for a command's data, and the PRP entries that describe it. Base 2.0, 4.1.1 "Physical Region Page Entry and List"."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lab.nvme import prp
from lab.nvme.commands import Command
from lab.reference.core import Core
from lab.reference.transport import Memory

DWORD = 4


class DataPath:
    """Buffers, PRP lists and the copies between the caller's bytes and both."""

    build = staticmethod(prp.build)
    """Makes PRP1, PRP2 and lists of pages; the rules are in `lab.nvme.prp`."""

    def __init__(self, core: Core) -> None:
        """Take the controller whose transport allocates the memory."""
        self._c = core

    @contextmanager
    def buffer(self, length: int) -> Iterator[Memory]:
        """Lend zeroed DMA memory for the time that a command needs it."""
        memory = self._c.transport.allocate(max(length, 1), self._c.page_size)
        try:
            yield memory
        finally:
            self.release(memory)

    def release(self, memory: Memory) -> None:
        """Free memory, unless a controller that cannot be stopped may still write to it: then keep it, unused."""
        if self._c.failed is None:
            self._c.transport.free(memory)

    def can_describe(self, offset: int) -> bool:
        """Return whether PRP entries can describe a buffer that begins there: PRP1 is aligned to a dword."""
        return offset % DWORD == 0

    def describe(self, command: Command, memory: Memory, offset: int, length: int, lists: list[Memory]) -> Command:
        """Return the command with PRPs for ``length`` bytes of the buffer from ``offset``; add its list pages to ``lists``."""
        page = memory.page_size
        first = len(lists)

        def list_page() -> int:
            lists.append(self._c.transport.allocate(page, page))
            return lists[-1].address

        pointers = self.build(memory.pages[offset // page :], offset % page, length, page, list_page)
        by_address = {listed.address: listed for listed in lists[first:]}
        for address, entries in pointers.lists:
            by_address[address].write(0, entries)
        return command.but(PRP1=pointers.prp1, PRP2=pointers.prp2)
