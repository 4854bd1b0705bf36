"""Stage 4, io-queues: create them, use them, delete them. Base 2.0, 5.4 to 5.7 and 5.27.1.5."""

from __future__ import annotations

from collections.abc import Iterator

from conformance.record.record import Asked, Record
from conformance.record.state import CompletionQueue, State
from conformance.record.words import listed
from conformance.suite.check import MANDATORY, RECOMMENDED, Finding, check
from conformance.suite.citations import BASE_2_0, INTEGRITY, PCIE_1_0, PRACTICE
from conformance.suite.scenario import LOAD, Draw, Plan, do, scenario
from lab.data.events import (
    Completed,
    Dma,
    Doorbell,
    Event,
    Interrupt,
    MemoryRead,
    MemoryWrite,
    RegisterRead,
    RegisterWrite,
    Remark,
    Reset,
    Submitted,
)
from lab.data.plan import Fault
from lab.nvme.commands import CreateIoCq, CreateIoSq, DeleteIoCq, DeleteIoSq, Read
from lab.nvme.registers import CAP, CC, CSTS

CREATES = CreateIoCq | CreateIoSq
CQ_DIRTY = "cq-not-zeroed"
"""The programmable controller's remark about completion memory with a phase tag set."""
UNHANDLED = "interrupt-unhandled"
"""Its remark that the host has not unmasked the vector, or has no handler for it."""
LATE = "interrupt-late"
"""Its remark that the host has taken what was pending until then: PCI Express loses no message of a masked vector."""
VECTOR_BEYOND = "vector-beyond"
"""Its remark on a completion queue that names a vector which there is not, or which the host has not switched on."""
ADMIN_VECTOR = 0
"""Signals for the admin queue since before there were I/O queues, so it says nothing about theirs."""

MANY, MANY_ENTRIES = 160, 128
"""Requests, and the entries of a ring that does not hold them."""
GATHERED = {"ms": 150, "count": 4}
"""When no request has come for so long, which is longer than an emulated driver takes for one, the device ends so few of those
that it has that more are waiting than it makes room for."""


def creations(record: Record) -> Iterator[tuple[State, Submitted, CREATES]]:
    """Every Create I/O Completion or Submission Queue with the state just before it."""
    for state, event, command in record.commands(CreateIoCq, CreateIoSq):
        assert isinstance(command, CREATES)
        yield state, event, command


@scenario("io-queues/basic", "I/O queues are created and carry a command")
def basic(draw: Draw) -> Plan:
    return Plan(draw.device(), [LOAD, do("queues"), do("noop", nsid=1), do("read", nsid=1, lba=draw.between(0, 900), blocks=8)])


@scenario("io-queues/few", "fewer queues granted than a driver may hope for")
def few(draw: Draw) -> Plan:
    return Plan(draw.device(io_queues=1, vectors=2), [LOAD, do("queues"), do("read", nsid=1, lba=1, blocks=8)])


@scenario("io-queues/small", "rings of at most 8 entries, wrapped several times")
def small(draw: Draw) -> Plan:
    device = draw.device(cap={"MQES": 7}, mdts=1)
    return Plan(device, [LOAD, do("queues"), do("read", nsid=1, lba=draw.between(0, 900), blocks=512)])


@scenario("io-queues/smallest", "rings of 2 entries")
def smallest(draw: Draw) -> Plan:
    device = draw.device(cap={"MQES": 1})
    return Plan(device, [LOAD, do("queues"), do("read", nsid=1, lba=draw.between(0, 900), blocks=16)])


@scenario("io-queues/largest", "MQES FFFFh: rings of up to 65536 entries")
def largest(draw: Draw) -> Plan:
    device = draw.device(cap={"MQES": 0xFFFF})
    return Plan(device, [LOAD, do("queues"), do("read", nsid=1, lba=draw.between(0, 900), blocks=16)])


@scenario("io-queues/backlog", "rings of at most 8 entries before a medium so slow that a driver comes to fill them")
def backlog(draw: Draw) -> Plan:
    device = draw.device(cap={"MQES": 7}, mdts=1)
    slow = Fault(name="slow", behaviour="delay", queue="io", opcode=Read.OPCODE, arguments={"ms": 5})
    return Plan(device, [LOAD, do("read", nsid=1, lba=draw.between(0, 900), blocks=256)], [slow])


