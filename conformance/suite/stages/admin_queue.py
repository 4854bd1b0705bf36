"""Stage 2, admin-queue: bring the controller up. Base 2.0, 3.5.1 and 3.1.3.5."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf

from conformance.record.record import Record
from conformance.record.state import BUS_MASTER, CompletionQueue, State, command_written
from conformance.record.words import listed
from conformance.suite.check import MANDATORY, RECOMMENDED, Finding, check
from conformance.suite.citations import BASE_2_0, NVM_1_0, PCIE_1_0, PRACTICE
from conformance.suite.scenario import LOAD, Draw, Plan, do, scenario
from lab.data.events import (
    Completed,
    ConfigWrite,
    Doorbell,
    Event,
    FaultInjected,
    Interrupt,
    MemoryRead,
    RegisterRead,
    RegisterWrite,
    Remark,
    Reset,
    Submitted,
)
from lab.data.plan import Fault
from lab.nvme.commands import Abort, AsyncEventRequest, Command, CreateIoCq, CreateIoSq, Read, Write
from lab.nvme.registers import ACQ, AQA, ASQ, CC, CSTS, INTMC, INTMS, doorbell_at


@scenario("admin-queue/basic", "the controller comes up and is ready")
def basic(draw: Draw) -> Plan:
    return Plan(draw.device(), [LOAD, do("ready")])


@scenario("admin-queue/again", "the driver leaves the controller and takes it again")
def again(draw: Draw) -> Plan:
    return Plan(draw.device(), [LOAD, do("unload"), LOAD, do("ready")])


@scenario("admin-queue/wraps", "more admin commands than three times the ring holds", watch_memory=True)
def wraps(draw: Draw) -> Plan:
    return Plan(draw.device(), [LOAD, *[do("rescan")] * 40, do("list")])


@scenario("admin-queue/large-pages", "the smallest page that the controller takes is 8 KiB", hostile=True)
def large_pages(draw: Draw) -> Plan:
    return Plan(draw.device(cap={"MPSMIN": 1}), [LOAD, do("ready"), do("read", nsid=1, lba=draw.between(0, 900), blocks=40)])


@scenario("admin-queue/never-ready", "CSTS.RDY never becomes 1", hostile=True)
def never_ready(draw: Draw) -> Plan:
    return Plan(draw.device(cap={"TO": 2}), [LOAD, do("ready")], [Fault(name="dead", behaviour="never-ready")])


@scenario("admin-queue/slow-ready", "CSTS.RDY takes its time, well within what CAP.TO allows")
def slow_ready(draw: Draw) -> Plan:
    slow = Fault(name="slow", behaviour="slow-ready", arguments={"ms": draw.between(600, 800)})
    return Plan(draw.device(cap={"TO": 12}), [LOAD, do("ready")], [slow])  # emulated clocks may run three times too fast


@scenario("admin-queue/late-ready", "CSTS.RDY needs nine tenths of the time that CAP.TO allows", in_process=True)
def late_ready(draw: Draw) -> Plan:
    """In this process time is the device's own; a guest under emulation may count it three times too fast."""
    late = Fault(name="late", behaviour="slow-ready", arguments={"ms": 5400})
    return Plan(draw.device(cap={"TO": 12}), [LOAD, do("ready")], [late])


@scenario("admin-queue/slow-disable", "CSTS.RDY stays 1 for a while after CC.EN=0, well within what CAP.TO allows")
def slow_disable(draw: Draw) -> Plan:
    slow = Fault(name="slow", behaviour="slow-disable", arguments={"ms": draw.between(400, 600)})
    return Plan(draw.device(cap={"TO": 12}), [LOAD, do("reset"), do("unload"), LOAD, do("ready")], [slow])


@scenario("admin-queue/slow-abort", "Abort takes its time", in_process=True)
def slow_abort(draw: Draw) -> Plan:
    slow = Fault(name="slow", behaviour="delay", queue="admin", opcode=Abort.OPCODE, arguments={"ms": 20})
    return Plan(draw.device(), [LOAD, do("ready")], [slow])


@scenario("admin-queue/fatal", "enabling ends in CSTS.CFS=1", hostile=True)
def fatal(draw: Draw) -> Plan:
    return Plan(draw.device(cap={"TO": 2}), [LOAD, do("ready")], [Fault(name="fatal", behaviour="fatal-at-enable")])


