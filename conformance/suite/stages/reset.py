"""Stage 8, reset: errors, and the way back from them. Base 2.0, 3.6, 3.7, 5.1 and 5.2."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from conformance.record.record import Asked, Record
from conformance.record.state import NOT_RESETS, SHST_COMPLETE
from conformance.record.words import listed
from conformance.suite.check import MANDATORY, OPTIONAL, RECOMMENDED, Finding, check
from conformance.suite.citations import BASE_2_0, PCIE_1_0, PRACTICE
from conformance.suite.scenario import LOAD, Draw, Plan, do, scenario
from lab.data.events import (
    Completed,
    DmaMap,
    Doorbell,
    Event,
    FaultInjected,
    Panicked,
    RegisterRead,
    RegisterWrite,
    Reset,
    Submitted,
)
from lab.data.plan import Action, Fault
from lab.nvme.commands import Abort, AsyncEventRequest, CreateIoCq, CreateIoSq, DeleteIoSq, Read
from lab.nvme.registers import CC, CSTS

PATIENCE = 2
"""Seconds that a driver may wait for a command before it does something, where that can be set."""
BLOCKS = 8
"""Of each read: they lie so far apart that one block distinguishes them."""
RELOADS, OFTEN = 12, 50
"""How often a driver goes and comes again in a guest, where each time takes a quarter of a second under emulation, and in this
process. A leak of one a time shows at the second."""
RETRIES = 64
"""More attempts than one command needs."""
LATE = {"ms": 20}
"""So late that a driver has begun to wait."""
BAD_ADMIN, BAD_IO = 0x48, 0x38
"""Opcodes of commands without data that no command set has."""


def _reads(draw: Draw) -> tuple[int, list[Action]]:
    """Three reads, and the LBA of the middle one, which is the one to be struck."""
    first = draw.between(8, 200)
    lbas = [first, first + 100, first + 200]
    return lbas[1], [do("read", nsid=1, lba=lba, blocks=BLOCKS) for lba in lbas]


def _struck(behaviour: str, draw: Draw) -> Plan:
    """Return a plan that strikes a Read between two others, on a medium slow enough for a driver to wait."""
    lba, reads = _reads(draw)
    late = Fault(name="late", behaviour="delay", queue="io", opcode=Read.OPCODE, lba=lba, times=1, arguments=LATE)
    strike = Fault(name=behaviour, behaviour=behaviour, queue="io", opcode=Read.OPCODE, lba=lba, times=1)
    return Plan(draw.device(), [LOAD, *reads], [late, strike])


STRIKES = {
    "stall": ("a Read never completes; an Abort ends it", "drop"),
    "fatal": ("the controller sets CSTS.CFS at a Read", "fatal"),
    "ready-drops": ("CSTS.RDY goes to 0 at a Read", "ready-drops"),
    "dma-stops": ("the function loses Bus Master Enable at a Read", "bus-master-off"),
    "lost-interrupt": ("a Read completes, and no interrupt is sent", "no-interrupt"),
    "unknown-command": ("a completion names a command that is not in flight", "wrong-cid"),
    "unknown-queue": ("a completion names a submission queue that is not there", "wrong-sqid"),
    "unknown-head": ("a completion has a submission queue head beyond the ring", "wrong-sqhd"),
    "unseen": ("a completion carries the phase tag of the round before, so that it cannot be seen", "wrong-phase"),
    "twice": ("a completion is posted twice", "duplicate"),
}
"""Scenarios that differ in nothing but the behaviour which strikes a Read: slug to title and behaviour."""

for _slug, (_title, _behaviour) in STRIKES.items():
    scenario(f"reset/{_slug}", _title, hostile=True, command_seconds=PATIENCE)(partial(_struck, _behaviour))


@scenario("reset/asked", "the driver is asked for a reset between reads and writes")
def asked_for(draw: Draw) -> Plan:
    lba, reads = _reads(draw)
    write = do("write", nsid=1, lba=lba, blocks=BLOCKS, fill=draw.fill())
    return Plan(draw.device(), [LOAD, write, do("reset"), *reads, do("reset"), *reads, write, *reads])


@scenario("reset/abort-refused", "a Read never completes, and the controller aborts nothing", hostile=True,
          command_seconds=PATIENCE)  # fmt: skip
def abort_refused(draw: Draw) -> Plan:
    plan = _struck("drop", draw)
    refused = Fault(name="refused", behaviour="status", queue="admin", opcode=Abort.OPCODE, arguments={"sc": 0, "dw0": 1})
    return Plan(plan.device, plan.actions, [*plan.faults, refused])


@scenario("reset/retries", "one block fails each time, another fails for good", hostile=True, command_seconds=PATIENCE)
def retries_scenario(draw: Draw) -> Plan:
    lba, reads = _reads(draw)
    faults = [
        Fault(name=name, behaviour=behaviour, queue="io", opcode=Read.OPCODE, lba=at, arguments=arguments)
        for name, behaviour, at, arguments in (
            ("late", "delay", lba, {"ms": 50}),
            ("again", "status", lba, {"sc": 6}),
            ("never", "status", lba + 100, {"sc": 6, "dnr": 1}),
        )
    ]
    return Plan(draw.device(), [LOAD, *reads], faults)


@scenario("reset/removed", "the controller is gone at a Read: all registers read all ones", hostile=True,
          command_seconds=PATIENCE)  # fmt: skip
def removed(draw: Draw) -> Plan:
    """Its configuration space stays: nothing unplugs it, and Linux's VFIO would wait a minute for it to come back."""
    plan = _struck("removed", draw)
    faults = [replace(fault, arguments={"config": False}) if fault.name == "removed" else fault for fault in plan.faults]
    return Plan(plan.device, [*plan.actions, do("unload")], faults)


