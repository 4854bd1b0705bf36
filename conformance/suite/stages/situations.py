"""Situations beyond the plain device.

A slow admin queue, an earlier owner, other kinds of devices, transient errors, and combinations of faults.
Each check has a defect that fails in its scenarios (`lab.defects.situations`), and legal neighbours that do not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from conformance.record.first_use import RESET_BEFORE_USE, first_use
from conformance.record.record import Asked, Record
from conformance.record.state import State
from conformance.suite.check import MANDATORY, RECOMMENDED, Finding, check
from conformance.suite.citations import BASE_2_0, PCIE_1_0, PRACTICE
from conformance.suite.scenario import LOAD, Draw, Plan, do, scenario
from conformance.suite.stages.multiqueue import loads
from conformance.suite.stages.reset import NOTHING_DONE, comes_through, deeds, proven, strikes
from lab.data.events import Completed, Doorbell, Event, RegisterRead, RegisterWrite, Submitted
from lab.data.plan import Action, Fault
from lab.nvme.commands import (
    Abort,
    AsyncEventRequest,
    Command,
    DatasetManagement,
    Flush,
    GetLogPage,
    Identify,
    Read,
    Sanitize,
    SecurityReceive,
    SecuritySend,
    Write,
)
from lab.nvme.identify import Cns, Oacs
from lab.nvme.registers import CC

BLOCKS = 8
"""Of each small transfer."""
PATIENCE = 2
"""Seconds that a driver may wait for a command before it does something, where that can be set."""
DELAY_MS = 800
"""How long a healthy controller takes for an admin command where it is slow: far less than any time-out that drivers have."""
SILENT_SECONDS = 8.0
"""How long a driver may do nothing during an action while no command is in flight: the reference driver needs half a second at
most, where an interrupt is lost, and a busy machine adds seconds to that."""
NOTICE_SECONDS, ENOUGH_SILENCES = 0.3, 4
"""Within what time a driver notices most completions, and how many there must be to tell. The reference driver needs less than
a millisecond, and half a second only where an interrupt was lost."""
LATE_SECONDS = 0.5
"""A command that is in flight for longer without a fault is the lab's own delay."""
EVENT_REQUESTS = 64
"""Asynchronous Event Requests that are too many while they are refused."""
RESTARTS = ("reset", "reset-function", "reset-subsystem", "suspend", "unload", "shutdown", "raw", "hand-over")
"""Actions that may be done by a reset."""
NEEDED: Mapping[str, type[Command]] = {"smart": GetLogPage}
"""Admin commands without which an action cannot have succeeded."""
LOADING = "load", "load-polled", "restore"
"""Actions that bring a controller up, whatever state it is in."""
NAMESPACE_NOT_READY = 0x82
"""A status that passes."""
EVERY_NAMESPACE = 0xFFFF_FFFF
PARTS = 8
"""Requests that are begun side by side."""
UNRECOVERED_READ = 0x81
"""Of status code type 2h."""


def _read(lba: int, blocks: int = BLOCKS, **more: int) -> Action:
    return do("read", nsid=1, lba=lba, blocks=blocks, **more)


def _write(draw: Draw, lba: int, blocks: int = BLOCKS) -> Action:
    return do("write", nsid=1, lba=lba, blocks=blocks, fill=draw.fill())


def _moves(draw: Draw) -> list[Action]:
    """Return a write and the read that checks it."""
    lba = draw.between(8, 900)
    return [_write(draw, lba), _read(lba - 1, BLOCKS + 2)]


# -- the admin queue misbehaves in time -----------------------------------------------------------------------------


@scenario("identify/slow", "the first two Identify take 800 ms each, as in a controller that wakes up")
def slow_identify(draw: Draw) -> Plan:
    slow = Fault(name="slow", behaviour="delay", queue="admin", opcode=Identify.OPCODE, times=2,
                 arguments={"ms": DELAY_MS})  # fmt: skip
    return Plan(draw.device(), [LOAD, do("identify"), *_moves(draw)], [slow])


@scenario("features/slow-log", "the first two Get Log Page take 800 ms each")
def slow_log(draw: Draw) -> Plan:
    slow = Fault(name="slow", behaviour="log-delayed", times=2, arguments={"ms": DELAY_MS})
    return Plan(draw.device(), [LOAD, do("smart"), *_moves(draw)], [slow])