@scenario("admin-queue/high-status", "a Read ends with status 80h, which 7 bits would make a success", hostile=True)
def high_status(draw: Draw) -> Plan:
    lba = draw.between(100, 900)
    wrong = Fault(name="range", behaviour="status", queue="io", opcode=Read.OPCODE, lba=lba, arguments={"sc": 0x80, "dnr": 1})
    return Plan(draw.device(), [LOAD, do("read", nsid=1, lba=lba, blocks=1)], [wrong])


def enables(record: Record) -> Iterator[tuple[State, RegisterWrite, CC]]:
    """Every write that takes CC.EN from 0 to 1, with the value written; not a shutdown of what somebody else has enabled."""
    for state, event in record.walk(RegisterWrite):
        if event.offset == CC.OFFSET and not state.enabled and CC(event.value).EN and not CC(event.value).SHN:
            yield state, event, CC(event.value)


@check("admin-queue/bus-master", cite=PCIE_1_0["3.8.1.2"], level=MANDATORY, why="integrity", witnesses=["wire"])
def bus_master(record: Record) -> Iterator[Finding]:
    """Sets Memory Space Enable and Bus Master Enable before a doorbell makes the controller reach for memory."""
    judged = set[tuple[str, int, int | None]]()  # controllers, epochs and what the Command register was
    faults = {fault.name for fault in record.scenario.faults if fault.behaviour == "bus-master-off"}
    lost = set[str]()  # controllers that have lost the bit without the host's doing, until the host sets it again
    for state, event in record.walk(Doorbell, FaultInjected, ConfigWrite):
        if isinstance(event, FaultInjected) and event.fault in faults:
            lost.add(state.spec.id)
        elif isinstance(event, ConfigWrite) and (command_written(event) or 0) & BUS_MASTER:
            lost.discard(state.spec.id)
        if not isinstance(event, Doorbell) or state.spec.id in lost:
            continue
        where = state.spec.id, state.epoch, state.pci_command
        failed = state.csts is not None and state.csts.CFS  # then nothing is fetched, and the driver has read so
        if state.pci_command is not None and state.enabled and not failed and where not in judged:
            judged.add(where)
            shown = f"Command register {state.pci_command:#06x}"
            yield Finding(state.pci_command & 6 == 6, event, "MSE and BME set when a doorbell is rung", shown)


@check("admin-queue/both-halves", cite=BASE_2_0["3.1.3.9"], level=MANDATORY, why="integrity", witnesses=["wire"])
def both_halves(record: Record) -> Iterator[Finding]:
    """Writes both halves of ASQ and of ACQ."""
    halves = {ASQ.OFFSET, ASQ.OFFSET + 4, ACQ.OFFSET, ACQ.OFFSET + 4}
    for state, event, _ in enables(record):
        missing = sorted(f"{offset:#x}" for offset in halves - state.written)
        yield Finding(not missing, event, "28h, 2Ch, 30h and 34h written", f"not written: {listed(missing)}")


@check("admin-queue/disable-first", cite=BASE_2_0["3.5.1"], level=MANDATORY, why="shall", witnesses=["wire"])
def disable_first(record: Record) -> Iterator[Finding]:
    """Has EN=0 whenever it programs AQA, ASQ and ACQ."""
    for state, event in record.walk(RegisterWrite):
        if AQA.OFFSET <= event.offset < ACQ.OFFSET + 8:
            yield Finding(not state.enabled, event, "EN=0", f"EN={state.cc.EN}")


@check("admin-queue/stopped-first", cite=BASE_2_0["3.5.1"], level=RECOMMENDED, why="should", witnesses=["wire"])
def stopped_first(record: Record) -> Iterator[Finding]:
    """Has seen RDY=0 before it programs AQA, ASQ and ACQ of a controller that it has disabled."""
    for state, event in record.walk(RegisterWrite):
        if AQA.OFFSET <= event.offset < ACQ.OFFSET + 8 and state.epoch and not state.enabled:
            yield Finding(not state.stopping, event, "RDY=0 seen since EN=0", "EN=0 written, RDY=0 not seen yet")


def not_ready(record: Record) -> Iterator[Finding]:
    """Judge whether the driver claims no more than it can: that a controller which never came up is not ready."""
    for asked in record.answers("ready"):
        claimed = asked.ok and bool(asked.answer.get("ready"))
        yield Finding(not claimed, asked.ended, "not ready", asked.answer.get("ready", asked.status))


