"""Submission and completion queues as the controller holds them. Base 2.0, 3.3.1 "Memory-based Transport Queue Model"."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.controller.request import Posting

SQE_SIZE = 64
CQE_SIZE = 16


class Ring:
    """Where the slots of a queue are: one piece of memory, or (PC=0) the pages of a PRP list."""

    def __init__(self, entries: int, entry_size: int, pages: tuple[int, ...], page_size: int) -> None:
        """A single page stands for memory that goes on behind it."""
        self.entries = entries
        self._entry_size = entry_size
        self._base = pages[0]
        self._pages = pages if len(pages) > 1 else ()
        self._page_size = page_size

    def pieces(self) -> Iterator[tuple[int, int]]:
        """(address, bytes) of all of it, piece by contiguous piece."""
        size = self.entries * self._entry_size
        if not self._pages:
            yield self._base, size
            return
        for index, page in enumerate(self._pages):
            yield page, min(self._page_size, size - index * self._page_size)

    def address(self, slot: int) -> int:
        """The bus address of a slot."""
        at = slot * self._entry_size
        if not self._pages:
            return self._base + at
        return self._pages[at // self._page_size] + at % self._page_size


@dataclass(eq=False)
class CompletionQueue:
    """A ring that the controller fills: ``tail`` is its next slot, ``head`` what the host has told by doorbell."""

    qid: int
    ring: Ring
    vector: int | None  # None where interrupts are not enabled for it
    head: int = 0
    tail: int = 0
    phase: int = 1
    waiting: deque[Posting] = field(default_factory=deque)
    """Completions for which there was no free slot."""

    @property
    def full(self) -> bool:
        """All slots but one are taken."""
        return (self.tail + 1) % self.ring.entries == self.head

    @property
    def unconsumed(self) -> int:
        """Entries posted that the host has not given back."""
        return (self.tail - self.head) % self.ring.entries

    def take_slot(self) -> tuple[int, int]:
        """The address and the phase of the next entry; the tail moves on. The queue must not be full."""
        address, phase = self.ring.address(self.tail), self.phase
        self.tail += 1
        if self.tail == self.ring.entries:
            self.tail, self.phase = 0, self.phase ^ 1
        return address, phase


@dataclass(eq=False)
class SubmissionQueue:
    """A ring that the controller empties: ``head`` is its next slot, ``tail`` what the host has told by doorbell."""

    qid: int
    ring: Ring
    cq: CompletionQueue
    head: int = 0
    tail: int = 0

    @property
    def pending(self) -> int:
        """Entries that are there and not fetched."""
        return (self.tail - self.head) % self.ring.entries


class Queues:
    """All queues of one controller, by id, and whose turn it is: round robin over the submission queues."""

    def __init__(self) -> None:
        self.submission: dict[int, SubmissionQueue] = {}
        self.completion: dict[int, CompletionQueue] = {}
        self._turns: deque[SubmissionQueue] = deque()

    def clear(self) -> None:
        self.submission.clear()
        self.completion.clear()
        self._turns.clear()

    @property
    def io_exist(self) -> bool:
        """Whether there is any I/O queue."""
        return any(self.submission.keys() | self.completion.keys())

    @property
    def pending(self) -> bool:
        """Whether any submission queue has an entry to fetch, and room for its completion."""
        return any(sq.head != sq.tail and not sq.cq.waiting and not sq.cq.full for sq in self._turns)

    def users(self, cq: CompletionQueue) -> list[int]:
        """The submission queues that complete to ``cq``."""
        return [sq.qid for sq in self.submission.values() if sq.cq is cq]

    def rung(self, sq: SubmissionQueue) -> None:
        """``sq`` has entries to fetch."""
        if sq not in self._turns:
            self._turns.append(sq)

    def delete(self, sq: SubmissionQueue) -> None:
        del self.submission[sq.qid]
        if sq in self._turns:
            self._turns.remove(sq)

    def turns(self) -> Iterator[SubmissionQueue]:
        """The next queue with an entry to fetch, again and again; one whose completion queue has no room waits."""
        blocked = 0
        while blocked < len(self._turns):
            sq = self._turns.popleft()
            if sq.head == sq.tail:
                continue
            self._turns.append(sq)
            if sq.cq.waiting or sq.cq.full:
                blocked += 1
                continue
            blocked = 0
            yield sq
