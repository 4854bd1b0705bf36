"""In which order a driver rings by shadow doorbells, as its accesses to its own memory show. Base 2.0, B.5.1.

For each new tail: the entries, a barrier, the shadow doorbell, a barrier, the EventIdx; and then the doorbell itself if the
tail goes beyond that EventIdx. Without the first barrier the controller may fetch what is not there yet; without the second
both sides may miss what the other one has just written, and the command lies there until somebody rings. Heads the same way,
without entries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from conformance.record.state import CompletionQueue, State, SubmissionQueue
from conformance.record.words import listed
from conformance.suite.check import Finding
from lab.data.events import Barrier, Doorbell, Event, MemoryRead, MemoryWrite, Reset, Submitted
from lab.nvme.commands import DoorbellBufferConfig
from lab.nvme.registers import DOORBELLS, doorbell_at, shadow_offset

ENTRY, SQE_BYTES, CQE_BYTES = 4, 64, 16
INDEXES = 1 << 16
"""Tails, heads and EventIdxs have 16 bits, whatever the size of the ring."""
IN_ORDER = "entries, barrier, shadow doorbell, barrier, EventIdx, and the doorbell where that asks for it"

Key = tuple[int, bool]
"""A queue id, and whether it is the completion queue's."""


@dataclass
class Update:
    """One write of a shadow doorbell, and what the driver did after it."""

    event: MemoryWrite
    key: Key
    old: int
    new: int
    wrong: list[str] = field(default_factory=list)
    fenced: bool = False
    index: int | None = None  # the EventIdx that was read
    rung: bool = False

    @property
    def finding(self) -> Finding:
        """Return whether the update was in order, and what was wrong with it."""
        wrong = list(self.wrong)
        if not self.rung and self.index is None:
            wrong.append("neither was the EventIdx read nor the doorbell rung")
        elif not self.rung and self.index is not None and passes(self.index, self.old, self.new):
            wrong.append(f"the doorbell was not rung, although that goes beyond EventIdx {self.index}")
        queue, pointer = ("CQ", "head") if self.key[1] else ("SQ", "tail")
        shown = f"{queue} {self.key[0]} {pointer} {self.old} → {self.new}: {'; '.join(wrong) or 'in order'}"
        return Finding(not wrong, self.event, IN_ORDER, shown)


def passes(index: int, old: int, new: int) -> bool:
    """Return whether going from ``old`` to ``new`` leads beyond an EventIdx."""
    return (new - index - 1) % INDEXES < (new - old) % INDEXES