READY_SLACK = 3.0
"""Seconds that a driver may wait beyond CAP.TO: guests are emulated, and some round TO up."""
READY_STRETCH = 4
"""How many times CAP.TO longer it may be by our clock. A driver that waits a millisecond at a time, and counts them, takes
longer where its guest is emulated beside others: EDK2 2025.02 looks 1001 times in a second, as 2022.11 does, and needs 4.7."""


@check(
    "admin-queue/ready-claim",
    cite=PRACTICE,
    level=MANDATORY,
    why="safety",
    witnesses=["fault", "out"],
    scenarios=["admin-queue/never-ready", "admin-queue/fatal"],
)
def ready_claim(record: Record) -> Iterator[Finding]:
    """Never reports a controller as ready that did not come up."""
    yield from not_ready(record)


@check(
    "admin-queue/ready-wait",
    cite=BASE_2_0["3.5.4"],
    level=RECOMMENDED,
    why="should",
    witnesses=["fault", "wire"],
    scenarios=["admin-queue/slow-ready", "admin-queue/late-ready"],
)
def ready_wait(record: Record) -> Iterator[Finding]:
    """Waits for RDY=1 as long as CAP.TO allows."""
    for asked in record.answers("load"):
        if not asked.ok or any(enables(record)):
            yield Finding(asked.ok, asked.ended, "a driver that waits until RDY=1", asked.status)
    for asked in record.answers("ready"):
        ready = asked.answer.get("ready", asked.ok)
        if not ready:
            yield Finding(False, asked.ended, "ready, once the controller is", "not ready")


@check(
    "admin-queue/ready-bound",
    cite=PRACTICE,
    level=RECOMMENDED,
    why="practice",
    witnesses=["fault", "wire"],
    scenarios=["admin-queue/never-ready", "admin-queue/fatal"],
    timed=True,
)
def ready_bound(record: Record) -> Iterator[Finding]:
    """Gives a controller up that is not ready when CAP.TO is over, or that has failed."""
    for asked in record.answers("load"):
        began, last, wanted, stretched = None, 0.0, 0.0, 0.0
        for state, event in record.during(asked, RegisterRead, RegisterWrite):
            if isinstance(event, RegisterWrite) and event.offset == CC.OFFSET:
                began, wanted = (event.t, state.cap.TO / 2 if state.cap else 0.0) if CC(event.value).EN else (None, 0.0)
            elif began is not None and isinstance(event, RegisterRead) and event.offset == CSTS.OFFSET:
                last, stretched = max(last, event.t - began - wanted), max(stretched, READY_STRETCH * wanted)
        if not any(record.during(asked, RegisterWrite)):
            continue
        shown = f"{asked.said}; last look {last:+.1f} s from the end of CAP.TO"
        ended = asked.status != "timeout" and last <= READY_SLACK + stretched
        yield Finding(ended, asked.ended, "an end of the wait when CAP.TO is over", shown)


@check(
    "admin-queue/match-completion",
    cite=BASE_2_0["3.3.3.2"],
    level=MANDATORY,
    why="integrity",
    witnesses=["fault"],
    needs=["read"],
    scenarios=["admin-queue/high-status", "admin-queue/type-only"],
)
def match_completion(record: Record) -> Iterator[Finding]:
    """Keeps the whole status of a completion, its type too: one of 80h, whose low 7 bits are 0, is an error."""
    for asked in record.answers("read"):
        yield Finding(not asked.ok, asked.ended, "an error", asked.status)


@check("admin-queue/aqa", cite=BASE_2_0["3.1.3.8"], level=MANDATORY, why="shall", witnesses=["wire"])
def aqa(record: Record) -> Iterator[Finding]:
    """Programs AQA with sizes of at least 2 entries, 0's based."""
    for state, event, _ in enables(record):
        ok = AQA.OFFSET in state.written and state.aqa.ASQS >= 1 and state.aqa.ACQS >= 1
        shown = f"ASQS {state.aqa.ASQS}, ACQS {state.aqa.ACQS}" if AQA.OFFSET in state.written else "AQA never written"
        yield Finding(ok, event, "ASQS and ACQS at least 1", shown)


