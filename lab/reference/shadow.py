"""Shadow doorbells: tails and heads in memory that the controller looks at. Base 2.0, 5.8 "Doorbell Buffer Config command",
B.5.1 "Shadow Doorbell Buffer Overview".

Two buffers of a page, in which each queue has the place that its doorbells have in BAR0. The driver writes a tail or head to
the one; the controller leaves in the other, the EventIdx, beyond which value it wants the doorbell itself to be rung. Each
side writes its own and then looks at the other's: with a barrier in between, one of both always sees what the other did.
The admin queues keep to their doorbells, as in other drivers.
"""

from __future__ import annotations

from lab.nvme.registers import shadow_offset
from lab.reference.transport import Memory, Transport

ENTRY = 4
"""Bytes of a shadow doorbell, and of an EventIdx."""
INDEXES = 1 << 16


class ShadowDoorbells:
    """One controller's two buffers."""

    def __init__(self, transport: Transport, doorbells: Memory, indexes: Memory, dstrd: int) -> None:
        self._transport, self._dstrd = transport, dstrd
        self.doorbells, self.indexes = doorbells, indexes

    def clear(self) -> None:
        """As for queues that are new."""
        for buffer in (self.doorbells, self.indexes):
            buffer.write(0, bytes(len(buffer)))

    def covers(self, qid: int) -> bool:
        """Has the queue a place in the buffers?"""
        return qid > 0 and self.place(qid, completion=True) + ENTRY <= len(self.doorbells)

    def place(self, qid: int, *, completion: bool) -> int:
        """Where it is."""
        return shadow_offset(qid, completion=completion, dstrd=self._dstrd)

    def must_ring(self, qid: int, *, completion: bool, value: int) -> bool:
        """Writes a tail or head, and tells whether the controller wants the doorbell too. The entries that it tells of must
        be in memory first."""
        at = self.place(qid, completion=completion)
        old = int.from_bytes(self.doorbells.read(at, ENTRY), "little")
        self.doorbells.write(at, value.to_bytes(ENTRY, "little"))
        self._transport.publish()
        index = int.from_bytes(self.indexes.read(at, ENTRY), "little")
        return passes(index, old, value)


def passes(index: int, old: int, new: int) -> bool:
    """Does going from ``old`` to ``new`` lead beyond an EventIdx, so that it is one of the values left behind?

    Base 2.0, B.5.2 computes modulo the ring's size; modulo 16 bits, which all of them have, the same comes out for every size.
    """
    return (new - index - 1) % INDEXES < (new - old) % INDEXES