@scenario("io-queues/waiting", f"{MANY} reads that their caller begins without waiting, more than the only queue takes at once")
def waiting_requests(draw: Draw) -> Plan:
    device = draw.device(cap={"MQES": MANY_ENTRIES - 1}, io_queues=1, vectors=2)
    slow = Fault(name="slow", behaviour="gather", queue="io", opcode=Read.OPCODE, arguments=GATHERED)
    submitted = do("submit", nsid=1, lba=8 * draw.between(1, 30), blocks=MANY * 8, each=8)
    return Plan(device, [LOAD, submitted, do("collect")], [slow])


@scenario("io-queues/no-queue", "every Create I/O Submission Queue fails", hostile=True)
def no_queue(draw: Draw) -> Plan:
    refused = Fault(name="refused", behaviour="status", queue="admin", opcode=CreateIoSq.OPCODE, arguments={"sc": 6, "dnr": 1})
    return Plan(draw.device(), [LOAD, do("unload")], [refused])


@check("io-queues/number-of-queues", cite=BASE_2_0["3.5.1"], level=RECOMMENDED, why="should", witnesses=["wire"])
def number_of_queues(record: Record) -> Iterator[Finding]:
    """Negotiates Number of Queues before it creates any."""
    for state, event, command in creations(record):
        shown = "negotiated" if state.granted else f"queue {command.QID} is created before"
        yield Finding(state.granted is not None, event, "Number of Queues (feature 07h) set first", shown, fields=("OPC",))


@check("io-queues/grant", cite=BASE_2_0["5.5"], level=MANDATORY, why="shall", witnesses=["wire"])
def grant(record: Record) -> Iterator[Finding]:
    """Creates no queue id beyond what Number of Queues has granted."""
    for state, event, command in creations(record):
        if state.granted is not None:
            most = state.granted[isinstance(command, CreateIoCq)]
            yield Finding(command.QID <= most, event, f"a queue id of at most {most}", f"{command.QID}", fields=("QID",))


@check("io-queues/order", cite=BASE_2_0["5.5"], level=MANDATORY, why="shall", witnesses=["wire"])
def order(record: Record) -> Iterator[Finding]:
    """Creates a completion queue before the submission queues that use it."""
    for state, event, command in record.commands(CreateIoSq):
        there = command.CQID in state.cqs
        shown = "it is there" if there else "no such queue"
        yield Finding(there, event, f"CQ {command.CQID} created first", shown, ("CQID",), f"CQ {command.CQID}")


@check("io-queues/size", cite=BASE_2_0["3.1.3.1"], level=MANDATORY, why="shall", witnesses=["wire"])
def size(record: Record) -> Iterator[Finding]:
    """Keeps the size of I/O queues within 2 and MQES+1 entries."""
    for state, event, command in creations(record):
        if state.cap is not None and not state.renewed:  # then reset/new-firmware judges it
            most, entries = state.cap.MQES + 1, command.entries
            yield Finding(2 <= entries <= most, event, f"2 to {most} entries", f"{entries}", fields=("QSIZE",))


@check("io-queues/waiting", cite=PRACTICE, level=RECOMMENDED, why="practice", witnesses=["out", "wire"],
       needs=["submit", "collect"], scenarios=["io-queues/waiting"])  # fmt: skip
def waiting(record: Record) -> Iterator[Finding]:
    """Ends every request that had to wait until a full queue had room again."""
    fullest: tuple[int, Submitted] | None = None
    for state, event in record.walk(Submitted):
        own = [one for one in state.in_flight.values() if one.sqid == event.sqid]
        queue = state.sqs.get(event.sqid)
        if event.sqid and queue is not None and len(own) + 1 >= queue.size - 1:
            fullest = len(own) + 1, event
    if fullest is None:  # nothing had to wait
        return
    begun = 0
    for asked in record.answers("submit", "collect"):
        if asked.action == "submit":
            wanted = int(asked.arguments["blocks"]) // int(asked.arguments["each"])
            if asked.ok:
                begun += wanted
            elif asked.status == "timeout":
                yield Finding(False, asked.ended, f"{wanted} requests begun", asked.said)
            continue
        ended = sum(one.get("status") == "success" for one in asked.all("operations"))
        if begun:
            said = asked.said if asked.ok else f"{asked.said}, {fullest[0]} of them in flight before"
            yield Finding(asked.ok and ended == begun, asked.ended, f"success of {begun} requests", f"{said}: {ended}")