@check("admin-queue/aligned", cite=BASE_2_0["3.1.3.9"], level=MANDATORY, why="shall", witnesses=["wire"])
def aligned(record: Record) -> Iterator[Finding]:
    """Gives page-aligned ASQ and ACQ."""
    for state, event, cc in enables(record):
        page = 4096 << cc.MPS
        ok = int(state.asq) % page == 0 and int(state.acq) % page == 0
        yield Finding(ok, event, f"multiples of {page:#x}", f"ASQ {int(state.asq):#x}, ACQ {int(state.acq):#x}")


@check("admin-queue/entry-sizes", cite=BASE_2_0["3.1.3.5"], level=MANDATORY, why="shall", witnesses=["wire"])
def entry_sizes(record: Record) -> Iterator[Finding]:
    """Sets IOSQES=6 and IOCQES=4 before it creates I/O queues."""
    for state, event, _ in record.commands(CreateIoCq, CreateIoSq):
        ok = state.cc.IOSQES == 6 and state.cc.IOCQES == 4
        yield Finding(ok, event, "IOSQES=6, IOCQES=4", state.cc, fields=("OPC",))


@check("admin-queue/page-size", cite=BASE_2_0["3.1.3.5"], level=MANDATORY, why="shall", witnesses=["wire"])
def page_size(record: Record) -> Iterator[Finding]:
    """Sets MPS within MPSMIN..MPSMAX."""
    for state, event, cc in enables(record):
        if state.cap is not None:
            ok = state.cap.MPSMIN <= cc.MPS <= state.cap.MPSMAX
            yield Finding(ok, event, f"{state.cap.MPSMIN} to {state.cap.MPSMAX}", f"MPS={cc.MPS}")


@check("admin-queue/cc-valid", cite=BASE_2_0["3.1.3.5"], level=MANDATORY, why="shall", witnesses=["wire"])
def cc_valid(record: Record) -> Iterator[Finding]:
    """Sets CSS and AMS to supported values when it enables the controller.

    That CSS is 111b for a controller without I/O command sets is only recommended: admin-queue/all-command-sets.
    """
    for state, event, cc in enables(record):
        if state.cap is not None:
            css = {0: state.cap.CSS & 0x81, 6: state.cap.CSS & 0x40, 7: state.cap.CSS & 0x80}.get(cc.CSS, 0)
            ams = {0: 1, 1: state.cap.AMS & 1, 7: state.cap.AMS & 2}.get(cc.AMS, 0)
            allowed = f"what CAP.CSS {state.cap.CSS:#04x} and CAP.AMS {state.cap.AMS:02b}b allow"
            yield Finding(bool(css and ams), event, allowed, f"CSS {cc.CSS:03b}b, AMS {cc.AMS:03b}b")


def begins_shutdown(old: CC, new: CC) -> bool:
    """Return whether a write of CC notifies of a shutdown: it may modify other fields with it. Base 2.0, 3.1.3.5, SHN."""
    return new.SHN in NOTIFICATIONS and new.SHN != old.SHN


NOTIFICATIONS = (0b01, 0b10)
"""SHN: a normal and an abrupt shutdown."""


@check("admin-queue/cc-frozen", cite=BASE_2_0["3.1.3.5"], level=MANDATORY, why="shall", witnesses=["wire"])
def cc_frozen(record: Record) -> Iterator[Finding]:
    """Changes neither CSS, MPS nor AMS while EN=1.

    IOSQES and IOCQES may be set later, up to the first I/O queue, so they are not judged here. The write that notifies of a
    shutdown may change other fields.
    """
    for state, event in record.walk(RegisterWrite):
        if event.offset == CC.OFFSET and state.enabled:
            old, new = state.cc, CC(event.value)
            same = (old.CSS, old.MPS, old.AMS) == (new.CSS, new.MPS, new.AMS)
            ok = same or not new.EN or begins_shutdown(old, new)
            yield Finding(ok, event, f"CSS, MPS, AMS as in {old}", new)


@check("admin-queue/quiet-until-ready", cite=BASE_2_0["3.1.3.6"], level=RECOMMENDED, why="should", witnesses=["wire"])
def quiet_until_ready(record: Record) -> Iterator[Finding]:
    """Rings no doorbell before it has seen RDY=1 after EN=1."""
    for state, event in record.walk(Doorbell):
        if state.enabled:  # what is rung while EN=0 is reset/no-doorbell's
            seen = "RDY=1 seen" if state.been_ready else "CSTS not read since EN=1" if state.csts is None else "RDY=0 seen"
            yield Finding(state.been_ready, event, "RDY=1 seen since EN=1", seen)  # it may drop later: another matter