@scenario("reset/stuck-ready", "the driver is asked for a reset, and CSTS.RDY stays 1 after EN=0", hostile=True,
          command_seconds=PATIENCE)  # fmt: skip
def stuck_ready_scenario(draw: Draw) -> Plan:
    _, reads = _reads(draw)
    stuck = Fault(name="stuck", behaviour="stuck-ready", armed=False)
    asked = [reads[0], do("fault", name="stuck", armed=True), do("reset"), reads[1]]
    return Plan(draw.device(cap={"TO": 1}), [LOAD, *asked], [stuck])


@scenario("reset/shutdown", "the system halts after a write")
def shutdown_scenario(draw: Draw) -> Plan:
    lba, reads = _reads(draw)
    write = do("write", nsid=1, lba=lba, blocks=BLOCKS, fill=draw.fill())
    return Plan(draw.device(), [LOAD, *reads, write, do("shutdown")])


@scenario("reset/slow-unload", "the controller needs more than a second to shut down", command_seconds=PATIENCE)
def slow_unload(draw: Draw) -> Plan:
    """RTD3E says how long: a driver that goes by it, or by SHST, loses nothing."""
    lba, reads = _reads(draw)
    write = do("write", nsid=1, lba=lba, blocks=BLOCKS, fill=draw.fill())
    slow = Fault(name="slow", behaviour="slow-shutdown", arguments={"ms": draw.between(1200, 1600)})
    return Plan(draw.device(identify={"RTD3E": 3_000_000}), [LOAD, write, do("unload"), LOAD, *reads], [slow])


@scenario("reset/bad-command", "commands of no command set are passed through, between reads")
def bad_command_scenario(draw: Draw) -> Plan:
    _, reads = _reads(draw)
    bad = [do("raw", queue="admin", opcode=BAD_ADMIN), do("raw", queue="io", opcode=BAD_IO, nsid=1)]
    return Plan(draw.device(), [LOAD, reads[0], *bad, *reads])


@scenario("reset/reload", f"the driver goes and comes again, {RELOADS} times")
def reload_scenario(draw: Draw) -> Plan:
    return _reloaded(RELOADS, draw)


@scenario("reset/reload-often", f"the driver goes and comes again, {OFTEN} times", in_process=True)
def reload_often(draw: Draw) -> Plan:
    return _reloaded(OFTEN, draw)


def _reloaded(times: int, draw: Draw) -> Plan:
    _, reads = _reads(draw)
    return Plan(draw.device(), [LOAD, *[do("unload"), LOAD] * times, *reads])


@scenario("reset/events", "namespace 2 goes and comes, more often than a driver has event requests outstanding")
def events(draw: Draw) -> Plan:
    changes = [do("detach", nsid=2), do("list", until=[1]), do("attach", nsid=2), do("list", until=[1, 2])]
    return Plan(draw.device(draw.namespace(), draw.namespace(2)), [LOAD, *changes * 4])


# -- what all faults have in common ---------------------------------------------------------------------------------


def strikes(record: Record) -> Sequence[FaultInjected]:
    """Return the strikes of faults in a record."""
    return record.all(FaultInjected)