@check("io-queues/wrap", cite=BASE_2_0["3.3.1"], level=MANDATORY, why="integrity", witnesses=["wire"])
def wrap(record: Record) -> Iterator[Finding]:
    """Wraps head and tail of an I/O queue at the size it created."""
    for state, event in record.walk(Doorbell):
        if event.qid > 0:
            queue = (state.cqs if event.completion else state.sqs).get(event.qid)
            if queue is None:
                continue
            last = queue.head if isinstance(queue, CompletionQueue) else queue.tail
            if event.value >= queue.size:
                yield Finding(False, event, f"below {queue.size}", event.value)
            elif event.value < last:
                yield Finding(True, event, f"below {queue.size}", event.value)


@check("io-queues/contiguous", cite=BASE_2_0["5.4"], level=MANDATORY, why="shall", witnesses=["wire"])
def contiguous(record: Record) -> Iterator[Finding]:
    """Sets PC=1 where CAP.CQR requires contiguous queues."""
    for state, event, command in creations(record):
        if state.cap is not None and state.cap.CQR:
            yield Finding(command.PC == 1, event, "PC=1", f"PC={command.PC}", fields=("PC",))


@check("io-queues/aligned", cite=BASE_2_0["5.4"], level=MANDATORY, why="shall", witnesses=["wire"])
def aligned(record: Record) -> Iterator[Finding]:
    """Gives I/O queues a page-aligned base."""
    for state, event, command in creations(record):
        base = command.PRP1
        yield Finding(base % state.page == 0, event, f"a multiple of {state.page:#x}", f"{base:#x}", fields=("PRP1",))


@check("io-queues/unique-qid", cite=BASE_2_0["5.4"], level=MANDATORY, why="shall", witnesses=["wire"])
def unique_qid(record: Record) -> Iterator[Finding]:
    """Creates each queue id once, and never queue 0."""
    for state, event, command in creations(record):
        live = state.cqs if isinstance(command, CreateIoCq) else state.sqs
        ok = command.QID != 0 and command.QID not in live
        yield Finding(ok, event, "a queue id not in use", f"{command.QID}", fields=("QID",))


@check("io-queues/vector", cite=PCIE_1_0["3.2"], level=MANDATORY, why="shall", witnesses=["wire"])
def vector(record: Record) -> Iterator[Finding]:
    """Names an interrupt vector that the controller has: of as many as are switched on under MSI, and 0 where they are
    pin-based."""
    for remark in record.all(Remark):
        if remark.name == VECTOR_BEYOND and (sent := record.owner(remark)) is not None:
            most, shown = remark.detail.get("vectors"), f"vector {remark.detail.get('vector')}"
            yield Finding(False, sent, f"a vector below {most}, the number that is switched on", shown)
    for state, event, command in record.commands(CreateIoCq):
        if command.IEN:
            shown = f"vector {command.IV}"
            if state.spec.vectors:
                most = state.spec.vectors
                yield Finding(command.IV < most, event, f"a vector below {most}", shown, fields=("IV", "IEN"))
            else:
                yield Finding(command.IV == 0, event, "vector 0, as pin-based interrupts have no other", shown, ("IV", "IEN"))


LOOK_SECONDS = 0.2
"""How long a completion whose interrupt was not taken may wait for a driver that polls."""