class Order:
    """Follows one controller's events. An update is over when the driver touches its ring again, or rings for it anew."""

    def __init__(self) -> None:
        """Begin before the first shadow doorbell."""
        self._forget()

    def _forget(self) -> None:
        self._open: dict[Key, Update] = {}
        self._told: dict[Key, int] = {}  # the shadow doorbells' values
        self._filled: dict[int, set[int]] = {}  # slots of a submission ring that were written without a doorbell
        self._unfenced = set[int]()  # submission rings that were written since the last barrier
        self._buffers: tuple[int, int] | None = None  # what the driver announced, whether the controller took them or not

    def follow(self, state: State, event: Event) -> Iterator[Finding]:
        """Take an event with the state just before it; yield the updates that it ends, and what is wrong on its own."""
        match event:
            case Reset():
                yield from self.end()
                self._forget()
            case Barrier():
                self._unfenced.clear()
                for update in self._open.values():
                    update.fenced = True
            case MemoryRead(address=address):
                if (cq := _ring_at(state.cqs, address, CQE_BYTES)) is not None:
                    yield from self._over((cq.qid, True))
                elif state.shadow and (place := _place(state, address, state.shadow[1])):
                    self._looked(place, event)
            case MemoryWrite(address=address):
                if (sq := _ring_at(state.sqs, address, SQE_BYTES)) is not None:
                    yield from self._over((sq.qid, False))
                    self._fill(sq, event)
                elif self._buffers:
                    yield from self._written(state, event, *self._buffers)
            case Submitted(command=DoorbellBufferConfig() as command):
                self._buffers = command.PRP1, command.PRP2
            case Doorbell(qid=qid, completion=completion, value=value) if state.shadow and _covers(state, qid):
                reported = self._open.get((qid, completion))
                if reported is not None and reported.new == value:
                    reported.rung = True
                else:
                    yield Finding(False, event, IN_ORDER, f"doorbell {value} before its shadow doorbell")

    def end(self) -> Iterator[Finding]:
        """Return the updates that end with the recording."""
        for key in list(self._open):
            yield from self._over(key)

    def _over(self, key: Key) -> Iterator[Finding]:
        if (update := self._open.pop(key, None)) is not None:
            yield update.finding

    def _fill(self, sq: SubmissionQueue, event: MemoryWrite) -> None:
        """Slots of a submission ring were written."""
        at = event.address - sq.base
        slots = range(at // SQE_BYTES, (at + event.length - 1) // SQE_BYTES + 1)
        self._filled.setdefault(sq.qid, set()).update(slots)
        self._unfenced.add(sq.qid)

    def _written(self, state: State, event: MemoryWrite, doorbells: int, indexes: int) -> Iterator[Finding]:
        """Judge a write to the buffers: whether it is a shadow doorbell in its place, at the right time."""
        for buffer, name in ((doorbells, "shadow doorbells"), (indexes, "EventIdxs")):
            if 0 <= event.address - buffer < state.page:
                place = _place(state, event.address, doorbells)
                if place is not None and event.length == ENTRY:
                    yield from self._over(place)
                    if state.shadow:
                        self._open[place] = self._update(state, event, place)
                else:
                    shown = f"{event.length} bytes at {event.address - buffer:#x} of the {name}"
                    yield Finding(False, event, "4 bytes at the place of a live I/O queue among the shadow doorbells", shown)

    def _update(self, state: State, event: MemoryWrite, place: Key) -> Update:
        qid, completion = place
        queue = state.cqs[qid] if completion else state.sqs[qid]
        known = queue.head if isinstance(queue, CompletionQueue) else queue.tail
        update = Update(event, place, self._told.get(place, known), int.from_bytes(event.raw, "little"))
        self._told[place] = update.new
        if update.new >= queue.size:
            update.wrong.append(f"{update.new} is beyond the ring of {queue.size} slots")
        elif not completion:
            filled = self._filled.setdefault(qid, set())
            reported = {(update.old + step) % queue.size for step in range((update.new - update.old) % queue.size)}
            if not reported <= filled:
                update.wrong.append(f"slots {listed(sorted(reported - filled))} were not written yet")
            elif qid in self._unfenced:
                update.wrong.append("no barrier between the entries and the shadow doorbell")
            filled -= reported
        return update

    def _looked(self, place: Key, event: MemoryRead) -> None:
        """Take a read of a queue's EventIdx."""
        update = self._open.get(place)
        if update is not None and update.index is None:
            update.index = int.from_bytes(event.raw, "little")
            if not update.fenced:
                update.wrong.append("no barrier between the shadow doorbell and the EventIdx")


Q = TypeVar("Q", SubmissionQueue, CompletionQueue)


def _ring_at(queues: Mapping[int, Q], address: int, entry_bytes: int) -> Q | None:
    """Return the queue in whose ring an address lies."""
    return next((q for q in queues.values() if q.contiguous and 0 <= address - q.base < q.size * entry_bytes), None)


def _covers(state: State, qid: int) -> bool:
    """Has the queue a place in the buffers? The admin queue's are left out: no driver that is known uses them."""
    return qid > 0 and shadow_offset(qid, completion=True, dstrd=_dstrd(state)) + ENTRY <= state.page


def _place(state: State, address: int, buffer: int) -> Key | None:
    """Return the live I/O queue whose shadow doorbell, or EventIdx, lies at an address of a buffer."""
    if not 0 <= address - buffer < state.page:
        return None
    place = doorbell_at(DOORBELLS + address - buffer, _dstrd(state))
    return place if place and place[0] > 0 and place[0] in (state.cqs if place[1] else state.sqs) else None


def _dstrd(state: State) -> int:
    return state.cap.DSTRD if state.cap else 0
