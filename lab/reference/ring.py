"""The rings of a queue pair. Base 2.0, 3.3.1 "Memory-based Transport Queue Model (PCIe)".

A ring of N slots is empty where head and tail are equal, so it is full with N - 1 entries: N would look empty. The producer
moves the tail and the consumer the head. The driver produces into a submission ring and consumes from a completion ring; the
controller reports a submission ring's head in each completion (SQHD), and marks new completions by the phase tag alone, which
it inverts each time around, so that old entries look old.
"""

from __future__ import annotations

from lab.nvme.completions import Completion
from lab.reference.transport import Memory

SQE_SIZE, CQE_SIZE = 64, 16
PHASE_BYTE = 14
"""Of a completion: bit 0 is the phase tag."""


class Ring:
    """``entries`` slots of ``size`` bytes in DMA memory, for either side of either kind of queue."""

    def __init__(self, memory: Memory, entries: int, size: int) -> None:
        """Use memory for ``entries`` slots of ``size`` bytes."""
        self.memory, self.entries, self.size = memory, entries, size
        self.head = self.tail = 0
        self.phase = 1
        """The phase tag of the entries of the head's round."""

    def restart(self) -> None:
        """Reset indexes and phase and clear all slots, which must not hold the phase tag that the first round brings."""
        self.head = self.tail = 0
        self.phase = 1
        self.clear()

    def clear(self) -> None:
        """Zero all slots."""
        self.memory.write(0, bytes(self.entries * self.size))

    def following(self, slot: int) -> int:
        """Return the slot after this one."""
        return (slot + 1) % self.entries

    def offset(self, slot: int) -> int:
        """Return where a slot begins in the ring's memory, in bytes."""
        return slot * self.size

    def address(self, slot: int) -> int:
        """Return the bus address of a slot, whose page may lie anywhere."""
        page, inside = divmod(self.offset(slot), self.memory.page_size)
        return self.memory.pages[page] + inside

    @property
    def free(self) -> int:
        """The number of slots that may be filled now: one always stays empty."""
        return (self.head - self.tail - 1) % self.entries

    @property
    def used(self) -> int:
        """The number of slots between head and tail."""
        return (self.tail - self.head) % self.entries

    def push(self, entry: bytes) -> None:
        """Fill the slot at the tail. IndexError when the ring is full.

        The other side does not know before the doorbell is rung, or the phase tag in the entry says it.
        """
        following = self.following(self.tail)
        if following == self.head:
            raise IndexError(f"all {self.entries - 1} usable slots of the ring are taken")
        self.memory.write(self.tail * self.size, entry)
        self.tail = following

    def advance(self) -> None:
        """Take the entry at the head; the other side does not know before the doorbell is rung."""
        self.head = self.following(self.head)
        if self.head == 0:
            self.phase ^= 1


class SubmissionRing(Ring):
    """A ring that the driver fills with commands."""

    def __init__(self, memory: Memory, entries: int) -> None:
        """Use memory for ``entries`` commands."""
        super().__init__(memory, entries, SQE_SIZE)

    def fetched(self, sqhd: int) -> bool:
        """Take the head that a completion reports; return False if there is no such slot.

        A completion that another one has overtaken reports an older head, which changes nothing.
        """
        if sqhd >= self.entries:
            return False
        if (sqhd - self.head) % self.entries <= (self.tail - self.head) % self.entries:
            self.head = sqhd
        return True


class CompletionRing(Ring):
    """A ring that the controller fills with completions."""

    def __init__(self, memory: Memory, entries: int) -> None:
        """Use memory for ``entries`` completions."""
        super().__init__(memory, entries, CQE_SIZE)

    def peek(self) -> Completion | None:
        """Return the completion at the head, or None. Read the phase tag first: the rest may be half written before it."""
        at = self.head * self.size
        if self.memory.read(at + PHASE_BYTE, 1)[0] & 1 != self.phase:
            return None
        return Completion(self.memory.read(at, self.size))
