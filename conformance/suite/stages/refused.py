"""Situations in which something is refused, goes on, or is longer than usual: errors of every kind of command, and lists.

Each check has a defect that fails in its scenarios (`lab.defects.refused`), and legal neighbours that do not.
"""

from __future__ import annotations

from collections.abc import Iterator

from conformance.record.record import Asked, Record
from conformance.record.words import listed
from conformance.suite.check import MANDATORY, RECOMMENDED, Finding, check
from conformance.suite.citations import BASE_2_0, NVM_1_0, PCIE_1_0, PRACTICE
from conformance.suite.scenario import LOAD, Draw, Plan, do, scenario
from conformance.suite.stages.reset import strikes
from lab.data.events import Completed, Event, RegisterWrite, Reset, Submitted
from lab.data.plan import Fault
from lab.nvme.commands import (
    AsyncEventRequest,
    CreateIoSq,
    DatasetManagement,
    DeleteIoCq,
    DeleteIoSq,
    Identify,
    LbaCommand,
    Read,
    SetFeatures,
    Write,
    WriteZeroes,
)
from lab.nvme.registers import CC

FAILING = {"sct": 2, "sc": 0x80, "dnr": 1}
"""Write Fault."""
MANY_BLOCKS = 70_000
"""More than NLB can count."""
LIST_LENGTH = 1024
"""Namespace ids of one list."""
SMALL_BLOCKS = 64
"""Blocks of each of many namespaces, at least."""


@scenario("write/zeroes-error", "one block cannot be zeroed, nor written", hostile=True)
def zeroes_error_scenario(draw: Draw) -> Plan:
    lba = draw.between(100, 900)
    bad = [
        Fault(name=kind.__name__.lower(), behaviour="status", queue="io", opcode=kind.OPCODE, lba=lba, arguments=FAILING)
        for kind in (WriteZeroes, Write)
    ]
    asked = [do("zeroes", nsid=1, lba=lba - 4, blocks=8), do("zeroes", nsid=1, lba=lba + 8, blocks=8)]
    return Plan(draw.device(), [LOAD, *asked, do("read", nsid=1, lba=lba - 8, blocks=32)], bad)


@scenario("write/zeroes-many", "more blocks are zeroed than one command can count")
def zeroes_many(draw: Draw) -> Plan:
    lba = draw.between(8, 100)
    blocks = MANY_BLOCKS + draw.between(2000, 4000)
    end = lba + MANY_BLOCKS
    namespace = draw.namespace(blocks=blocks, areas=((0, 256), (lba + (1 << 16) - 128, 256), (end - 64, 128)))
    reads = [do("read", nsid=1, lba=at, blocks=16) for at in (lba - 8, lba + (1 << 16) - 8, end - 8)]
    return Plan(draw.device(namespace), [LOAD, do("zeroes", nsid=1, lba=lba, blocks=MANY_BLOCKS), *reads])


@scenario("features/trim-error", "blocks cannot be trimmed", hostile=True)
def trim_error_scenario(draw: Draw) -> Plan:
    lba = 8 * draw.between(2, 100)
    bad = Fault(name="bad", behaviour="status", queue="io", opcode=DatasetManagement.OPCODE, arguments={"sc": 6, "dnr": 1})
    trim = do("trim", nsid=1, lba=lba, blocks=16)
    return Plan(draw.device(), [LOAD, trim, do("read", nsid=1, lba=lba - 8, blocks=32)], [bad])


@scenario("multi-namespace/hundreds", "more namespaces than one list names", in_process=True)
def hundreds(draw: Draw) -> Plan:
    nsids = [draw.between(1, 3)]
    while len(nsids) < LIST_LENGTH + 2:
        nsids.append(nsids[-1] + (1 if len(nsids) >= LIST_LENGTH else draw.between(1, 2)))
    held = [draw.namespace(nsid, blocks=SMALL_BLOCKS + draw.between(0, 64), areas=((0, 1),)) for nsid in nsids]
    return Plan(draw.device(*held), [LOAD, do("list"), do("read", nsid=nsids[-1], lba=0, blocks=1)])