@check("io-queues/handled-vector", cite=INTEGRITY, level=RECOMMENDED, why="practice", witnesses=["wire"])
def handled_vector(record: Record) -> Iterator[Finding]:
    """Handles a completion queue's vector before its first completion, or polls the queue soon: a request whose completion is
    not taken hangs."""
    expected = f"a handler for the queue's first interrupt, or a look at the queue within {LOOK_SECONDS:g} s"
    waiting = set[tuple[str, int]]()  # controllers and vectors of queues that have not signalled yet
    fired: tuple[str, Interrupt] | None = None
    unhandled: dict[tuple[str, int], Interrupt] = {}
    for state, event in record.walk() if record.exact else ():
        here = state.spec.id
        if fired is not None:  # the remark follows its interrupt at once
            where, first = fired
            if here == where and isinstance(event, Remark) and event.name == UNHANDLED:
                unhandled[where, first.vector] = first
            else:
                yield Finding(True, first, expected, f"vector {first.vector}, handled")
            fired = None
        match event:
            case Completed() if (submitted := state.answered(event)) and event.completion.ok:
                command = submitted.command
                if isinstance(command, CreateIoCq) and command.IEN and command.IV != ADMIN_VECTOR:
                    waiting.add((here, command.IV))
            case Interrupt(how="msix", vector=signalled) if (here, signalled) in waiting:
                waiting.remove((here, signalled))
                fired = here, event
            case Remark(name=name, detail={"vector": int(late)}) if name == LATE and (here, late) in unhandled:
                yield Finding(True, unhandled.pop((here, late)), expected, f"vector {late}, handled once it was unmasked")
            case Doorbell(completion=True, qid=qid) if (cq := state.cqs.get(qid)) and cq.vector is not None:
                if (first_of := unhandled.pop((here, cq.vector), None)) is not None:
                    after = max(event.t - record.driver_since(first_of.t), 0.0)
                    shown = f"vector {cq.vector} not handled, its queue looked at after {after:.2f} s"
                    yield Finding(after <= LOOK_SECONDS, first_of, expected, shown)
            case Reset():
                waiting = {pair for pair in waiting if pair[0] != here}
    for (_, lost), event in unhandled.items():
        answer = next((asked for asked in record.asked if asked.ended and asked.ended.t >= event.t), None)
        if answer is not None and answer.ok:
            continue  # what was taken shows in the answer: heads may be given back later, many at a time
        yield Finding(False, event, expected, f"vector {lost} not handled, its queue never looked at")


@check("io-queues/live-cq", cite=BASE_2_0["5.5"], level=MANDATORY, why="shall", witnesses=["wire"])
def live_cq(record: Record) -> Iterator[Finding]:
    """Names, in Create I/O SQ, an I/O completion queue that exists at that moment."""
    for state, event, command in record.commands(CreateIoSq):
        live = sorted(qid for qid in state.cqs if qid)
        name = f"CQ {command.CQID}"
        yield Finding(command.CQID in live, event, f"one of the live I/O CQs: {listed(live)}", name, ("CQID",), name)


@check("io-queues/no-overlap", cite=INTEGRITY, level=MANDATORY, why="integrity", witnesses=["wire"])
def no_overlap(record: Record) -> Iterator[Finding]:
    """Lays no queue over another live queue or over memory that a command moves data to."""
    for state, event in record.walk(Completed, Dma, RegisterWrite):
        match event:
            case RegisterWrite(offset=CC.OFFSET, value=value) if CC(value).EN and not CC(value).SHN and not state.enabled:
                one = range(int(state.asq), int(state.asq) + (state.aqa.ASQS + 1) * SQE_BYTES)
                two = range(int(state.acq), int(state.acq) + (state.aqa.ACQS + 1) * CQE_BYTES)
                apart = one.stop <= two.start or two.stop <= one.start
                shown = f"ASQ {one.start:#x} to {one.stop:#x}, ACQ {two.start:#x} to {two.stop:#x}"
                yield Finding(apart, event, "admin queues in memory of their own", shown)
            case Completed() if (submitted := state.answered(event)) and event.completion.ok:
                command = submitted.command
                if isinstance(command, CREATES) and command.PC:
                    entry_bytes = 64 if isinstance(command, CreateIoSq) else 16
                    span = range(command.PRP1, command.PRP1 + command.entries * entry_bytes)
                    yield _apart(state, submitted, span, "the new queue", ("PRP1", "QSIZE"))
            case Dma(to_host=True):
                yield _apart(state, event, range(event.address, event.address + event.length), "the data", ())


def _apart(state: State, event: Event, span: range, what: str, fields: tuple[str, ...]) -> Finding:
    over = [
        f"{name} {q.qid}"
        for name, live, entry_bytes in (("SQ", state.sqs, 64), ("CQ", state.cqs, 16))
        for q in live.values()
        if q.contiguous and q.base < span.stop and span.start < q.base + q.size * entry_bytes
    ]
    shown = f"{what} at {span.start:#x} to {span.stop:#x} over {', '.join(over)}" if over else "apart"
    return Finding(not over, event, "memory of no live queue", shown, fields)


