"""Legal layouts of PRP lists and of queues in memory."""

from __future__ import annotations

from lab.nvme import prp
from lab.nvme.commands import Command, CreateIoCq
from lab.nvme.prp import ENTRY
from lab.reference.controller import Controller
from lab.reference.data import DataPath
from lab.reference.queue_pair import QueuePair
from lab.reference.transport import Memory
from lab.variants.variant import variant

SIZES = ("read/sizes",)
LISTS = 'Base 2.0, 4.1.1 "Physical Region Page Entry and List"'
LAYOUTS = ("read/list-inside-page", "read/list-at-the-end", "read/shared-list-pages", "read/sgl")
"""Variants that all build lists."""


def _needs_list(memory: Memory, offset: int, length: int) -> bool:
    return -(-(offset % memory.page_size + length) // memory.page_size) > 2


@variant(
    "read/list-at-the-end",
    allowed=f"{LISTS}: the first PRP list may begin at any 8-byte aligned offset, the last entry of a page too",
    scenarios=SIZES,
    excludes=LAYOUTS,
)
class ListAtTheEnd(DataPath):
    """Begins each PRP list in the last slot of a page, which so holds nothing but the address of the next list page."""

    def describe(self, command: Command, memory: Memory, offset: int, length: int, lists: list[Memory]) -> Command:
        """Return the command with its list behind a list page of one entry."""
        described = super().describe(command, memory, offset, length, lists)
        if _needs_list(memory, offset, length):
            page = memory.page_size
            head = self._c.transport.allocate(page, page)
            lists.append(head)
            head.write(page - ENTRY, described.PRP2.to_bytes(ENTRY, "little"))
            return described.but(PRP2=head.address + page - ENTRY)
        return described


@variant(
    "read/shared-list-pages",
    allowed=f"{LISTS}: a list is where PRP2 says; nothing says that two lists lie in two pages",
    scenarios=("read/mdts",),
    excludes=LAYOUTS,
)
class SharedListPages(DataPath):
    """Puts the PRP lists of several commands behind each other into one page, as a pool of small blocks does."""

    pool: Memory | None = None
    used = 0

    def describe(self, command: Command, memory: Memory, offset: int, length: int, lists: list[Memory]) -> Command:
        """Return the command with its list behind those of other commands."""
        page = memory.page_size
        pages = -(-(offset % page + length) // page)
        room = (pages - 1) * ENTRY
        if pages <= 2 or room > page // 4:
            return super().describe(command, memory, offset, length, lists)
        if self.pool is None or self.pool not in lists or self.used + room > page:
            self.pool, self.used = self._c.transport.allocate(page, page), 0
            lists.append(self.pool)
        pointers = prp.build(memory.pages[offset // page :], offset % page, length, page, lambda: 0)
        at, self.used = self.used, self.used + room
        self.pool.write(at, pointers.lists[0][1])
        return command.but(PRP1=pointers.prp1, PRP2=self.pool.address + at)


@variant(
    "io-queues/vector-unused",
    allowed='Base 2.0, 5.4 "Create I/O Completion Queue command", IEN: a queue that does not interrupt has no use of IV',
    scenarios=("io-queues/few",),
    settings={"polled_queues": frozenset({1, 2})},
    excludes=("admin-queue/polling", "io-queues/quiet-queues"),
)
class VectorUnused(Controller):
    """Polls its first two I/O queues, and leaves a vector in their IV."""

    def create_cq_command(self, pair: QueuePair) -> CreateIoCq:
        """Return Create I/O CQ, with IV=1 where IEN is 0."""
        command = super().create_cq_command(pair)
        return command if command.IEN else command.but(IV=1)