@scenario("io-queues/second-fails", "the second Create I/O Submission Queue fails", cpus=2, hostile=True)
def second_fails(draw: Draw) -> Plan:
    refused = Fault(name="refused", behaviour="status", queue="admin", opcode=CreateIoSq.OPCODE, nth=2, times=1,
                    arguments={"sc": 6, "dnr": 1})  # fmt: skip
    lba = draw.between(8, 900)
    asked = [do("read", nsid=1, lba=lba + at, blocks=8) for at in (0, 10, 20, 30)]
    return Plan(draw.device(), [LOAD, do("queues"), *asked], [refused])


@scenario("reset/delete-fails", "the controller refuses to delete queues", hostile=True)
def delete_fails(draw: Draw) -> Plan:
    refused = [
        Fault(name=kind.__name__.lower(), behaviour="status", queue="admin", opcode=kind.OPCODE, arguments={"sc": 6, "dnr": 1})
        for kind in (DeleteIoSq, DeleteIoCq)
    ]
    return Plan(draw.device(), [LOAD, do("read", nsid=1, lba=draw.between(8, 900), blocks=8), do("unload")], refused)


@scenario("io-queues/msi", "a controller with MSI and INTx, and without MSI-X")
def msi_only(draw: Draw) -> Plan:
    lba = draw.between(8, 900)
    moved = [do("write", nsid=1, lba=lba, blocks=8, fill=draw.fill()), do("read", nsid=1, lba=lba - 1, blocks=10)]
    return Plan(draw.device(msix=False, vectors=4), [LOAD, do("noop", nsid=1), *moved])


@check("io-queues/msi", cite=PCIE_1_0["3.5"], level=RECOMMENDED, why="practice", witnesses=["out", "wire"],
       scenarios=["io-queues/msi"])  # fmt: skip
def works_by_msi(record: Record) -> Iterator[Finding]:
    """Works with a controller that has no MSI-X."""
    for asked in record.answers("load", "read"):
        if record.saw(asked, Identify, Read) or not asked.ok:
            yield Finding(asked.ok, asked.ended, "a controller that can be used by MSI or INTx", asked.said)


@check("io-queues/second-fails", cite=PRACTICE, level=RECOMMENDED, why="practice", witnesses=["out", "wire", "fault"],
       needs=["read"], scenarios=["io-queues/second-fails"])  # fmt: skip
def one_queue_fails(record: Record) -> Iterator[Finding]:
    """Goes on with the queues that it could create, where another one fails."""
    for asked in record.answers("load", "read") if strikes(record) else ():
        yield Finding(asked.ok, asked.ended, "success by the queues that there are", asked.said)


@check("reset/delete-fails", cite=PRACTICE, level=RECOMMENDED, why="practice", witnesses=["out", "wire", "fault"],
       needs=["unload"], scenarios=["reset/delete-fails"])  # fmt: skip
def leaves_with_queues(record: Record) -> Iterator[Finding]:
    """Leaves a controller that refuses to delete a queue: by a shutdown all the same, and in time."""
    for asked in record.answers("unload") if strikes(record) else ():
        yield Finding(asked.status != "timeout", asked.ended, "a driver that leaves", asked.said)


@check("write/zeroes-error", cite=NVM_1_0["3.2.8"], level=MANDATORY, why="integrity", witnesses=["wire", "fault"],
       needs=["zeroes"], scenarios=["write/zeroes-error"])  # fmt: skip
def zeroes_error(record: Record) -> Iterator[Finding]:
    """Reports that blocks could not be zeroed, unless another command has zeroed them."""
    for asked in record.answers("zeroes") if strikes(record) else ():
        left = _unzeroed(record, asked)
        if left or asked.ok:
            shown = f"{asked.said}, {len(left)} blocks of it were not zeroed"
            yield Finding(not (asked.ok and left), asked.ended, "an error where blocks could not be zeroed", shown)


