"""Shadow doorbells: tails and heads in memory that the controller reads.

Base 2.0, 5.8 "Doorbell Buffer Config command", B.5.1 "Shadow Doorbell Buffer Overview".

Two buffers of a page each hold an entry for every doorbell, in the order of BAR0. The driver writes a tail or head to the
first; the controller writes an EventIdx to the second: the value beyond which it wants the doorbell register to be written.
Each side writes its own entry and then reads the other's; with a barrier in between, at least one of them sees the other's
write. The admin queues keep to their doorbells, as in other drivers.
"""

from __future__ import annotations

from lab.nvme.registers import shadow_offset
from lab.reference.transport import Memory, Transport

ENTRY = 4
"""Bytes of a shadow doorbell, and of an EventIdx."""
INDEXES = 1 << 16


class ShadowDoorbells:
    """The two buffers of one controller."""

    def __init__(self, transport: Transport, doorbells: Memory, indexes: Memory, dstrd: int) -> None:
        """Use two buffers of a page each."""
        self._transport, self._dstrd = transport, dstrd
        self.doorbells, self.indexes = doorbells, indexes

    def clear(self) -> None:
        """Zero both buffers, as for new queues."""
        for buffer in (self.doorbells, self.indexes):
            buffer.write(0, bytes(len(buffer)))

    def covers(self, qid: int) -> bool:
        """Return whether the queue has an entry in the buffers."""
        return qid > 0 and self.place(qid, completion=True) + ENTRY <= len(self.doorbells)

    def place(self, qid: int, *, completion: bool) -> int:
        """Return the offset of an entry in bytes."""
        return shadow_offset(qid, completion=completion, dstrd=self._dstrd)

    def must_ring(self, qid: int, *, completion: bool, value: int) -> bool:
        """Write a tail or head; return whether the controller wants the doorbell too. The entries must be in memory first."""
        at = self.place(qid, completion=completion)
        old = int.from_bytes(self.doorbells.read(at, ENTRY), "little")
        self.doorbells.write(at, value.to_bytes(ENTRY, "little"))
        self._transport.publish()
        index = int.from_bytes(self.indexes.read(at, ENTRY), "little")
        return passes(index, old, value)


def passes(index: int, old: int, new: int) -> bool:
    """Return whether going from ``old`` to ``new`` passes an EventIdx.

    Base 2.0, B.5.2 computes modulo the ring's size; modulo 16 bits the result is the same for every size.
    """
    return (new - index - 1) % INDEXES < (new - old) % INDEXES