def struck(record: Record) -> list[Asked]:
    """Return the reads during which a fault struck, and those after it.

    A fault of admin commands counts only where none strikes anything else: a driver may send the command before it reads.
    """
    others = [event for event in strikes(record) if event.sqid]
    first = min((event.t for event in others or strikes(record)), default=float("inf"))
    return [asked for asked in record.answers("read") if asked.ended and asked.ended.t >= first]


NOTHING_DONE = "no abort, no reset"
"""What `deeds` says where there were none."""


ABORTED, WAS_RESET, REMOVED, DELETED = "abort", "reset", "removal", "deletion of the queue"
"""What a driver may have done to a controller during an action (`acts`)."""


def acts(record: Record, asked: Asked) -> list[str]:
    """List what the driver did to the controller during an action, besides commands of its daily work.

    Any Controller Level Reset counts as one: EN=0, a function level reset, an NVM subsystem reset. PCIe Transport 1.0, 3.3.
    The deletion of a submission queue ends the commands on it too. Base 2.0, 3.7.3 and 5.7.
    """
    done: list[str] = []
    for state, event in record.during(asked, Submitted, RegisterWrite, RegisterRead, Reset):
        match event:
            case Submitted(command=Abort()):
                done.append(ABORTED)
            case Submitted(command=DeleteIoSq()):
                done.append(DELETED)
            case RegisterWrite(offset=CC.OFFSET, value=value) if state.enabled and not CC(value).EN:
                done.append(WAS_RESET)
            case Reset(cause=cause) if cause not in NOT_RESETS:
                done.append(WAS_RESET)
            case RegisterRead(offset=CSTS.OFFSET, value=0xFFFF_FFFF):
                done.append(REMOVED)
    return list(dict.fromkeys(done))


def deeds(record: Record, asked: Asked) -> str:
    """Say in words what the driver did to the controller during an action."""
    return ", ".join(acts(record, asked)) or NOTHING_DONE


def proven(record: Record, asked: Asked, *, head: bool = False) -> bool:
    """Return whether the device completed every block of a read with success, by completions of commands in flight.

    With ``head`` only completions count whose SQHD can be.
    """
    missing = set(range(asked.arguments["lba"], asked.arguments["lba"] + asked.arguments["blocks"]))
    for state, event in record.during(asked, Completed):
        if event.completion.ok and (submitted := state.answered(event)):
            sq = state.sqs.get(submitted.sqid)
            command = submitted.command
            if isinstance(command, Read) and not (head and sq and event.completion.SQHD >= sq.size):
                missing -= set(range(command.SLBA, command.SLBA + command.blocks))
    return not missing


def comes_through(record: Record, *, head: bool = False) -> Iterator[Finding]:
    """Judge whether every read is answered in time, as success only where the device had success, and the guest lives."""
    for asked in struck(record):
        ok = asked.status != "timeout" and (not asked.ok or proven(record, asked, head=head))
        shown = f"{asked.said}, by {deeds(record, asked)}"
        yield Finding(ok, asked.ended, "success of the device's own, or an error in time", shown)
    for event in record.all(Panicked) if strikes(record) else ():
        yield Finding(False, event, "a driver that comes through", event.text)


# -- checks ---------------------------------------------------------------------------------------------------------


@check("reset/retries", cite=BASE_2_0["9.1"], level=RECOMMENDED, why="practice", witnesses=["wire", "fault"], needs=["read"],
       scenarios=["reset/retries"])  # fmt: skip
def retries(record: Record) -> Iterator[Finding]:
    """Tries a command that failed a bounded number of times, and not again where DNR says that it would fail."""
    for asked in struck(record):
        failed = [e for e in _failures(record, asked) if e.completion.DNR] or _failures(record, asked)
        if failed:
            final, bounded = failed[0].completion.DNR, asked.status != "timeout"
            most = 1 if final else RETRIES
            expected = f"at most {most} attempts{' where DNR is set' if final else ''}"
            yield Finding(bounded and len(failed) <= most, failed[-1], expected, f"{len(failed)}, then {asked.said}")


def _failures(record: Record, asked: Asked) -> list[Completed]:
    """List the completions of one and the same I/O command, sent again and again, that were no success."""
    failed: dict[bytes, list[Completed]] = {}
    for state, event in record.during(asked, Completed):
        submitted = state.answered(event)
        if submitted is not None and submitted.sqid and not event.completion.ok:
            failed.setdefault(_but_cid(submitted), []).append(event)
    return max(failed.values(), key=len, default=[])