@scenario("reset/admin-stall", "a Get Log Page never completes", hostile=True, command_seconds=PATIENCE)
def admin_stall(draw: Draw) -> Plan:
    lost = Fault(name="lost", behaviour="drop", queue="admin", opcode=GetLogPage.OPCODE, times=1, armed=False)
    armed = do("fault", name="lost", armed=True)
    return Plan(draw.device(), [LOAD, *_moves(draw), armed, do("smart"), *_moves(draw)], [lost])


@scenario("reset/identify-stall", "the first Identify never completes", hostile=True, command_seconds=PATIENCE)
def identify_stall(draw: Draw) -> Plan:
    lost = Fault(name="lost", behaviour="drop", queue="admin", opcode=Identify.OPCODE, times=1)
    return Plan(draw.device(), [LOAD, *_moves(draw)], [lost])


@scenario("reset/late-abort", "a Read never completes, and the Abort takes 300 ms", hostile=True, command_seconds=PATIENCE)
def late_abort(draw: Draw) -> Plan:
    lba = draw.between(8, 900)
    lost = Fault(name="lost", behaviour="drop", queue="io", opcode=Read.OPCODE, lba=lba, times=1)
    late = Fault(name="late", behaviour="late-abort", arguments={"ms": 300})
    return Plan(draw.device(), [LOAD, _read(lba), _read(lba + 100)], [lost, late])


for _dnr, _slug, _title in (
    (0, "events-refused", "Asynchronous Event Requests are refused"),
    (1, "events-refused-for-good", "Asynchronous Event Requests are refused, with DNR"),
):

    def _refused(draw: Draw, dnr: int = _dnr) -> Plan:
        refused = Fault(name="refused", behaviour="status", queue="admin", opcode=AsyncEventRequest.OPCODE,
                        arguments={"sc": 6, "dnr": dnr})  # fmt: skip
        return Plan(draw.device(), [LOAD, *_moves(draw), do("list")], [refused])

    scenario(f"reset/{_slug}", _title, hostile=True)(_refused)


@check("reset/admin-stall", cite=PRACTICE, level=MANDATORY, why="safety", witnesses=["out", "wire", "fault"],
       scenarios=["reset/admin-stall", "reset/identify-stall"])  # fmt: skip
def never_completed(record: Record) -> Iterator[Finding]:
    """Takes an admin command that never completes for failed: it recovers or says so, in time."""
    hits = strikes(record)
    for hit in hits[:1]:
        for asked in record.asked:
            if asked.ended and asked.started.t <= hit.t <= asked.ended.t:
                lost = next((e for e in record.all(Submitted) if e.key == (hit.sqid, hit.cid) and e.t <= hit.t), None)
                kind = type(lost.command) if lost else Command
                if NEEDED.get(asked.action) is not kind:
                    if asked.action == "load":  # a driver may go on without it, or behind the load; its reads show it
                        yield Finding(asked.status != "timeout", asked.ended, "an answer in time", asked.said)
                    continue
                again = any(
                    submitted and isinstance(submitted.command, kind) and event.completion.ok
                    for event, submitted in _answers(record, asked) if event.t >= hit.t
                )  # fmt: skip
                ok = asked.status != "timeout" and (not asked.ok or again)
                shown = f"{asked.said}, by {deeds(record, asked)}{'' if again else ', never completed'}"
                yield Finding(ok, asked.ended, f"a {kind.__name__} that completes, or an error in time", shown)
    for asked in record.answers("read") if hits else ():
        if asked.started.t > hits[0].t:
            ok = asked.status != "timeout" and (not asked.ok or proven(record, asked))
            yield Finding(ok, asked.ended, "a read that completes, or an error in time", asked.said)


@check("reset/aer-refused", cite=BASE_2_0["5.2"], level=RECOMMENDED, why="practice", witnesses=["out", "wire", "fault"],
       scenarios=["reset/events-refused", "reset/events-refused-for-good"])  # fmt: skip
def event_requests_refused(record: Record) -> Iterator[Finding]:
    """Works on where Asynchronous Event Requests are refused, and does not send them without end."""
    sent = [event for _, event, _ in record.commands(AsyncEventRequest)]
    if sent:
        yield Finding(len(sent) <= EVENT_REQUESTS, sent[-1], f"at most {EVENT_REQUESTS} requests", f"{len(sent)}")
        for asked in record.answers("load", "read"):
            yield Finding(asked.ok, asked.ended, "a driver that works without events", asked.said)


@check("reset/late-abort", cite=PRACTICE, level=MANDATORY, why="safety", witnesses=["wire", "fault"], needs=["read"],
       scenarios=["reset/late-abort"])  # fmt: skip