@check("io-queues/create-fails", cite=BASE_2_0["5.6"], level=RECOMMENDED, why="practice", witnesses=["wire", "fault"])
def create_fails(record: Record) -> Iterator[Finding]:
    """Deletes only queues that exist, also after a create that failed."""
    for state, event, command in record.commands(DeleteIoSq, DeleteIoCq):
        assert isinstance(command, DeleteIoSq | DeleteIoCq)
        name, live = ("SQ", state.sqs) if isinstance(command, DeleteIoSq) else ("CQ", state.cqs)
        if command.QID:  # the admin queue is io-queues/qid0's
            there = listed(sorted(qid for qid in live if qid))
            shown = f"{name} {command.QID}"
            yield Finding(command.QID in live, event, f"one of the live I/O {name}s: {there}", shown, ("QID",))
    if record.scenario.id == "io-queues/no-queue":
        for asked in record.answers("load") if any(creations(record)) else ():
            yield Finding(asked.status != "timeout", asked.ended, "a driver that ends in good order", asked.status)


@check("admin-queue/cq-zeroed", cite=BASE_2_0["3.3.3.2"], level=MANDATORY, why="shall", witnesses=["wire"])
def admin_cq_zeroed(record: Record) -> Iterator[Finding]:
    """Hands over an admin completion queue whose phase tags are 0 before it sets EN=1."""
    dirty = set[tuple[str, int]]()  # controllers and epochs
    for state, event in record.walk(Remark, RegisterRead) if record.exact else ():
        where = state.spec.id, state.epoch
        match event:
            case Remark(name=name, detail={"cqid": 0, "count": int(count)}) if name == CQ_DIRTY:
                dirty.add(where)
                yield Finding(False, event, "phase tags 0 in every slot", f"set in {count} slots")
            case RegisterRead(offset=CSTS.OFFSET, value=value) if CSTS(value).RDY and state.enabled and not state.been_ready:
                if where not in dirty:
                    yield Finding(True, event, "phase tags 0 in every slot", "0")