@check("admin-queue/submitted-ready", cite=BASE_2_0["3.4"], level=MANDATORY, why="shall", witnesses=["wire"])
def submitted_ready(record: Record) -> Iterator[Finding]:
    """Submits commands only while the controller really is ready, whether it has looked or waited for long enough."""
    seen = set[tuple[str, int]]()  # controllers and epochs in which a command was fetched
    for state, event in record.walk(Remark, Submitted):
        here = state.spec.id, state.epoch
        match event:
            case Remark(name="doorbell-while-not-ready", detail={"ready": False, "fatal": False, "value": value} as rung):
                submits = not rung["completion"] and value & TAIL_BITS
                if state.enabled and not state.been_ready and here not in seen and submits:
                    yield Finding(False, event, "CSTS.RDY=1", f"SQ {rung['qid']} rung while RDY=0")
            case Submitted(sqid=0) if here not in seen:
                seen.add(here)
                yield Finding(True, event, "CSTS.RDY=1", "fetched: it is ready", fields=("OPC",))


@check("admin-queue/doorbell", cite=PCIE_1_0["3.1.2"], level=MANDATORY, why="shall", witnesses=["wire"])
def doorbell(record: Record) -> Iterator[Finding]:
    """Writes doorbells 32 bits wide, at the right stride, of a live queue, with a value inside the ring."""
    for state, event in record.walk(Doorbell):
        if not state.enabled:
            continue
        place = doorbell_at(event.offset, state.cap.DSTRD if state.cap else 0)
        shown = f"{event.size} bytes {event.value:#x} at {event.offset:#x}"
        if place is None:
            yield Finding(False, event, "a multiple of the doorbell stride", shown)
            continue
        name = f"{'CQ' if place[1] else 'SQ'} {place[0]}"
        queue = (state.cqs if place[1] else state.sqs).get(place[0])
        if queue is None:
            yield Finding(False, event, f"{name} created before its doorbell is rung", shown, rests_on=name)
        else:
            ok = event.size == 4 and event.value & TAIL_BITS < queue.size
            yield Finding(ok, event, f"4 bytes below {queue.size} for {name}", shown)


@check("admin-queue/never-full", cite=BASE_2_0["3.3.1"], level=MANDATORY, why="shall", witnesses=["wire"])
def never_full(record: Record) -> Iterator[Finding]:
    """Never fills all N slots of a submission queue: one stays empty, or full could not be distinguished from empty."""
    for state, event in record.walk(Doorbell):
        match event:
            case Doorbell(completion=False, qid=qid) if (sq := state.sqs.get(qid)) and state.rings_all(qid):
                used = (sq.tail - sq.head) % sq.size + (event.value - sq.tail) % sq.size
                yield Finding(used < sq.size, event, f"at most {sq.size - 1} of {sq.size} slots", f"{used} slots")


TAIL_BITS = 0xFFFF
"""Bits of a doorbell that hold the value; the others are reserved."""


def _lag(cq: CompletionQueue) -> int:
    return cq.posted - cq.returned


STILL_SECONDS = 1.0
"""How long nothing happens on the wire where a driver overlooks a completion."""


def queue_ends(record: Record) -> Sequence[tuple[CompletionQueue, Event, bool]]:
    """Every completion queue whose head doorbell says all, and the last event on the wire before it ends.

    It ends at a reset, or with the driver's last answer. The last value shows whether commands wait for room in it. What is
    posted after that, before the machine stops, need not be taken in time.
    """
    return record.once(_queue_ends)


def _queue_ends(record: Record) -> Iterator[tuple[CompletionQueue, Event, bool]]:
    last: dict[int, tuple[CompletionQueue, Event, bool]] = {}
    epoch = -1
    wire: Event | None = None
    seen: tuple[State, Event, Event] | None = None  # a state, its event, and the last one on the wire, not yet in ``last``
    answered = max((asked.ended.t for asked in record.asked if asked.ended), default=inf)
    for state, event in record.walk():
        if event.t > answered:
            break
        if seen and (state.epoch != epoch or not seen[0].cqs.keys() <= state.cqs.keys()):
            _note_queues(last, *seen)  # else its queues are all in this state too
        if state.epoch != epoch:
            yield from last.values()
            last, epoch = {}, state.epoch
        if wire is None or isinstance(event, Submitted | Completed | Doorbell):
            wire = event
        seen = state, event, wire
    if seen:
        _note_queues(last, *seen)
    yield from last.values()


