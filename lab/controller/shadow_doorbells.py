"""Shadow doorbells: I/O queues' tails and heads in host memory instead of registers. Base 2.0, 5.8 "Doorbell Buffer Config".

The host rings a doorbell itself only for what goes beyond the EventIdx that the controller has left for it. So woken, this
controller looks at the shadow doorbells by itself for as long as something is in flight that ends by itself. Before it would
look no more it moves every EventIdx up to what it knows, and looks once more: what the host wrote meanwhile, without having
seen the new EventIdx, is seen now. The admin queues are rung as usual: no host that is known leaves their doorbells out.
"""

from __future__ import annotations

from collections.abc import Iterator

from lab.controller.completer import Completer
from lab.controller.core import Core
from lab.controller.dma import DmaRefusedError
from lab.controller.doorbells import Doorbells
from lab.controller.queues import CompletionQueue, SubmissionQueue
from lab.data.events import EventIndex, ShadowDoorbell
from lab.nvme.registers import shadow_offset

ENTRY = 4
"""Bytes of a shadow doorbell, and of an EventIdx."""
Queue = SubmissionQueue | CompletionQueue


class ShadowDoorbells:
    """One controller's. Nothing here has an effect before `configure`."""

    def __init__(self, core: Core, completer: Completer, doorbells: Doorbells) -> None:
        """Take tails and heads through ``doorbells``."""
        self._core, self._completer, self._doorbells = core, completer, doorbells
        self._dstrd = core.registers.cap.DSTRD
        self.forget()

    def forget(self) -> None:
        """Return to the state after a reset: the host's buffers are its own again."""
        self.active = False
        self._buffer = self._indexes = 0
        self._written: dict[Queue, int] = {}  # each EventIdx as it was written last
        self._seen: dict[Queue, int] = {}  # each shadow doorbell as it was found last

    def configure(self, doorbells: int, indexes: int) -> None:
        """Use these buffers, a page each; DmaRefusedError where they cannot be reached.

        As QEMU's device does, it leaves in them the tails and heads that it knows.
        """
        self.forget()
        self._buffer, self._indexes = doorbells, indexes
        self._look_for_residue(doorbells)
        for queue in self._queues():
            self._put(doorbells, queue, _known(queue))
        self.active = True
        self._write_indexes()

    def _look_for_residue(self, doorbells: int) -> None:
        """Remark on entries of the shadow doorbells that are neither 0 nor what their doorbell holds."""
        known = {self._offset(queue): _known(queue) for queue in self._queues()}
        raw = self._core.dma_read(doorbells, self._core.page_size)
        entries = ((at, int.from_bytes(raw[at : at + ENTRY], "little")) for at in range(0, len(raw), ENTRY))
        stray = [at for at, value in entries if value and value != known.get(at)] if any(raw) else []
        if stray:
            self._core.remark("shadow-residue", count=len(stray), offset=stray[0])

    def serves(self, qid: int) -> bool:
        """Return whether a queue's tail or head is in the shadow doorbells; its register then only says that there is news."""
        return self.active and self._covers(qid)

    def look(self) -> bool:
        """Take what is new in the shadow doorbells; return whether there is anything to fetch.

        Where nothing else will make it look again, it asks for the doorbells and looks once more.
        """
        queues = self._core.queues
        try:
            self._take()
            if not queues.pending and not self._completer.waits_for_timer:
                self._write_indexes()
                self._take()
        except DmaRefusedError as refused:
            self._core.fail(f"a shadow doorbell cannot be reached: {refused}")
        return queues.pending

    def _queues(self) -> Iterator[Queue]:
        """Yield the queues that have a place in the buffers."""
        queues = self._core.queues
        found: list[Queue] = [*queues.submission.values(), *queues.completion.values()]
        for queue in found:
            if self._covers(queue.qid):
                yield queue

    def _covers(self, qid: int) -> bool:
        return qid > 0 and shadow_offset(qid, completion=True, dstrd=self._dstrd) + ENTRY <= self._core.page_size

    def _offset(self, queue: Queue) -> int:
        return shadow_offset(queue.qid, completion=isinstance(queue, CompletionQueue), dstrd=self._dstrd)

    def _put(self, buffer: int, queue: Queue, value: int) -> None:
        self._core.dma_write(buffer + self._offset(queue), value.to_bytes(ENTRY, "little"))

    def _take(self) -> None:
        for queue in self._queues():
            value = int.from_bytes(self._core.dma_read(self._buffer + self._offset(queue), ENTRY), "little")
            if value not in (_known(queue), self._seen.get(queue)):  # one that cannot be is remarked once
                self._seen[queue] = value
                self._record(ShadowDoorbell, queue, value)
                self._doorbells.accept(queue, value, "shadow-doorbell-value")

    def _write_indexes(self) -> None:
        """Ask for the doorbell of whatever goes beyond what is known now."""
        for queue in self._queues():
            if self._written.get(queue) != (value := _known(queue)):
                self._written[queue] = value
                self._record(EventIndex, queue, value)
                self._put(self._indexes, queue, value)

    def _record(self, kind: type[ShadowDoorbell | EventIndex], queue: Queue, value: int) -> None:
        completion = isinstance(queue, CompletionQueue)
        now = self._core.clock.now()
        self._core.record.event(kind(t=now, controller=self._core.spec.id, qid=queue.qid, completion=completion, value=value))


def _known(queue: Queue) -> int:
    """Return the last tail or head of the host."""
    return queue.head if isinstance(queue, CompletionQueue) else queue.tail
