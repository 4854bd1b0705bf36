"""Submission and completion queues as the controller holds them. Base 2.0, 3.3.1 "Memory-based Transport Queue Model"."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from lab.nvme.completions import Completion

SQE_SIZE = 64
CQE_SIZE = 16
_ENTRY = struct.Struct("<QHHHH")


class Posting(NamedTuple):
    """A completion before it has a slot: its fields, and what a fault makes of it."""

    dw0: int  # and dword 1, where it is longer than 32 bits
    sqhd: int
    sqid: int
    cid: int
    status: int  # SCT << 8 | SC, with M and DNR at bits 13 and 14
    wrong_phase: bool = False
    silent: bool = False  # no interrupt for it
    edits: Mapping[str, int] | None = None  # fields of the entry that a fault sets, by name

    def entry(self, phase: int) -> bytes:
        """Return the 16 bytes with this phase tag."""
        phase ^= self.wrong_phase
        raw = _ENTRY.pack(self.dw0, self.sqhd, self.sqid, self.cid, self.status << 1 | phase)
        return bytes(Completion(raw).but(**self.edits)) if self.edits else raw


class QueueMemory:
    """Where the slots of a queue are: one piece of memory, or (PC=0) the pages of a PRP list."""

    def __init__(self, entries: int, entry_size: int, pages: tuple[int, ...], page_size: int) -> None:
        """Lay ``entries`` slots over ``pages``; a single page stands for contiguous memory that begins there."""
        self.entries = entries
        self._entry_size = entry_size
        self._base = pages[0]
        self._pages = pages if len(pages) > 1 else ()
        self._page_size = page_size

    def pieces(self) -> Iterator[tuple[int, int]]:
        """Return (address, bytes) of all of it, piece by contiguous piece."""
        size = self.entries * self._entry_size
        if not self._pages:
            yield self._base, size
            return
        for index, page in enumerate(self._pages):
            yield page, min(self._page_size, size - index * self._page_size)

    def address(self, slot: int) -> int:
        """Return the bus address of a slot."""
        at = slot * self._entry_size
        if not self._pages:
            return self._base + at
        return self._pages[at // self._page_size] + at % self._page_size


@dataclass(eq=False)
class CompletionQueue:
    """A queue that the controller fills: ``tail`` is its next slot, ``head`` the host's last doorbell value."""

    qid: int
    memory: QueueMemory
    vector: int | None  # None where interrupts are not enabled for it
    head: int = 0
    tail: int = 0
    phase: int = 1
    waiting: deque[Posting] = field(default_factory=deque)
    """Completions for which there was no free slot."""

    @property
    def full(self) -> bool:
        """Whether all slots but one are taken."""
        return (self.tail + 1) % self.memory.entries == self.head

    @property
    def unconsumed(self) -> int:
        """Number of entries posted that the host has not given back."""
        return (self.tail - self.head) % self.memory.entries

    def take_slot(self) -> tuple[int, int]:
        """Return the address and the phase of the next entry and advance the tail. The queue must not be full."""
        address, phase = self.memory.address(self.tail), self.phase
        self.tail += 1
        if self.tail == self.memory.entries:
            self.tail, self.phase = 0, self.phase ^ 1
        return address, phase


@dataclass(eq=False)
class SubmissionQueue:
    """A queue that the controller empties: ``head`` is its next slot, ``tail`` the host's last doorbell value."""

    qid: int
    memory: QueueMemory
    cq: CompletionQueue
    head: int = 0
    tail: int = 0

    @property
    def pending(self) -> int:
        """Number of entries submitted and not fetched."""
        return (self.tail - self.head) % self.memory.entries


class Queues:
    """All queues of one controller, by id, and whose turn it is: round robin over the submission queues."""

    def __init__(self) -> None:
        """Begin with no queue, as after a reset."""
        self.submission: dict[int, SubmissionQueue] = {}
        self.completion: dict[int, CompletionQueue] = {}
        self._turns: deque[SubmissionQueue] = deque()

    def clear(self) -> None:
        """Delete every queue."""
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
        """Return the ids of the submission queues that complete to ``cq``."""
        return [sq.qid for sq in self.submission.values() if sq.cq is cq]

    def schedule(self, sq: SubmissionQueue) -> None:
        """Give ``sq``, which has entries to fetch, its turn."""
        if sq not in self._turns:
            self._turns.append(sq)

    def delete(self, sq: SubmissionQueue) -> None:
        """Delete a submission queue and its turn."""
        del self.submission[sq.qid]
        if sq in self._turns:
            self._turns.remove(sq)

    def turns(self) -> Iterator[SubmissionQueue]:
        """Yield the next queue with an entry to fetch until there is none; skip queues whose completion queue has no room."""
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