def _but_cid(event: Submitted) -> bytes:
    """Return what a command asks for: opcode, namespace and dwords 10 to 15, without identifier and pointers."""
    return event.raw[:1] + event.raw[4:8] + event.raw[40:]


@check("reset/stall", cite=PRACTICE, level=MANDATORY, why="safety", witnesses=["wire", "fault"], needs=["read"],
       scenarios=["reset/stall", "reset/abort-refused", "reset/unseen"])  # fmt: skip
def stall(record: Record) -> Iterator[Finding]:
    """Ends a command whose completion is never seen by Abort, a reset, or the end of its queue, and never takes it for done."""
    yield from comes_through(record)
    for asked in struck(record)[:1]:
        done = acts(record, asked)
        ok = bool({ABORTED, WAS_RESET, DELETED} & {*done})
        yield Finding(ok, asked.ended, "an Abort, a reset, or the deletion of its queue", deeds(record, asked))


@check("reset/abort", cite=BASE_2_0["5.1"], level=RECOMMENDED, why="practice", witnesses=["wire", "fault"])
def abort(record: Record) -> Iterator[Finding]:
    """Names in Abort a command that was sent, and does more about one in flight that was not aborted (bit 0 of the result)."""
    sent = set[tuple[int, int]]()  # it may have been completed while the driver was deciding
    for asked in record.asked:
        refused: dict[tuple[int, int], Event] = {}
        for state, event in record.during(asked, Submitted, Completed, RegisterWrite, Reset):
            match event:
                case Submitted(command=Abort(SQID=sqid, ABORT_CID=cid)):
                    ok = (sqid, cid) in sent or (sqid, cid) in state.in_flight
                    yield Finding(ok, event, "a command that was sent", f"SQ {sqid}, CID {cid}", ("SQID", "ABORT_CID"))
                case Submitted():
                    sent.add(event.key)
                case Completed() if submitted := state.answered(event):
                    command = submitted.command
                    if isinstance(command, Abort) and event.completion.ok and event.completion.DW0 & 1:
                        named = command.SQID, command.ABORT_CID
                        refused |= {named: event} if named in state.in_flight else {}
                    elif event.key in refused:
                        yield Finding(True, refused.pop(event.key), "its command ends in another way", "completed")
                case RegisterWrite(offset=CC.OFFSET, value=value) if not CC(value).EN:
                    yield from _ended_by_reset(refused)
                case Reset(cause=cause) if cause not in NOT_RESETS:
                    yield from _ended_by_reset(refused)
        for waiting in refused.values():
            yield Finding(False, waiting, "its command ends in another way", "left in flight")


def _ended_by_reset(refused: dict[tuple[int, int], Event]) -> Iterator[Finding]:
    """Yield that each of these commands has ended, and forget them."""
    for waiting in refused.values():
        yield Finding(True, waiting, "its command ends in another way", "reset")
    refused.clear()


@check("reset/queue-state", cite=BASE_2_0["3.7.2"], level=MANDATORY, why="integrity", witnesses=["wire"])
def queue_state(record: Record) -> Iterator[Finding]:
    """Starts head, tail and phase tag afresh after a reset."""
    for state, event in record.walk(Doorbell):
        if not event.completion or state.epoch < 2 or not state.rings_all(event.qid):
            continue
        if cq := state.cqs.get(event.qid):
            back, there = (event.value - cq.head) % cq.size, cq.posted - cq.returned
            yield Finding(back <= there, event, f"at most {there} slots given back", f"{back}")
    resets = [asked for asked in record.answers("reset") if not record.scenario.hostile]
    for asked in resets:
        if not asked.ok or _reset_steps(record, asked):
            yield Finding(asked.ok, asked.ended, "a controller that is back", asked.status)
    done = [asked for asked in resets if not asked.ok or WAS_RESET in acts(record, asked)]  # else there was none
    for asked in record.answers("read"):
        sent = record.saw(asked, Read)  # else it was from a cache, which shows nothing of the controller
        if any(reset.started.t < asked.started.t for reset in done) and (sent or not asked.ok):
            yield Finding(asked.ok and proven(record, asked), asked.ended, "a read that completes", asked.said)


@check("reset/once", cite=PRACTICE, level=MANDATORY, why="integrity", witnesses=["fault"], needs=["read"],
       scenarios=["reset/twice", "reset/stall", "reset/abort-refused", "reset/fatal"])  # fmt: skip