@check("io-queues/cq-zeroed", cite=BASE_2_0["3.3.3.2"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def cq_zeroed(record: Record) -> Iterator[Finding]:
    """Hands over I/O completion queues whose phase tags are 0: the sentence speaks of "prior to setting CC.EN", and so of the
    admin queue by the letter, but a tag that is set looks like a new entry in any queue."""
    dirty = set[int]()  # queues that were remarked on while they were being created
    for state, event in record.walk(Remark, Submitted, Completed) if record.exact else ():
        match event:
            case Remark(name=name, detail={"cqid": int(cqid), "count": int(count)}) if name == CQ_DIRTY and cqid:
                dirty.add(cqid)
                yield Finding(False, event, f"phase tags 0 in every slot of CQ {cqid}", f"set in {count} slots")
            case Submitted(command=CreateIoCq(QID=qid)):
                dirty.discard(qid)
            case Completed() if (submitted := state.answered(event)) and event.completion.ok:
                if isinstance(submitted.command, CreateIoCq) and submitted.command.QID not in dirty:
                    yield Finding(True, submitted, "phase tags 0", "0")


@scenario("io-queues/watched", "rings of 8 entries, a slow medium, and an eye on the driver's own memory", watch_memory=True)
def watched(draw: Draw) -> Plan:
    device = draw.device(cap={"MQES": 7}, mdts=1)
    slow = Fault(name="slow", behaviour="delay", queue="io", opcode=Read.OPCODE, arguments={"ms": 5})
    return Plan(device, [LOAD, do("read", nsid=1, lba=draw.between(0, 900), blocks=128)], [slow])


@check("admin-queue/sqe-stable", cite=BASE_2_0["3.3.1"], level=MANDATORY, why="integrity", witnesses=["memory"],
       scenarios=["io-queues/watched", "admin-queue/wraps"])  # fmt: skip
def sqe_stable(record: Record) -> Iterator[Finding]:
    """Leaves an entry whose doorbell was rung as it is until a completion shows that it was consumed (SQHD)."""
    for state, event in record.walk(MemoryWrite):
        for sq in state.sqs.values():
            if not sq.contiguous or not state.rings_all(sq.qid) or not 0 <= event.address - sq.base < sq.size * SQE_BYTES:
                continue
            slot = (event.address - sq.base) // SQE_BYTES
            reported = (slot - sq.head) % sq.size < (sq.tail - sq.head) % sq.size
            shown = f"slot {slot} of SQ {sq.qid} written, head {sq.head}, tail {sq.tail}"
            yield Finding(not reported, event, "a slot whose doorbell was not rung, or that was consumed", shown)


@check("io-queues/cqe-untouched", cite=INTEGRITY, level=MANDATORY, why="integrity", witnesses=["memory"],
       scenarios=["io-queues/watched", "admin-queue/wraps"])  # fmt: skip
def cqe_untouched(record: Record) -> Iterator[Finding]:
    """Writes nothing into a completion that the controller has posted before it has looked at it."""
    unread = set[tuple[int, int]]()  # (CQ, address of the entry)
    for state, event in record.walk(Completed, Reset, MemoryRead, MemoryWrite):
        match event:
            case Completed(cqid=qid) if (cq := state.cqs.get(qid)) and cq.contiguous:
                unread.add((qid, cq.base + cq.posted % cq.size * CQE_BYTES))
            case Reset():
                unread.clear()
            case MemoryRead() | MemoryWrite():
                cq = next((q for q in state.cqs.values() if 0 <= event.address - q.base < q.size * CQE_BYTES), None)
                if cq is None or not cq.contiguous:
                    continue
                entry = cq.qid, event.address - (event.address - cq.base) % CQE_BYTES
                if isinstance(event, MemoryRead):
                    if entry in unread:
                        unread.discard(entry)
                        yield Finding(True, event, "entries read before they are written", "read")
                elif entry in unread:
                    shown = f"slot {(entry[1] - cq.base) // CQE_BYTES} of CQ {cq.qid} overwritten unread"
                    yield Finding(False, event, "entries read before they are written", shown)


SQE_BYTES, CQE_BYTES = 64, 16


@check("io-queues/mqes-min", cite=BASE_2_0["3.1.3.1"], level=RECOMMENDED, why="practice", witnesses=["wire"], needs=["read"])
def mqes_min(record: Record) -> Iterator[Finding]:
    """Works with the smallest queues, MQES=1."""
    yield from _reads_succeed(record, SMALLEST)


@check("io-queues/mqes-max", cite=BASE_2_0["3.1.3.1"], level=RECOMMENDED, why="practice", witnesses=["wire"], needs=["read"])
def mqes_max(record: Record) -> Iterator[Finding]:
    """Works with a controller of MQES=FFFFh, which is 65536 entries and one more than 16 bits hold."""
    yield from _reads_succeed(record, LARGEST)


SMALLEST, LARGEST = 1, 0xFFFF
"""Values of CAP.MQES, which is 0's based."""


def _reads_succeed(record: Record, mqes: int) -> Iterator[Finding]:
    """Judge whether the driver comes up with queues of this size, and whether reads are completed on them."""
    profile = record.only_profile
    if profile is None or profile.cap.MQES != mqes:
        return
    for asked in record.answers("load"):
        if not asked.ok and _knows_queue_size(record, asked):
            yield Finding(False, asked.ended, "a driver that loads with queues of this size", asked.said)
    for asked in record.answers("read"):
        on_io = [e for _, e in record.during(asked, Completed) if e.cqid > 0 and e.completion.ok]
        yield Finding(asked.ok and bool(on_io), asked.ended, "a read completed on an I/O queue", asked.status)


def _knows_queue_size(record: Record, load: Asked) -> bool:
    """Return whether nothing else than the size of queues can be why a driver does not load.

    It has read MQES, and nothing was refused to it.
    """
    read = any(event.offset == CAP.OFFSET for _, event in record.during(load, RegisterRead))
    return read and all(event.completion.ok for _, event in record.during(load, Completed))


@check("io-queues/noop", cite=PRACTICE, level=MANDATORY, why="integrity", witnesses=["wire"], needs=["noop"])
def noop(record: Record) -> Iterator[Finding]:
    """Completes a data-less command on an I/O completion queue, signalled by the vector that it armed for it."""
    for asked in record.answers("noop"):
        found = False
        waiting: tuple[Completed, int] | None = None
        for state, event in record.during(asked, Completed, Interrupt):
            match event:
                case Completed(cqid=cqid) if cqid > 0 and (submitted := state.answered(event)):
                    if submitted.command.transfer:
                        continue
                    found = True
                    armed = state.cqs[cqid].vector if cqid in state.cqs else None
                    yield Finding(event.completion.ok, event, "success", event.completion.text, fields=("SC", "SCT"))
                    waiting = (event, armed) if armed is not None else None
                case Interrupt(how="msix", vector=fired) if waiting:
                    yield Finding(fired == waiting[1], event, f"vector {waiting[1]}", f"vector {fired}")
                    waiting = None
        if not found and asked.ok:
            yield Finding(False, asked.ended, "a completion on an I/O queue", "none, although the driver reports success")
