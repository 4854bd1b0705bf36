"""The two rings of a queue pair. Base 2.0, 3.3.1 "Memory-based Transport Queue Model", 3.3.1.2? "Queue Usage".

A ring of N slots is empty where head and tail are equal, so it is full with N - 1 entries: N would look empty. Who fills a
submission ring is the driver; the controller tells its head in each completion (SQHD). Who fills a completion ring is the
controller; it tells nothing but the phase tag, which it inverts each time around, so that old entries look old.
"""

from __future__ import annotations

from lab.nvme.completions import Completion
from lab.reference.transport import Memory

SQE_SIZE, CQE_SIZE = 64, 16
PHASE_BYTE = 14
"""Of a completion: bit 0 is the phase tag."""


class Ring:
    """``entries`` slots of ``size`` bytes in DMA memory."""

    def __init__(self, memory: Memory, entries: int, size: int) -> None:
        self.memory, self.entries, self.size = memory, entries, size

    def following(self, slot: int) -> int:
        """The slot after this one."""
        return (slot + 1) % self.entries

    def clear(self) -> None:
        """All slots zero."""
        self.memory.write(0, bytes(self.entries * self.size))


class SubmissionRing(Ring):
    """What the driver fills."""

    def __init__(self, memory: Memory, entries: int) -> None:
        super().__init__(memory, entries, SQE_SIZE)
        self.tail = self.head = 0

    def restart(self) -> None:
        """As new, after a reset."""
        self.tail = self.head = 0
        self.clear()

    @property
    def free(self) -> int:
        """Slots that may be filled now: one always stays empty."""
        return (self.head - self.tail - 1) % self.entries

    def push(self, entry: bytes) -> None:
        """Fills the next slot; the controller does not know before the doorbell is rung. IndexError when the ring is full."""
        if not self.free:
            raise IndexError(f"all {self.entries - 1} usable slots of the submission ring are taken")
        self.memory.write(self.tail * self.size, entry)
        self.tail = self.following(self.tail)

    def fetched(self, sqhd: int) -> bool:
        """Takes the head that a completion tells; False if there is no such slot.

        A completion that was overtaken by another one tells an older head, which changes nothing.
        """
        if sqhd >= self.entries:
            return False
        if (sqhd - self.head) % self.entries <= (self.tail - self.head) % self.entries:
            self.head = sqhd
        return True


class CompletionRing(Ring):
    """What the controller fills."""

    def __init__(self, memory: Memory, entries: int) -> None:
        super().__init__(memory, entries, CQE_SIZE)
        self.head, self.phase = 0, 1

    def restart(self) -> None:
        """As new, after a reset: the slots must not hold the phase tag that the first round will bring."""
        self.head, self.phase = 0, 1
        self.clear()

    def peek(self) -> Completion | None:
        """The next completion, if it is there. The phase tag is read first: until it changes, the rest may be half written."""
        at = self.head * self.size
        if self.memory.read(at + PHASE_BYTE, 1)[0] & 1 != self.phase:
            return None
        return Completion(self.memory.read(at, self.size))

    def advance(self) -> None:
        """The completion was taken; the controller does not know before the doorbell is rung."""
        self.head = self.following(self.head)
        if self.head == 0:
            self.phase ^= 1