def once(record: Record) -> Iterator[Finding]:
    """Ends each request exactly once, whatever comes twice or late."""
    yield from comes_through(record)


@check("reset/no-doorbell", cite=BASE_2_0["3.7.2"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def no_doorbell(record: Record) -> Iterator[Finding]:
    """Rings no doorbell between the end of EN=1 and the next one."""
    for state, event in record.walk(Doorbell, RegisterWrite):
        match event:
            case Doorbell() if state.epoch and not state.enabled:
                yield Finding(False, event, "no doorbell while EN=0", f"{event.offset:#x} = {event.value:#x}")
            case RegisterWrite(offset=CC.OFFSET, value=value) if state.epoch and not state.enabled and CC(value).EN:
                yield Finding(True, event, "no doorbell while EN=0", "EN=1 again")


@check("reset/cfs", cite=BASE_2_0["9.5"], level=RECOMMENDED, why="should", witnesses=["wire", "fault"], needs=["read"],
       scenarios=["reset/fatal"])  # fmt: skip
def cfs(record: Record) -> Iterator[Finding]:
    """Resets a controller whose CSTS.CFS is set, by whichever Controller Level Reset, and enables it again."""
    for asked in struck(record)[:1]:
        done, enabled = acts(record, asked), False
        for state, event in record.during(asked, RegisterWrite):
            enabled |= event.offset == CC.OFFSET and bool(CC(event.value).EN) and not state.enabled
        shown = f"{deeds(record, asked)}, {'enabled again' if enabled else 'not enabled again'}"
        yield Finding(WAS_RESET in done and enabled, asked.ended, "a reset, and EN=1 after it", shown)


@check("reset/fatal", cite=PRACTICE, level=MANDATORY, why="safety", witnesses=["fault"], needs=["read"],
       scenarios=["reset/fatal"])  # fmt: skip
def fatal(record: Record) -> Iterator[Finding]:
    """Ends every request to a controller that has failed, and claims no success that the device did not have."""
    yield from comes_through(record)


@check("reset/stuck-ready", cite=BASE_2_0["3.1.3.5"], level=MANDATORY, why="safety", witnesses=["wire", "fault"],
       needs=["reset"], scenarios=["reset/stuck-ready"])  # fmt: skip
def stuck_ready(record: Record) -> Iterator[Finding]:
    """Gives up, in time, a controller whose RDY stays 1 after EN=0, or resets it by another way; no EN=1 before RDY=0."""
    for asked in record.answers("reset"):
        steps = _reset_steps(record, asked)
        if steps:
            given_up = steps == ["EN=0"] and not asked.ok and asked.status != "timeout"
            others = {event.cause for _, event in record.during(asked, Reset)} - {*NOT_RESETS}
            ok = given_up or (bool(others) and steps == ["EN=0", "RDY=0", "EN=1"] and asked.ok)
            seen = f"{asked.said}, after {', '.join([*steps, *sorted(others)])}"
            yield Finding(ok, asked.ended, "an error in time, and EN stays 0, or a reset by another way", seen)


def _reset_steps(record: Record, asked: Asked) -> list[str]:
    """Return the steps of the first reset during an action, as far as it came."""
    steps: list[str] = []
    for state, event in record.during(asked, RegisterRead, RegisterWrite):
        match event:
            case RegisterWrite(offset=CC.OFFSET, value=value) if state.enabled and not CC(value).EN:
                steps = ["EN=0"]
            case RegisterRead(offset=CSTS.OFFSET, value=value) if steps == ["EN=0"] and not CSTS(value).RDY:
                steps.append("RDY=0")
            case RegisterWrite(offset=CC.OFFSET, value=value) if steps and CC(value).EN and not state.enabled:
                return [*steps, "EN=1"]
    return steps


@check("reset/bus-master-off", cite=PRACTICE, level=MANDATORY, why="safety", witnesses=["fault"], needs=["read"],
       scenarios=["reset/dma-stops"])  # fmt: skip
def bus_master_off(record: Record) -> Iterator[Finding]:
    """Recovers, or fails in good order, when DMA stops."""
    yield from comes_through(record)


@check("reset/removal", cite=PRACTICE, level=MANDATORY, why="safety", witnesses=["fault"], needs=["read"],
       scenarios=["reset/removed"])  # fmt: skip
def removal(record: Record) -> Iterator[Finding]:
    """Survives surprise removal: what was on its way fails, and the driver can leave."""
    yield from comes_through(record)
    for asked in record.asked if strikes(record) else ():
        if asked.action == "unload" and asked.status != "unsupported":
            died = next((event for event in record.all(Panicked) if asked.covers(event)), None)
            if asked.ended or died:
                said = died.text if died else asked.said
                yield Finding(asked.ok and not died, died or asked.ended, "a driver that can leave", said)


@check("reset/lost-interrupt", cite=PRACTICE, level=RECOMMENDED, why="practice", witnesses=["fault"], needs=["read"],
       scenarios=["reset/lost-interrupt"])  # fmt: skip
def lost_interrupt(record: Record) -> Iterator[Finding]:
    """Survives a lost interrupt."""
    yield from comes_through(record)


@check("admin-queue/aerl", cite=BASE_2_0["5.2"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def aerl(record: Record) -> Iterator[Finding]:
    """Keeps at most AERL+1 Asynchronous Event Requests outstanding."""
    for state, event, _ in record.commands(AsyncEventRequest):
        if state.profile:
            most = state.profile.controller.AERL + 1
            count = 1 + sum(isinstance(e.command, AsyncEventRequest) for e in state.in_flight.values())
            yield Finding(count <= most, event, f"at most {most} outstanding", f"{count}", fields=("OPC",))


@check("reset/aer", cite=BASE_2_0["5.2"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def aer(record: Record) -> Iterator[Finding]:
    """Sends another Asynchronous Event Request after one reported an event."""
    reported: dict[str, Completed] = {}  # events whose request was not replaced yet, by controller
    for state, event in record.walk(Submitted, Completed, RegisterWrite):
        match event:
            case Submitted(command=AsyncEventRequest()):
                if answered := reported.pop(state.spec.id, None):
                    yield Finding(True, answered, "another request after it", "sent")
            case Completed() if (submitted := state.answered(event)) and isinstance(submitted.command, AsyncEventRequest):
                if event.completion.ok:
                    reported[state.spec.id] = event
            case RegisterWrite(offset=CC.OFFSET) if unanswered := reported.pop(state.spec.id, None):
                yield from _not_replaced(record, unanswered, event.t)
    for unanswered in reported.values():
        yield from _not_replaced(record, unanswered, float("inf"))


def _not_replaced(record: Record, reported: Completed, until: float) -> Iterator[Finding]:
    """Yield a finding if the driver, asked something after the event, has sent no other request."""
    if any(reported.t < asked.started.t and asked.ended and asked.ended.t < until for asked in record.asked):
        yield Finding(False, reported, "another request after it", "none")


@check("reset/bad-completion", cite=BASE_2_0["3.3.3.2"], level=MANDATORY, why="integrity", witnesses=["fault"], needs=["read"],
       scenarios=["reset/unknown-command"])  # fmt: skip
def bad_completion(record: Record) -> Iterator[Finding]:
    """Takes a completion that names no command in flight for nothing."""
    yield from comes_through(record)


@check("reset/bad-queue", cite=BASE_2_0["3.3.3.2"], level=OPTIONAL, why="practice", witnesses=["fault"], needs=["read"],
       scenarios=["reset/unknown-queue", "reset/unknown-head"])  # fmt: skip
def bad_queue(record: Record) -> Iterator[Finding]:
    """Distrusts a completion that names a submission queue, or a head of one, which cannot be."""
    yield from comes_through(record, head=True)


@check("reset/shutdown", cite=BASE_2_0["3.6.1"], level=RECOMMENDED, why="should", witnesses=["wire"])
def shutdown(record: Record) -> Iterator[Finding]:
    """Leaves a controller by a shutdown notification, and sends no I/O command after it."""
    for asked in record.answers("shutdown", "unload") if not record.scenario.hostile else ():
        reported: RegisterWrite | None = None
        enabled = False
        after = 0
        for state, event in record.during(asked):
            enabled |= state.enabled
            match event:
                case RegisterWrite(offset=CC.OFFSET, value=value) if CC(value).SHN:
                    reported = event
                case RegisterWrite(offset=CC.OFFSET, value=value) if state.shutdown and not CC(value).EN:
                    break  # what comes then is another life
                case Doorbell(completion=False, qid=qid) if reported and qid:
                    after += 1
        if enabled and asked.ok:
            shown = f"SHN={CC(reported.value).SHN:02b}b" if reported else "SHN=00b"
            shown += f", {after} doorbells of I/O submission queues after that"
            good = reported is not None and CC(reported.value).SHN in (1, 2) and not after
            yield Finding(good, reported or asked.ended, "SHN=01b or 10b, and no I/O command after it", shown)


@check("reset/shst-wait", cite=BASE_2_0["3.6.1"], level=RECOMMENDED, why="should", witnesses=["wire"], timed=True)
def shst_wait(record: Record) -> Iterator[Finding]:
    """Waits until a shutdown is complete, or for RTD3E (at least one second where that is 0), before it leaves."""
    for asked in record.answers("shutdown", "unload") if not record.scenario.hostile else ():
        began, complete, last, need = None, False, 0.0, 1.0
        for state, event in record.during(asked, RegisterRead, RegisterWrite):
            match event:
                case RegisterWrite(offset=CC.OFFSET, value=value) if CC(value).SHN == 1 and state.enabled:
                    began, complete, last = event, False, 0.0
                    need = (state.profile.controller.RTD3E / 1e6 if state.profile else 0.0) or 1.0
                case RegisterRead(offset=CSTS.OFFSET, value=value) if began is not None:
                    complete |= CSTS(value).SHST == SHST_COMPLETE
                    last = event.t - began.t
        if began is not None and asked.ended:
            waited = complete or last >= need * ENOUGH
            shown = "SHST=10b seen" if complete else f"SHST=10b not seen, last look after {last:.2f} s"
            yield Finding(waited, began, f"SHST=10b seen, or {need:g} s waited for it", shown)


ENOUGH = 0.9
"""Of a time that a driver should wait: clocks differ."""


@check("reset/shst-quiet", cite=BASE_2_0["3.1.3.6"], level=MANDATORY, why="shall", witnesses=["wire"])
def shst_quiet(record: Record) -> Iterator[Finding]:
    """Submits nothing to a controller whose shutdown is complete before it has reset it."""
    for state, event in record.walk(Doorbell, RegisterWrite):
        match event:
            case Doorbell(completion=False) if state.shut_complete:
                shown = f"tail {event.value} of SQ {event.qid} after SHST=10b"
                yield Finding(False, event, "EN=0 before another command", shown)
            case RegisterWrite(offset=CC.OFFSET, value=value) if state.shut_complete and not CC(value).EN:
                yield Finding(True, event, "EN=0 before another command", "EN=0")
            case RegisterWrite(offset=CC.OFFSET, value=value) if state.enabled and CC(value).SHN:
                yield Finding(True, event, "EN=0 before another command", "shut down")


@check("reset/queues-deleted", cite=BASE_2_0["3.6.1"], level=RECOMMENDED, why="should", witnesses=["wire"])
def queues_deleted(record: Record) -> Iterator[Finding]:
    """Deletes its I/O queues before a normal shutdown."""
    for state, event in record.walk(RegisterWrite) if not record.scenario.hostile else ():
        if event.offset == CC.OFFSET and state.enabled and CC(event.value).SHN == 1 and not state.shutdown:
            left = sorted({f"SQ {qid}" for qid in state.sqs if qid} | {f"CQ {qid}" for qid in state.cqs if qid})
            yield Finding(not left, event, "no I/O queue left when SHN is set", f"left: {listed(left)}")


@check("reset/shutdown-idle", cite=BASE_2_0["3.6.1"], level=RECOMMENDED, why="should", witnesses=["wire"])
def shutdown_idle(record: Record) -> Iterator[Finding]:
    """Lets all commands of its own end, but for requests for events, before it asks for a normal shutdown."""
    lives = [asked.started.t for asked in record.asked if asked.action in ("load", "hand-over")]
    for state, event in record.walk(RegisterWrite) if not record.scenario.hostile else ():
        if event.offset == CC.OFFSET and state.enabled and CC(event.value).SHN == 1 and not state.shutdown:
            since = max((t for t in lives if t <= event.t), default=0.0)  # else it is of the system before
            own = [one.command for one in state.in_flight.values() if one.t >= since]
            flying = sorted(type(command).__name__ for command in own if not isinstance(command, AsyncEventRequest))
            yield Finding(not flying, event, "no command in flight when SHN is set", f"in flight: {listed(flying)}")


@check("reset/csts-first", cite=BASE_2_0["9.5"], level=RECOMMENDED, why="practice", witnesses=["wire", "fault"],
       needs=["read"], scenarios=["reset/stall", "reset/fatal", "reset/abort-refused"])  # fmt: skip
def csts_first(record: Record) -> Iterator[Finding]:
    """Looks at CSTS when a command is not completed in time, before it aborts or resets."""
    for asked in struck(record)[:1]:
        looked = False
        for state, event in record.during(asked, RegisterRead, RegisterWrite, Submitted):
            match event:
                case RegisterRead(offset=CSTS.OFFSET):
                    looked = True
                case RegisterWrite(offset=CC.OFFSET, value=value) if state.enabled and not CC(value).EN:
                    yield Finding(looked, event, "CSTS read before", "read" if looked else "reset without a look")
                    break
                case Submitted(command=Abort()):
                    yield Finding(looked, event, "CSTS read before", "read" if looked else "Abort without a look")
                    break


@check(
    "reset/bme-after-flr",
    cite=PCIE_1_0["3.3"],
    level=MANDATORY,
    why="integrity",
    witnesses=["wire"],
    uses="function level reset",
)
def bme_after_flr(record: Record) -> Iterator[Finding]:
    """Sets Bus Master Enable again after a function level reset, which has cleared it."""
    reset = dict[str, bool]()
    for state, event in record.walk(Reset, Doorbell):
        match event:
            case Reset(cause="flr") if state.pci_command is not None:
                reset[state.spec.id] = True
            case Doorbell() if state.enabled and reset.pop(state.spec.id, False):
                command = state.pci_command or 0
                yield Finding(bool(command & 4), event, "BME set again", f"Command register {command:#06x}")


@check("reset/bad-command", cite=BASE_2_0["3.3.3.2"], level=MANDATORY, why="safety", witnesses=["wire", "fault"], needs=["raw"],
       scenarios=["reset/bad-command"])  # fmt: skip
def bad_command(record: Record) -> Iterator[Finding]:
    """Returns the status of an invalid opcode to the sender of the command, and goes on."""
    for asked in record.answers("raw"):
        sent = [e for _, e in record.during(asked, Submitted) if e.command.OPC == asked.arguments["opcode"]]
        if sent:
            reported = asked.status != "timeout" and not asked.ok
            yield Finding(reported, sent[0], "an error for its sender", asked.status, fields=("OPC",))
    for event in record.all(Panicked):
        yield Finding(False, event, "a driver that goes on", event.text)
    for asked in record.answers("read"):
        if record.saw(asked, Read) or not asked.ok:
            yield Finding(asked.ok and proven(record, asked), asked.ended, "reads that go on", asked.said)


@check("reset/reload", cite=PRACTICE, level=RECOMMENDED, why="practice", witnesses=["wire"], needs=["unload"],
       scenarios=["reset/reload", "reset/reload-often"])  # fmt: skip
def reload(record: Record) -> Iterator[Finding]:
    """Comes back each time with the same queues and vectors, and holds no more memory open than at first."""
    first: str | None = None
    held = 0
    ends = {asked.ended.t: asked for asked in record.answers("load") if asked.ended}
    queues, vectors = 0, set[int]()
    pending = sorted(ends)
    for state, event in record.walk():
        while pending and pending[0] < event.t:
            asked = ends[pending.pop(0)]
            now = f"{asked.said}: {queues} I/O queues, vectors {listed(sorted(vectors))}, {held} bytes open to the device"
            first = first or now
            if queues or first != now:
                yield Finding(asked.ok and now == first, asked.ended, first, now)
            queues, vectors = 0, set()
        match event:
            case RegisterWrite(offset=CC.OFFSET, value=value) if CC(value).EN and not state.enabled:
                queues, vectors = 0, set()  # it starts anew, be it in the same load
            case DmaMap(length=length, mapped=mapped):
                held += length if mapped else -length
            case Completed() if (submitted := state.answered(event)) and event.completion.ok:
                queues += isinstance(submitted.command, CreateIoSq | CreateIoCq)
                if isinstance(submitted.command, CreateIoCq) and submitted.command.IEN:
                    vectors.add(submitted.command.IV)


@check("reset/spurious-ready", cite=BASE_2_0["3.1.3.6"], level=RECOMMENDED, why="practice", witnesses=["fault"],
       needs=["read"], scenarios=["reset/ready-drops"])  # fmt: skip
def spurious_ready(record: Record) -> Iterator[Finding]:
    """Copes with a controller whose RDY drops without a cause."""
    yield from comes_through(record)