def abort_is_late(record: Record) -> Iterator[Finding]:
    """Ends a command that is being aborted once, however late the Abort completes."""
    yield from comes_through(record)


# -- an earlier owner -----------------------------------------------------------------------------------------------


def _owned(draw: Draw, state: str, *more: Fault, pending: int = 0) -> Plan:
    owner = Fault(name="owner", behaviour="earlier-owner", arguments={"state": state, "pending": pending})
    return Plan(draw.device(), [LOAD, *_moves(draw)], [owner, *more])


@scenario("admin-queue/owned", "the controller is found enabled, with queues that somebody else has left")
def owned(draw: Draw) -> Plan:
    return _owned(draw, "ready")


@scenario("admin-queue/owned-busy", "the same, and it takes 300 ms to stop, for it is in the middle of a command")
def owned_busy(draw: Draw) -> Plan:
    return _owned(draw, "ready", Fault(name="busy", behaviour="slow-disable", arguments={"ms": 300}, times=1))


@scenario("admin-queue/owned-shut", "the controller is found enabled and shut down")
def owned_shut(draw: Draw) -> Plan:
    return _owned(draw, "shut-down")


@scenario("admin-queue/owned-shutting-down", "the controller is found in the middle of a shutdown, which takes 300 ms more")
def owned_shutting_down(draw: Draw) -> Plan:
    return _owned(draw, "shutting-down", Fault(name="slow", behaviour="slow-shutdown", arguments={"ms": 300}, times=1))


@scenario("admin-queue/owned-interrupting", "the controller is found enabled, and interrupts for a completion that nobody took")
def owned_interrupting(draw: Draw) -> Plan:
    return _owned(draw, "ready", pending=1)


OWNED = [f"admin-queue/owned{how}" for how in ("", "-busy", "-shut", "-shutting-down", "-interrupting")]


@check("admin-queue/takes-over", cite=BASE_2_0["3.5.1"], level=MANDATORY, why="integrity", witnesses=["out", "wire", "fault"],
       scenarios=OWNED)  # fmt: skip
def takes_over(record: Record) -> Iterator[Finding]:
    """Resets a controller that an earlier owner has left enabled before it uses it with queues of its own."""
    found = next(iter(strikes(record)), None)
    if found and (use := first_use(record, found.t)):
        _, event, reset = use
        yield Finding(reset, event, RESET_BEFORE_USE, "reset" if reset else "no reset")
    loaded = any(asked.ok for asked in record.answers("load"))  # a driver may refuse a controller that somebody else uses
    for asked in record.answers("load", "read") if found and loaded else ():
        yield Finding(asked.ok, asked.ended, "a controller that can be used", asked.said)


@check("admin-queue/comes-up-owned", cite=BASE_2_0["3.5.1"], level=RECOMMENDED, why="practice",
       witnesses=["out", "wire", "fault"], scenarios=OWNED)  # fmt: skip
def comes_up_owned(record: Record) -> Iterator[Finding]:
    """Brings a controller up in whatever state a boot loader or an earlier system has left it."""
    for hit in strikes(record)[:1]:
        for asked in record.answers("load"):
            if asked.ended and asked.ended.t >= hit.t:
                yield Finding(asked.ok, asked.ended, "a controller that comes up", asked.said)


# -- combinations ---------------------------------------------------------------------------------------------------


@scenario(
    "reset/stall-one-pair", "a Read never completes on the only pair of I/O queues", hostile=True, command_seconds=PATIENCE
)
def stall_one_pair(draw: Draw) -> Plan:
    lba = draw.between(8, 900)
    lost = Fault(name="lost", behaviour="drop", queue="io", opcode=Read.OPCODE, lba=lba, times=1)
    return Plan(draw.device(io_queues=1, vectors=2), [LOAD, _read(lba), _read(lba + 100), *_moves(draw)], [lost])


@scenario("reset/time-out-race", "a Read completes just as the driver's time-out ends", hostile=True, command_seconds=PATIENCE)
def time_out_race(draw: Draw) -> Plan:
    lba = draw.between(8, 900)
    late = Fault(name="late", behaviour="delay", queue="io", opcode=Read.OPCODE, lba=lba, times=1,
                 arguments={"ms": PATIENCE * 1000 + 20})  # fmt: skip
    return Plan(draw.device(), [LOAD, _read(lba), _read(lba + 100), *_moves(draw)], [late])