def _unzeroed(record: Record, asked: Asked) -> set[int]:
    """Return the blocks that no command that changes blocks has changed without an error."""
    lba = int(asked.arguments["lba"])
    left = set(range(lba, lba + int(asked.arguments["blocks"])))
    for state, event in record.during(asked, Completed):
        sent = state.answered(event)
        if sent is not None and event.completion.ok and isinstance(sent.command, Write | WriteZeroes):
            command: LbaCommand = sent.command
            left -= set(range(command.SLBA, command.SLBA + command.blocks))
    return left


@check("features/trim-error", cite=NVM_1_0["3.2.3"], level=RECOMMENDED, why="practice", witnesses=["out", "wire", "fault"],
       needs=["trim"], scenarios=["features/trim-error"])  # fmt: skip
def trim_error(record: Record) -> Iterator[Finding]:
    """Reports that blocks could not be trimmed."""
    for asked in record.answers("trim") if strikes(record) else ():
        yield Finding(not asked.ok, asked.ended, "an error, as Dataset Management has failed", asked.said)


@check("features/set-refused", cite=BASE_2_0["5.27"], level=RECOMMENDED, why="practice", witnesses=["out", "wire", "fault"],
       needs=["set-feature"], scenarios=["features/unsupported"])  # fmt: skip
def set_refused(record: Record) -> Iterator[Finding]:
    """Reports that a feature could not be set, and returns what the device says of it."""
    for asked in record.answers("set-feature"):
        failed = [
            event
            for state, event in record.during(asked, Completed)
            if (sent := state.answered(event)) and isinstance(sent.command, SetFeatures) and not event.completion.ok
        ]
        if failed:
            yield Finding(not asked.ok, asked.ended, f"an error: {failed[-1].completion.text}", asked.said)


@check("multi-namespace/second-list", cite=BASE_2_0["5.17"], level=MANDATORY, why="integrity", witnesses=["out"],
       needs=["list"], scenarios=["multi-namespace/hundreds"])  # fmt: skip
def second_list(record: Record) -> Iterator[Finding]:
    """Reads on where a list of namespaces is full, and misses none of those behind it."""
    there = {n.nsid for controller in record.controllers for n in controller.namespaces if n.attached}
    for asked in record.answers("list"):
        claimed = {claim["nsid"] for claim in asked.all("namespaces") if "nsid" in claim}
        missing, stray = sorted(there - claimed), sorted(claimed - there)
        shown = f"{len(claimed)} namespaces" + (f", without {listed(missing[:8])}" if missing else "")
        shown += f", and {listed(stray[:8])}, which are not there" if stray else ""
        if claimed != there or any(record.commands(Identify)):
            yield Finding(claimed == there, asked.ended, f"{len(there)} namespaces", shown if asked.ok else asked.said)


@check("reset/aer-again", cite=BASE_2_0["5.2"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def event_requests_again(record: Record) -> Iterator[Finding]:
    """Sends Asynchronous Event Requests again after a reset, which has ended those that were outstanding."""
    ended: dict[str, Event] = {}  # by controller: the reset that took outstanding requests away
    used: dict[str, bool] = {}  # whether the driver has used the controller since
    if record.scenario.hostile:
        return
    for state, event in record.walk(RegisterWrite, Reset, Submitted):
        here = state.spec.id
        match event:
            case RegisterWrite(offset=CC.OFFSET, value=value) if state.enabled and not CC(value).EN and not state.shutdown:
                if any(isinstance(one.command, AsyncEventRequest) for one in state.in_flight.values()):
                    ended[here], used[here] = event, False
            case Submitted(command=AsyncEventRequest()) if here in ended:
                yield Finding(True, ended.pop(here), "event requests after the reset", "sent")
            case Submitted() if event.sqid and here in ended:
                used[here] = True
    for here, event in ended.items():
        if used.get(here):
            yield Finding(False, event, "event requests after the reset", "none")
