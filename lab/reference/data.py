"""Memory for a command's data, and the PRP entries that describe it. Base 2.0, 4.1.1 "Physical Region Page Entry and List"."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lab.nvme import prp
from lab.nvme.commands import Command
from lab.reference.transport import Memory

if TYPE_CHECKING:
    from lab.reference.controller import Controller

DWORD = 4


class DataPath:
    """Buffers, PRP lists and the copying between the caller's bytes and both."""

    build = staticmethod(prp.build)
    """From pages to PRP1, PRP2 and lists; the rules are in `lab.nvme.prp`."""

    def __init__(self, controller: Controller) -> None:
        self._c = controller

    @contextmanager
    def buffer(self, length: int) -> Iterator[Memory]:
        """Zeroed DMA memory while a command needs it. It is only given back while the controller keeps to its commands."""
        memory = self._c.transport.allocate(max(length, 1), self._c.page_size)
        try:
            yield memory
        finally:
            self.release(memory)

    def release(self, memory: Memory) -> None:
        """Frees memory, unless a controller that cannot be stopped may still write to it: then it stays, unused."""
        if self._c.failed is None:
            self._c.transport.free(memory)

    def describable(self, offset: int) -> bool:
        """Whether PRP entries can describe a buffer that begins there: PRP1 is aligned to a dword."""
        return offset % DWORD == 0

    def describe(self, command: Command, memory: Memory, offset: int, length: int, lists: list[Memory]) -> Command:
        """The command with PRPs for ``length`` bytes from ``offset`` of the buffer on; its list pages go to ``lists``."""
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