@scenario("reset/stuck-unload", "a reset fails, for CSTS.RDY stays 1, and the driver is unloaded", hostile=True,
          command_seconds=PATIENCE)  # fmt: skip
def stuck_unload(draw: Draw) -> Plan:
    stuck = Fault(name="stuck", behaviour="stuck-ready", armed=False)
    return Plan(draw.device(), [LOAD, *_moves(draw), do("fault", name="stuck", armed=True), do("reset"), do("unload")], [stuck])


@scenario("multiqueue/shared-vector", "a mixed load on queues that must share an interrupt vector", cpus=2)
def shared_vector(draw: Draw) -> Plan:
    mix = do("load-mix", nsid=1, lba=0, blocks=BLOCKS, jobs=2, depth=4, operations=48, seed=draw.fill())
    return Plan(draw.device(vectors=1), [LOAD, mix])


@check("reset/stall-one-pair", cite=PRACTICE, level=MANDATORY, why="safety", witnesses=["wire", "fault"],
       needs=["read"], scenarios=["reset/stall-one-pair", "reset/time-out-race"])  # fmt: skip
def one_pair(record: Record) -> Iterator[Finding]:
    """Comes through a command that is lost, or completes as it times out, also with one pair of I/O queues."""
    yield from comes_through(record)
    for asked in record.answers("write") if strikes(record) else ():
        yield Finding(asked.status != "timeout", asked.ended, "an answer to the write after it", asked.said)


@check("reset/leaves-failed", cite=PRACTICE, level=RECOMMENDED, why="practice", witnesses=["out", "wire", "fault"],
       needs=["reset", "unload"], scenarios=["reset/stuck-unload"])  # fmt: skip
def leaves_failed(record: Record) -> Iterator[Finding]:
    """Can be unloaded after a reset that failed."""
    for asked in record.answers("unload") if strikes(record) and any(record.commands(Identify)) else ():
        yield Finding(asked.status != "timeout", asked.ended, "a driver that leaves", asked.said)


@check("multiqueue/shared-vector", cite=PCIE_1_0["3.5"], level=RECOMMENDED, why="practice", witnesses=["out", "wire"],
       needs=["load-mix"], scenarios=["multiqueue/shared-vector"])  # fmt: skip
def shares_vector(record: Record) -> Iterator[Finding]:
    """Notices the completions of all queues that share an interrupt vector."""
    for load in loads(record):
        acted = deeds(record, load.asked)
        ok = load.whole and acted == NOTHING_DONE
        yield Finding(ok, load.asked.ended, "all operations, without Abort or reset", f"{load.figures}, {acted}")


# -- healthy controllers --------------------------------------------------------------------------------------------


@check("every/no-recovery", cite=PRACTICE, level=RECOMMENDED, why="practice", witnesses=["wire"])
def no_recovery(record: Record) -> Iterator[Finding]:
    """Aborts nothing and resets nothing where the controller is healthy and no user asked for it."""
    if record.scenario.hostile:
        return
    slow_by_intention = bool(strikes(record))
    for asked in record.asked:
        replaced = asked.action == "save" and not record.scenario.guest.get("keep_alive")
        succeeds = asked.action == "load" and any(one.ok for one in record.answers("hand-over") if one.number < asked.number)
        wanted = asked.action in RESTARTS or asked.arguments.get("during") == "abort" or replaced or succeeds
        if wanted or not asked.ended:
            continue
        wrong = _recovery(record, asked, slow_by_intention)
        if wrong:
            yield Finding(False, wrong, "no Abort and no reset of a healthy controller", deeds(record, asked))
        elif any(True for _ in record.during(asked, Submitted)):
            yield Finding(True, asked.ended, "no Abort and no reset of a healthy controller", NOTHING_DONE)


def _recovery(record: Record, asked: Asked, slow_by_intention: bool) -> Event | None:
    """Return the first Abort or reset during an action whose cause is not that the lab was late."""
    for state, event in record.during(asked, Submitted, RegisterWrite):
        waiting = [one for one in state.in_flight.values() if not isinstance(one.command, AsyncEventRequest)]
        late = not slow_by_intention and any(event.t - one.t > LATE_SECONDS for one in waiting)
        match event:
            case Submitted(command=Abort() as abort) if not late and not _takes_event_request_back(state, abort):
                return event
            case RegisterWrite(value=value) if event.offset == CC.OFFSET and state.enabled and not CC(value).EN:
                if not late and (asked.action not in LOADING or waiting):
                    return event
    return None


