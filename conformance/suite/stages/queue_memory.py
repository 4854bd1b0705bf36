"""Rules about the memory of queues: who has it, and from when to when. Base 2.0, 3.3.1, 5.4 to 5.7."""

from __future__ import annotations

from collections.abc import Iterator

from conformance.record.record import Record
from conformance.record.state import State
from conformance.suite.check import MANDATORY, RECOMMENDED, Finding, check
from conformance.suite.citations import BASE_2_0, PCIE_1_0
from conformance.suite.stages.admin_queue import sees_phase
from conformance.suite.stages.read import cut_off
from lab.data.events import Completed, DmaMap, Doorbell, MemoryRead, MemoryWrite, RegisterWrite, Reset
from lab.nvme.registers import CC

SQE_BYTES, CQE_BYTES = 64, 16
PAGE = 4096


def rings(state: State) -> list[tuple[str, range]]:
    """Return the name and the memory of each live queue that is contiguous."""
    found = []
    for name, live, entry_bytes in (("SQ", state.sqs, SQE_BYTES), ("CQ", state.cqs, CQE_BYTES)):
        found += [(f"{name} {q.qid}", range(q.base, q.base + q.size * entry_bytes)) for q in live.values() if q.contiguous]
    return found


def _closed(event: DmaMap, spans: list[tuple[str, range]]) -> list[str]:
    """Return the names of the queues whose memory, or some of it, a host takes from the device."""
    return [name for name, span in spans if event.address < span.stop and span.start < event.address + event.length]


@check("io-queues/kept-memory", cite=BASE_2_0["5.7"], level=MANDATORY, why="safety", witnesses=["wire"])
def kept_memory(record: Record) -> Iterator[Finding]:
    """Keeps the memory of a queue as long as the queue lives: the controller may read or write it at any time."""
    for state, event in record.walk(DmaMap) if record.shows_lending else ():
        if event.mapped or not state.enabled or state.shut_complete or cut_off(state):
            continue
        taken = _closed(event, rings(state))
        shown = f"{event.length} bytes at {event.address:#x} closed: {', '.join(taken) or 'no queue'}"
        yield Finding(not taken, event, "memory of no live queue", shown)


@check("reset/rings-kept", cite=BASE_2_0["3.1.3.6"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def rings_kept(record: Record) -> Iterator[Finding]:
    """Keeps the memory of its queues after EN=0 until it has read RDY=0: until then the controller may use it."""
    stopping: dict[str, list[tuple[str, range]]] = {}
    for state, event in record.walk(RegisterWrite, DmaMap, Reset) if record.shows_lending else ():
        here = state.spec.id
        match event:
            case RegisterWrite(offset=CC.OFFSET, value=value) if state.enabled and not CC(value).EN and not state.shut_complete:
                stopping[here] = rings(state)
            case Reset(cause=cause) if cause != "cc-en":
                stopping.pop(here, None)
            case DmaMap(mapped=False) if here in stopping and state.stopping and not cut_off(state):
                taken = _closed(event, stopping[here])
                shown = f"{event.length} bytes at {event.address:#x} closed before: {', '.join(taken) or 'no queue'}"
                yield Finding(not taken, event, "RDY=0 read before the memory of queues is given away", shown)


@check("admin-queue/entry-written", cite=BASE_2_0["3.3.1"], level=MANDATORY, why="integrity", witnesses=["memory"],
       scenarios=["io-queues/watched", "admin-queue/wraps"])  # fmt: skip
def entry_written(record: Record) -> Iterator[Finding]:
    """Announces by a tail doorbell only slots that it has filled: the controller takes what lies there for commands."""
    filled: dict[int, int] = {}  # address of a slot to the length of the write that filled it
    for state, event in record.walk(Doorbell, MemoryWrite):
        if not isinstance(event, Doorbell):
            assert isinstance(event, MemoryWrite)
            first, last = event.address // SQE_BYTES, (event.address + event.length - 1) // SQE_BYTES
            filled.update(dict.fromkeys(range(first, last + 1), event.length))
            continue
        sq = state.sqs.get(event.qid)
        if event.completion or sq is None or not sq.contiguous or not state.rings_all(event.qid) or event.value >= sq.size:
            continue
        cleared = min(PAGE, sq.size * SQE_BYTES)  # as long as what clears a ring: no ring is filled as a whole
        slots = [(sq.tail + number) % sq.size for number in range((event.value - sq.tail) % sq.size)]
        empty = [slot for slot in slots if filled.pop(sq.base // SQE_BYTES + slot, cleared) >= cleared]
        shown = f"SQ {sq.qid}, tail {sq.tail} → {event.value}: " + (f"slot {empty[0]} not filled" if empty else "all filled")
        yield Finding(not empty, event, "an entry in every slot that is announced", shown)


@check("io-queues/taken-first", cite=PCIE_1_0["3.4"], level=MANDATORY, why="integrity", witnesses=["memory"],
       scenarios=["io-queues/watched", "admin-queue/wraps"])  # fmt: skip
def taken_first(record: Record) -> Iterator[Finding]:
    """Reads a completion before it gives its slot back: then the controller may put another one there."""
    returned = set[tuple[int, int]]()  # (CQ, address of an entry) that was given back, and not filled since
    for state, event in record.walk(Completed, Reset, Doorbell, MemoryRead):
        match event:
            case Completed(cqid=qid) if (cq := state.cqs.get(qid)) and cq.contiguous:
                returned.discard((qid, cq.base + cq.posted % cq.size * CQE_BYTES))
            case Reset():
                returned.clear()
            case Doorbell(completion=True, qid=qid, value=head) if (cq := state.cqs.get(qid)) and cq.contiguous:
                slots = range((head - cq.head) % cq.size) if state.rings_all(qid) else ()
                returned.update((qid, cq.base + (cq.head + number) % cq.size * CQE_BYTES) for number in slots)
            case MemoryRead(address=address, length=length):
                cq = next((q for q in state.cqs.values() if 0 <= address - q.base < q.size * CQE_BYTES), None)
                if cq is None or not cq.contiguous or length > CQE_BYTES:
                    continue
                slot = (address - cq.base) // CQE_BYTES
                at = cq.base + slot * CQE_BYTES
                if not sees_phase(event, at):  # where the next one is waited for, the last one was given back
                    ok = (cq.qid, at) not in returned
                    shown = f"slot {slot} of CQ {cq.qid} read, {'before' if ok else 'after'} the head doorbell"
                    yield Finding(ok, event, "an entry read before its slot is given back", shown)