def _note_queues(last: dict[int, tuple[CompletionQueue, Event, bool]], state: State, event: Event, wire: Event) -> None:
    """Note the queues of a state as its event has left them, and whether commands wait for room in them."""
    after = state.after(event)
    for qid, cq in state.cqs.items():
        if state.rings_all(qid):
            users = [sq for sq in state.sqs.values() if sq.cqid == qid]
            ended = after.cqs.get(qid, cq) if after.epoch == state.epoch else cq
            last[qid] = ended, wire, any((sq.tail - sq.fetched) % sq.size for sq in users)
        else:
            last.pop(qid, None)


@check("admin-queue/head-doorbell", cite=BASE_2_0["3.3.1"], level=MANDATORY, why="shall", witnesses=["wire"])
def head_doorbell(record: Record) -> Iterator[Finding]:
    """Returns completion slots by the head doorbell before the queue stays full, and never one that was not filled."""
    for state, event in record.walk(Doorbell):
        match event:
            case Doorbell(completion=True, qid=qid) if (cq := state.cqs.get(qid)) and state.rings_all(qid):
                ok = (event.value - cq.head) % cq.size <= _lag(cq)
                advance = (event.value - cq.head) % cq.size
                shown = f"CQ {qid} head {cq.head} → {event.value} returns {advance}"
                yield Finding(ok, event, f"at most the {_lag(cq)} slots that were filled", shown)
    hidden = {fault.name for fault in record.scenario.faults if fault.behaviour == "wrong-phase"}
    unseen = any(event.fault in hidden for event in record.all(FaultInjected))  # entries that no host can see stay there
    for cq, last, starved in queue_ends(record):
        if cq.posted > 1 and not (unseen and cq.qid):
            shown = f"CQ {cq.qid}: {cq.posted} posted, {cq.returned} returned, {cq.size} slots"
            stuck = _lag(cq) >= cq.size - (1 if starved else 0)  # or more is posted than it holds: entries are lost
            yield Finding(not stuck, last, "a completion queue that does not stay full while commands wait", shown)


@check("admin-queue/phase", cite=BASE_2_0["3.3.3.2"], level=MANDATORY, why="integrity", witnesses=["out", "wire"])
def phase(record: Record) -> Iterator[Finding]:
    """Follows the phase tag over three wraps of a completion queue and more."""
    for cq, event, _ in queue_ends(record):
        if cq.posted >= cq.size and cq.returned:
            wrapped = cq.returned >= cq.size - 1  # one that stops in the first round stops for another reason
            stuck = wrapped and _lag(cq) > 0 and not record.was_removed and _overlooks(record, event)
            shown = f"CQ {cq.qid}: {cq.posted} posted, {cq.returned} returned, {cq.size} slots"
            if stuck or _lag(cq) < 0 or cq.posted > 3 * cq.size:
                yield Finding(not stuck and _lag(cq) >= 0, event, "every entry taken once, wrap after wrap", shown)


def _overlooks(record: Record, last: Event) -> bool:
    """Return whether an action was not answered in time although all its commands had been, long before.

    A driver that waits for a command which never completes, or that ends while it is busy, overlooks nothing.
    """
    completed = {id(record.owner(event)) for event in record.all(Completed)}
    for asked in record.asked:
        if asked.status == "timeout" and asked.ended and asked.covers(last) and asked.ended.t - last.t > STILL_SECONDS:
            sent = [event for event in record.all(Submitted) if asked.covers(event)]
            if all(id(event) in completed for event in sent if not isinstance(event.command, AsyncEventRequest)):
                return True
    return False


PHASE_BYTE, CQE_BYTES = 14, 16
"""Where in a completion the phase tag lies. Base 2.0, 3.3.3.2: bit 16 of dword 3."""
ATOMIC = 8
"""An aligned access of so many bytes at most sees all of them at one moment."""


def sees_phase(event: MemoryRead, slot: int) -> bool:
    """Return whether an access reads the phase tag of the entry at ``slot``, and all else at the same moment."""
    size = event.length
    whole = size in (1, 2, 4, ATOMIC) and event.address % size == 0
    return whole and event.address <= slot + PHASE_BYTE < event.address + size


@check("admin-queue/phase-before-body", cite=BASE_2_0["3.3.3.2"], level=MANDATORY, why="integrity", witnesses=["memory"],
       scenarios=["admin-queue/wraps", "multiqueue/shadow"])  # fmt: skip