def _takes_event_request_back(state: State, abort: Abort) -> bool:
    """Return whether an Abort names an Asynchronous Event Request, which is outstanding by its nature."""
    named = (one for one in state.in_flight.values() if (one.sqid, one.command.CID) == (abort.SQID, abort.ABORT_CID))
    return any(isinstance(one.command, AsyncEventRequest) for one in named)


@check("every/prompt", cite=PRACTICE, level=RECOMMENDED, why="practice", witnesses=["wire"], timed=True)
def prompt(record: Record) -> Iterator[Finding]:
    """Goes on soon after a command has completed on a healthy controller."""
    if record.scenario.hostile:
        return
    silences = list[tuple[float, Event]]()  # after a completion, until the driver does something
    for asked in record.asked:
        if asked.action not in ("read", "write", "flush", "trim", "zeroes", "noop", "smart", "get-feature", "set-feature"):
            continue
        longest, after = 0.0, None
        previous: Event | None = None
        for state, event in record.during(asked, Submitted, Completed, Doorbell, RegisterRead, RegisterWrite):
            idle = not [one for one in state.in_flight.values() if not isinstance(one.command, AsyncEventRequest)]
            if previous is not None and idle and not isinstance(event, Completed):
                if isinstance(previous, Completed):
                    silences.append((event.t - previous.t, event))
                if event.t - previous.t > longest:
                    longest, after = event.t - previous.t, event
            previous = event
        if previous is not None:
            yield Finding(longest <= SILENT_SECONDS, after or asked.ended, f"less than {SILENT_SECONDS:g} s without work",
                          f"{longest:.1f} s")  # fmt: skip
    if len(silences) >= ENOUGH_SILENCES:
        usual, event = sorted(silences, key=lambda silence: silence[0])[len(silences) // 2]
        expected = f"a look at most completions within {NOTICE_SECONDS:g} s"
        yield Finding(usual <= NOTICE_SECONDS, event, expected, f"half of them waited for {usual:.2f} s or longer")


CLAIMED = (
    "get-feature", "set-feature", "smart", "trim", "zeroes", "write-bytes", "shutdown", "info", "queues", "noop",
    "rescan", "identify", "list", "read", "write", "flush",
)  # fmt: skip
"""Actions that a healthy controller with everything lets succeed."""


@scenario("features/claims", "everything that can be claimed, once, on a controller that has all of it")
def claims(draw: Draw) -> Plan:
    lba = draw.between(8, 900)
    asked = [
        LOAD, do("info"), do("identify"), do("list"), do("rescan"), do("queues"), do("noop", nsid=1),
        _read(lba), _write(draw, lba), do("flush", nsid=1),
        do("write-bytes", nsid=1, lba=lba, at=16, length=32, fill=draw.fill()),
        do("zeroes", nsid=1, lba=lba, blocks=4), do("trim", nsid=1, lba=lba + 4, blocks=4), do("smart"),
        do("get-feature", feature=6), do("set-feature", feature=6, value=1), do("shutdown"),
    ]  # fmt: skip
    return Plan(draw.device(draw.namespace(blocks=draw.between(4096, 8192) * 8)), asked)


@check("every/claimed", cite=PRACTICE, level=RECOMMENDED, why="practice", witnesses=["out"], scenarios=["features/claims"])
def claimed(record: Record) -> Iterator[Finding]:
    """Does what its manifest claims where the device is healthy, instead of refusing it in words."""
    for asked in record.answers(*CLAIMED):
        if asked.status != "timeout":
            yield Finding(asked.ok, asked.ended, f"{asked.action} that succeeds", asked.said)


# -- errors that pass -----------------------------------------------------------------------------------------------


def _busy(kind: type[Command]) -> Fault:
    arguments = {"sc": NAMESPACE_NOT_READY}
    return Fault(name="busy", behaviour="status", queue="io", opcode=kind.OPCODE, times=1, arguments=arguments)


@scenario("write/busy", "the first Write ends with Namespace Not Ready, and may be retried", hostile=True)
def write_busy(draw: Draw) -> Plan:
    return Plan(draw.device(), [LOAD, *_moves(draw)], [_busy(Write)])


@scenario("write/flush-busy", "the first Flush ends with Namespace Not Ready, and may be retried", hostile=True)
def flush_busy(draw: Draw) -> Plan:
    return Plan(draw.device(), [LOAD, *_moves(draw), do("flush", nsid=1)], [_busy(Flush)])


@scenario("features/trim-busy", "the first Dataset Management ends with Namespace Not Ready, and may be retried", hostile=True)
def trim_busy(draw: Draw) -> Plan:
    trim = do("trim", nsid=1, lba=draw.between(8, 900), blocks=8)
    return Plan(draw.device(), [LOAD, trim, *_moves(draw)], [_busy(DatasetManagement)])


@scenario("features/log-busy", "the first Get Log Page ends with Internal Error, and may be retried", hostile=True)
def log_busy(draw: Draw) -> Plan:
    busy = Fault(name="busy", behaviour="status", queue="admin", opcode=GetLogPage.OPCODE, times=1, arguments={"sc": 6})
    return Plan(draw.device(), [LOAD, do("smart"), *_moves(draw)], [busy])


@check("write/retried", cite=BASE_2_0["3.3.3.2"], level=MANDATORY, why="integrity", witnesses=["out", "wire", "fault"],
       scenarios=["write/busy", "write/flush-busy", "features/trim-busy", "features/log-busy"])  # fmt: skip
def retried(record: Record) -> Iterator[Finding]:
    """Tries a command again that failed for a passing reason, or says that it failed; it never takes it for done."""
    for hit in strikes(record):
        for asked in record.asked:
            if not asked.ended or not asked.started.t <= hit.t <= asked.ended.t or asked.action == "load":
                continue
            answers = [(e, s) for e, s in _answers(record, asked) if e.t >= hit.t and s]
            failed = next((s for e, s in answers if e.key == (hit.sqid, hit.cid) and not e.completion.ok), None)
            if failed:
                done = any(type(s.command) is type(failed.command) and e.completion.ok for e, s in answers if s)
                name = type(failed.command).__name__
                ok = asked.status != "timeout" and (not asked.ok or done)
                shown = f"{asked.said}, {name} {'done' if done else 'failed'}"
                yield Finding(ok, asked.ended, f"a {name} that succeeds, or an error", shown)


def _answers(record: Record, asked: Asked) -> list[tuple[Completed, Submitted | None]]:
    """Return the completions during an action, each with the submission that it answers."""
    return [(event, state.answered(event)) for state, event in record.during(asked, Completed)]


# -- kinds of devices -----------------------------------------------------------------------------------------------


@scenario("read/sgl-offered", "SGLs are offered: reads and writes of one page to many")
def sgl_offered(draw: Draw) -> Plan:
    lba = draw.between(8, 900)
    long = do("write", nsid=1, lba=lba, blocks=200, fill=draw.fill())
    return Plan(draw.device(sgl=True), [LOAD, _read(lba), _write(draw, lba), long, _read(lba, 200), _read(lba + 1, 3)])


@scenario("read/mdts-long", "MDTS 10: transfers of up to 4 MiB, by PRP lists that are just full, or chained")
def mdts_long(draw: Draw) -> Plan:
    """Unlike read/chain it says how long a transfer may be: drivers that take MDTS 0 for some limit chain nothing there."""
    lba, namespace = draw.between(8, 400), draw.namespace()
    just_full, chained = 8 * 513, 8 * 514  # one page by PRP1, and 512 or 513 by the list: its end is where the pattern is
    ends = [_read(namespace.blocks - blocks, blocks, parts=1) for blocks in (just_full, chained)]
    return Plan(draw.device(namespace, mdts=10), [LOAD, _read(lba, 1024), _read(lba + 1, 4600 - 512, offset=512), *ends])


# -- requests side by side ------------------------------------------------------------------------------------------


def _parts(draw: Draw, lba: int) -> list[Action]:
    """Return a write as requests side by side, a read around it as one, and a read of the same blocks side by side."""
    write = do("write", nsid=1, lba=lba, blocks=PARTS * BLOCKS, fill=draw.fill(), parts=PARTS)
    return [write, _read(lba - 1, PARTS * BLOCKS + 2), _read(lba, PARTS * BLOCKS, parts=PARTS)]


@scenario("read/parts", "reads that their caller begins side by side, of one block and of many")
def parts_read(draw: Draw) -> Plan:
    lba = draw.between(8, 300)
    many, single = _read(lba, 600, parts=PARTS), _read(lba + 3, PARTS, parts=PARTS)
    return Plan(draw.device(mdts=1), [LOAD, do("identify"), many, single, _read(lba, BLOCKS, parts=1)])


@scenario("write/parts", "writes and reads that their caller begins side by side, and a flush behind them")
def parts_write(draw: Draw) -> Plan:
    lba = draw.between(8, 300)
    return Plan(draw.device(), [LOAD, *_parts(draw, lba), do("flush", nsid=1), _write(draw, lba, 3), _read(lba, 5)])


@scenario("reset/parts", "a reset after requests side by side, and more of them")
def parts_reset(draw: Draw) -> Plan:
    lba = draw.between(8, 300)
    return Plan(draw.device(), [LOAD, *_parts(draw, lba), do("reset"), *_parts(draw, lba + 9), _read(lba, 3, parts=1)])


@scenario("read/parts-error", "one of the reads side by side fails with a media error", hostile=True)
def parts_error(draw: Draw) -> Plan:
    lba = draw.between(8, 300)
    bad = Fault(name="bad", behaviour="completion-status", queue="io", opcode=Read.OPCODE, lba=lba + BLOCKS,
                arguments={"sct": 2, "sc": UNRECOVERED_READ, "dnr": 1})  # fmt: skip
    return Plan(draw.device(), [LOAD, _read(lba, PARTS * BLOCKS, parts=PARTS), _read(lba + 100, BLOCKS, parts=2)], [bad])


@scenario("reset/parts-stall", "one of the reads side by side never completes", hostile=True, command_seconds=PATIENCE)
def parts_stall(draw: Draw) -> Plan:
    lba = draw.between(8, 300)
    lost = Fault(name="lost", behaviour="drop", queue="io", opcode=Read.OPCODE, lba=lba + BLOCKS, times=1)
    return Plan(draw.device(), [LOAD, _read(lba, 2 * BLOCKS, parts=2), _read(lba + 100, BLOCKS, parts=2)], [lost])


@scenario("reset/security", "Security Receive and Send are passed through, which the controller refuses", hostile=True)
def security(draw: Draw) -> Plan:
    sent = [do("raw", queue="admin", opcode=one.OPCODE, nsid=1) for one in (SecurityReceive, SecuritySend)]
    good = do("raw", queue="admin", opcode=GetLogPage.OPCODE)
    flush = do("raw", queue="io", opcode=Flush.OPCODE, nsid=1)
    return Plan(draw.device(identify={"OACS": Oacs.of(SECURITY=1)}), [LOAD, *sent, good, flush, _read(draw.between(8, 900))])


@scenario("reset/sanitize", "Sanitize is passed through, with no action, which the controller refuses", hostile=True)
def sanitize(draw: Draw) -> Plan:
    sent = do("raw", queue="admin", opcode=Sanitize.OPCODE)
    return Plan(draw.device(), [LOAD, sent, _read(draw.between(8, 900))])


@scenario("io-queues/pin", "a controller with INTx only")
def pin_only(draw: Draw) -> Plan:
    return Plan(draw.device(vectors=0), [LOAD, do("noop", nsid=1), *_moves(draw)])


@scenario("detect/dword-only", "registers take accesses of 32 bits only", hostile=True)
def dword_only(draw: Draw) -> Plan:
    return Plan(draw.device(), [LOAD, do("info"), *_moves(draw)], [Fault(name="narrow", behaviour="dword-only")])


@scenario("reset/subsystem", "a controller with NVM Subsystem Reset is reset between reads")
def subsystem(draw: Draw) -> Plan:
    lba = draw.between(8, 900)
    return Plan(draw.device(cap={"NSSRS": 1}), [LOAD, _read(lba), do("reset"), _read(lba), _write(draw, lba), _read(lba)])


@scenario("reset/blind", "registers read all ones for 5 ms after EN=0, while the driver resets the controller", hostile=True)
def blind(draw: Draw) -> Plan:
    blind = Fault(name="blind", behaviour="ones-after-disable", armed=False)
    armed = do("fault", name="blind", armed=True)
    return Plan(draw.device(), [LOAD, *_moves(draw), armed, do("reset"), *_moves(draw)], [blind])


@scenario("reset/slow-shutdown", "a shutdown takes 1500 ms")
def slow_shutdown(draw: Draw) -> Plan:
    slow = Fault(name="slow", behaviour="slow-shutdown", arguments={"ms": 1500})
    return Plan(draw.device(), [LOAD, *_moves(draw), do("shutdown")], [slow])


@scenario("reset/stuck-shutdown", "a shutdown never completes: CSTS.SHST stays 01b", hostile=True)
def stuck_shutdown(draw: Draw) -> Plan:
    stuck = Fault(name="stuck", behaviour="slow-shutdown", arguments={"ms": 10_000_000})
    return Plan(draw.device(), [LOAD, *_moves(draw), do("unload")], [stuck])


@scenario("identify/no-common", "namespace management, and no Identify Namespace of NSID FFFFFFFFh", hostile=True)
def no_common(draw: Draw) -> Plan:
    refused = Fault(name="refused", behaviour="status", queue="admin", opcode=Identify.OPCODE, nsid=EVERY_NAMESPACE,
                    cdw10=Cns.NAMESPACE, arguments={"sc": 0xB, "dnr": 1})  # fmt: skip
    return Plan(draw.device(), [LOAD, do("list"), *_moves(draw)], [refused])


@scenario("write/zeroes-long", "more blocks are zeroed than MDTS would let a Write move")
def zeroes_long(draw: Draw) -> Plan:
    lba = draw.between(1, 300)
    return Plan(draw.device(mdts=1), [LOAD, do("zeroes", nsid=1, lba=lba, blocks=64), _read(lba - 1, 66)])


@scenario("write/no-cache", "a controller without a volatile write cache: a write and a flush")
def no_cache(draw: Draw) -> Plan:
    return Plan(draw.device(write_cache=False), [LOAD, *_moves(draw), do("flush", nsid=1)])


@scenario("reset/many-events", "a controller that takes sixteen event requests, whose namespace goes and comes")
def many_events(draw: Draw) -> Plan:
    changes = [do("detach", nsid=2), do("list", until=[1]), do("attach", nsid=2), do("list", until=[1, 2])]
    return Plan(draw.device(draw.namespace(), draw.namespace(2), identify={"AERL": 15}), [LOAD, *changes])


@scenario("reset/retry-delay", "a Read fails, and is to be retried after a second (CRD)", hostile=True)
def retry_delay(draw: Draw) -> Plan:
    lba = draw.between(8, 900)
    busy = Fault(name="busy", behaviour="status", queue="io", opcode=Read.OPCODE, lba=lba, times=1,
                 arguments={"sc": NAMESPACE_NOT_READY, "crd": 1})  # fmt: skip
    return Plan(draw.device(identify={"CRDT1": 10}), [LOAD, _read(lba), _read(lba)], [busy])


@check("io-queues/pin", cite=PCIE_1_0["3.5"], level=RECOMMENDED, why="practice", witnesses=["out", "wire"],
       scenarios=["io-queues/pin"])  # fmt: skip
def works_by_pin(record: Record) -> Iterator[Finding]:
    """Works with a controller that has INTx only."""
    yield from _usable(record, "a controller that can be used by INTx")


@check("reset/blind", cite=BASE_2_0["3.7.2"], level=RECOMMENDED, why="practice", witnesses=["out", "wire", "fault"],
       needs=["reset"], scenarios=["reset/blind"])  # fmt: skip
def blind_for_a_moment(record: Record) -> Iterator[Finding]:
    """Waits for a controller whose registers cannot be read for a moment while it is reset."""
    for hit in strikes(record)[:1]:
        for asked in record.asked:
            if asked.ended and asked.ended.t > hit.t and asked.action in ("reset", "read"):
                yield Finding(asked.ok, asked.ended, "a controller that is back", asked.said)


@check("reset/stuck-shutdown", cite=BASE_2_0["3.6.1"], level=RECOMMENDED, why="practice", witnesses=["out", "wire", "fault"],
       needs=["unload"], scenarios=["reset/stuck-shutdown"])  # fmt: skip
def stuck_at_shutdown(record: Record) -> Iterator[Finding]:
    """Waits for a shutdown within a bound, and leaves a controller that does not complete it."""
    for asked in record.answers("unload") if strikes(record) else ():
        yield Finding(asked.status != "timeout", asked.ended, "a driver that leaves", asked.said)


@check("identify/no-common", cite=BASE_2_0["5.17"], level=RECOMMENDED, why="practice", witnesses=["out", "wire"],
       scenarios=["identify/no-common"])  # fmt: skip
def without_common(record: Record) -> Iterator[Finding]:
    """Needs no Identify Namespace of NSID FFFFFFFFh to use a namespace."""
    yield from _usable(record, "namespaces that can be used")


def _usable(record: Record, expected: str) -> Iterator[Finding]:
    """Judge whether the driver comes up and its reads succeed."""
    for asked in record.answers("load", "read"):
        if record.saw(asked, Identify, Read) or not asked.ok:  # what the device did not see proves nothing
            yield Finding(asked.ok, asked.ended, expected, asked.said)