def phase_before_body(record: Record) -> Iterator[Finding]:
    """Reads the fields of a completion only after it has seen the entry's phase tag turn."""
    new: dict[tuple[int, int], bool] = {}  # (CQ, address of an entry) that was posted: has its phase tag been looked at since?
    for state, event in record.walk(Completed, Reset, MemoryRead):
        match event:
            case Completed(cqid=qid) if (cq := state.cqs.get(qid)) and cq.contiguous:
                new[qid, cq.base + cq.posted % cq.size * CQE_BYTES] = False
            case Reset():
                new.clear()
            case MemoryRead(address=address):
                queue = next((cq for cq in state.cqs.values() if 0 <= address - cq.base < cq.size * CQE_BYTES), None)
                if queue is None or not queue.contiguous:
                    continue
                entry = queue.qid, address - (address - queue.base) % CQE_BYTES
                if sees_phase(event, entry[1]):
                    new |= {entry: True} if entry in new else {}
                else:
                    slot = (entry[1] - queue.base) // CQE_BYTES
                    read = f"CQ {queue.qid}, slot {slot}: {event.length} bytes from byte {address - entry[1]} on read"
                    when = {True: "after", False: "before", None: "where nothing was posted, before"}[new.get(entry)]
                    yield Finding(new.get(entry, False), event, "the phase tag first", f"{read} {when} the phase tag")


@check("admin-queue/unique-cid", cite=BASE_2_0["3.3.3.1"], level=MANDATORY, why="shall", witnesses=["wire"])
def unique_cid(record: Record) -> Iterator[Finding]:
    """Keeps command identifiers unique among the commands in flight on a queue."""
    for state, event, command in record.commands(Command):
        shown = f"CID {command.CID:#x} on SQ {event.sqid}"
        yield Finding(event.key not in state.in_flight, event, "a CID that is not in flight", shown, fields=("CID",))


@check("admin-queue/sqe-clean", cite=BASE_2_0["3.3.3.1"], level=MANDATORY, why="shall", witnesses=["wire"])
def sqe_clean(record: Record) -> Iterator[Finding]:
    """Leaves the reserved fields of a submission queue entry 0."""
    for _, event, command in record.commands(Command):
        stray = [f"byte {offset}: {bits:#04x}" for offset, bits in command.reserved.items()]
        yield Finding(not stray, event, "reserved fields 0", f"reserved bits set: {listed(stray)}")


TAGS = "TAGS_UPPER", "ILBRT", "LBAT", "LBATM"
"""Fields that only protection information gives a meaning; a controller ignores them otherwise."""


@check("read/tags-unused", cite=NVM_1_0["3.2.4"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def tags_unused(record: Record) -> Iterator[Finding]:
    """Leaves protection information tags 0 where the namespace has none: older controllers reserve them."""
    for state, event, command in record.commands(Read, Write):
        namespace = state.spec.namespace(command.NSID)
        if namespace is not None and not namespace.metadata_size:
            stray = [f"{name} {value:#x}" for name in TAGS if (value := getattr(command, name))]
            yield Finding(not stray, event, "unused tags 0", listed(stray), fields=TAGS)


MASK_REMARK = "interrupt-mask-under-msix"
"""The controller's remark about an access to INTMS or INTMC while MSI-X is enabled."""


@check("admin-queue/no-intm-with-msix", cite=BASE_2_0["3.1.3.3"], level=MANDATORY, why="shall", witnesses=["wire"])
def no_intm_with_msix(record: Record) -> Iterator[Finding]:
    """Never touches INTMS or INTMC while MSI-X is in use."""
    masks = INTMS.OFFSET, INTMC.OFFSET
    for state, event in record.walk(RegisterRead, RegisterWrite, Interrupt, Remark):
        match event:
            case Remark(name=name, detail=detail) if name == MASK_REMARK:
                yield Finding(False, event, "no access to INTMS and INTMC", f"{detail.get('register')} accessed under MSI-X")
            case Interrupt(how="msix"):
                yield Finding(True, event, "no access to INTMS and INTMC", "MSI-X in use")
            case RegisterRead() | RegisterWrite() if event.offset in masks and state.interrupts == "msix" and not record.exact:
                yield Finding(False, event, "no access to INTMS and INTMC", f"{event.offset:#x} accessed under MSI-X")
