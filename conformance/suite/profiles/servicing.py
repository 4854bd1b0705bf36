"""Profile servicing: the driver is replaced while its controllers go on.

The predecessor is saved and ends; the successor takes over what it left: enabled controllers, queues, commands in flight, event
requests. What is judged is what the device saw between the two, and what became of every operation. Base 2.0, 3.3.1, 5.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conformance.record.disk import show
from conformance.record.record import Asked, Record
from conformance.suite.check import MANDATORY, RECOMMENDED, Finding, check
from conformance.suite.citations import BASE_2_0, INTEGRITY, PRACTICE
from conformance.suite.scenario import LOAD, Draw, Plan, do, scenario
from lab.data import content
from lab.data.events import Completed, Doorbell, Interrupt, RegisterRead, RegisterWrite, Remark, Reset, Submitted
from lab.data.plan import Action, Controller, DeviceSpec, Fault, Namespace
from lab.nvme.async_events import AsyncEvent
from lab.nvme.commands import AsyncEventRequest, GetLogPage, Identify, LbaCommand, Read, Write
from lab.nvme.registers import CC

EACH = 8
"""Blocks of one command."""
SLOTS = 8
"""Entries of rings that are soon full."""
PATIENCE = 2
"""Seconds after which the driver may take a command for hung."""
SAVE, RESTORE, COLLECT = do("save"), do("restore"), do("collect")
UNHANDLED = "interrupt-unhandled"


def _start(draw: Draw, operations: int, lba: int, *, write: bool = False, **more: object) -> Action:
    """Return the action that starts so many commands over adjacent blocks."""
    filled = {"fill": draw.fill()} if write else {}
    return do("submit", nsid=1, lba=lba, blocks=operations * EACH, each=EACH, **filled, **more)


def _held(**more: object) -> Fault:
    """Return a fault that holds I/O commands until it is switched off."""
    return Fault(name="held", behaviour="hold", queue="io", **more)  # type: ignore[arg-type]


def _let_go() -> Action:
    return do("fault", name="held", armed=False)


def _late(ms: int, name: str = "late", **more: object) -> Fault:
    return Fault(name=name, behaviour="delay", arguments={"ms": ms}, **more)  # type: ignore[arg-type]


@scenario("servicing/two", "two controllers with commands in flight", keep_alive=True, command_seconds=PATIENCE)
def two(draw: Draw) -> Plan:
    controllers = tuple(
        Controller(id=id, serial=draw.serial(), namespaces=(draw.namespace(),), identify={"AERL": 3}) for id in ("nv0", "nv1")
    )
    starts = [
        _start(draw, 6, 64, write=number == 0, controller=one.id) for number, one in enumerate(controllers)
    ]  # fmt: skip
    reads = [do("read", nsid=1, lba=64, blocks=6 * EACH, controller=one.id) for one in controllers]
    return Plan(DeviceSpec(controllers=controllers), [LOAD, *starts, SAVE, RESTORE, COLLECT, *reads], [_late(30, queue="io")])


@scenario("servicing/between", "a command that ends while no driver is there", keep_alive=True, command_seconds=PATIENCE)
def between(draw: Draw) -> Plan:
    actions = [LOAD, _start(draw, 1, 64), SAVE, _let_go(), RESTORE, COLLECT, do("read", nsid=1, lba=64, blocks=EACH)]
    return Plan(draw.device(identify={"AERL": 3}), actions, [_held()])


@scenario("servicing/more", "new commands beside those of the predecessor", keep_alive=True, command_seconds=PATIENCE)
def more(draw: Draw) -> Plan:
    actions = [LOAD, _start(draw, 4, 64), SAVE, RESTORE, _start(draw, 4, 256), do("smart"), COLLECT]
    return Plan(draw.device(identify={"AERL": 3}), actions, [_late(100, queue="io")])


@scenario("servicing/full", f"rings of {SLOTS} entries, full of commands", keep_alive=True, command_seconds=PATIENCE)
def full(draw: Draw) -> Plan:
    starts = _start(draw, 2 * (SLOTS - 1), 64, write=True)
    actions = [LOAD, starts, SAVE, RESTORE, COLLECT, do("read", nsid=1, lba=64, blocks=2 * (SLOTS - 1) * EACH)]
    return Plan(draw.device(cap={"MQES": SLOTS - 1}), actions, [_late(50, queue="io")])


@scenario("servicing/create-cq", "in the middle of Create I/O Completion Queue", keep_alive=True, command_seconds=PATIENCE)
def create_cq(draw: Draw) -> Plan:
    late = Fault(name="late-cq", behaviour="delay", queue="admin", opcode=5, arguments={"ms": 20})
    actions = [LOAD, _start(draw, 4, 64, pairs=1), do("save", during="create-cq"), RESTORE, do("queues"), COLLECT]
    return Plan(draw.device(), [*actions, do("read", nsid=1, lba=64, blocks=8)], [late, _late(50, queue="io")])


@scenario("servicing/abort", "during an Abort", keep_alive=True, command_seconds=PATIENCE)
def abort(draw: Draw) -> Plan:
    late = Fault(name="late-abort", behaviour="late-abort", queue="admin")
    actions = [LOAD, _start(draw, 1, 64), do("save", during="abort"), RESTORE, _let_go(), COLLECT]
    return Plan(draw.device(), actions, [late, _held(lba=64)])  # another command of the successor is not held


@scenario("servicing/twice", "twice in a row, with a command that drains", keep_alive=True, command_seconds=PATIENCE)
def twice(draw: Draw) -> Plan:
    actions = [LOAD, _start(draw, 3, 64, write=True), SAVE, RESTORE, SAVE, RESTORE, COLLECT]
    return Plan(
        draw.device(identify={"AERL": 3}), [*actions, do("read", nsid=1, lba=64, blocks=3 * EACH)], [_late(40, queue="io")]
    )


@scenario("servicing/status", "a command that fails while no driver is there", keep_alive=True, command_seconds=PATIENCE)
def status(draw: Draw) -> Plan:
    bad = Fault(
        name="bad",
        behaviour="status",
        queue="io",
        opcode=Read.OPCODE,
        lba=64 + EACH,
        arguments={"sct": 2, "sc": 0x81, "dnr": 1},
    )
    actions = [LOAD, _start(draw, 3, 64), SAVE, RESTORE, COLLECT]
    return Plan(draw.device(), actions, [bad, _late(20, queue="io")])


@scenario("servicing/namespaces", "a namespace goes away while no driver is there", keep_alive=True, command_seconds=PATIENCE)
def namespaces(draw: Draw) -> Plan:
    device = draw.device(draw.namespace(1), draw.namespace(2), identify={"AERL": 3})
    actions = [LOAD, _start(draw, 2, 64), SAVE, do("detach", nsid=2), RESTORE, COLLECT, do("list", until=[1])]
    return Plan(device, actions, [_late(20, queue="io")])


@scenario("servicing/fails", "a controller that fails right after the hand-over", hostile=True, keep_alive=True,
          command_seconds=PATIENCE)  # fmt: skip
def fails(draw: Draw) -> Plan:
    fatal = Fault(name="fatal", behaviour="fatal", queue="io", opcode=Read.OPCODE, times=1, armed=False)
    actions = [LOAD, SAVE, RESTORE, do("fault", name="fatal", armed=True), _start(draw, 2, 64), COLLECT]
    return Plan(draw.device(), [*actions, do("read", nsid=1, lba=64, blocks=8)], [fatal])


@scenario("servicing/off", "without keep-alive", command_seconds=PATIENCE)
def off(draw: Draw) -> Plan:
    actions = [LOAD, _start(draw, 4, 64, write=True), SAVE, RESTORE, COLLECT, do("read", nsid=1, lba=64, blocks=4 * EACH)]
    return Plan(draw.device(), actions, [_late(20, queue="io")])


KEPT = ("servicing/two", "servicing/between", "servicing/more", "servicing/full", "servicing/create-cq", "servicing/abort",
        "servicing/twice", "servicing/status", "servicing/namespaces")  # fmt: skip
"""Scenarios with keep-alive whose controllers stay healthy."""
UNCHANGED = tuple(name for name in KEPT if name != "servicing/namespaces")
FLOWING = (*KEPT, "servicing/fails", "servicing/off")
NEEDS = ("submit", "collect", "save", "restore")
KEEPS: dict[str, Any] = {"needs": NEEDS, "scenarios": KEPT}
ONLY_WRITTEN = ("servicing/two", "servicing/full", "servicing/twice", "servicing/off")
"""Scenarios that write."""


# -- what a hand-over is --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HandOver:
    """A predecessor's end and its successor's beginning."""

    saved: Asked
    restored: Asked

    @property
    def begin(self) -> float:
        """When the driver was asked to save."""
        return self.saved.started.t

    @property
    def end(self) -> float:
        """When the successor said that it has taken over."""
        assert self.restored.ended is not None
        return self.restored.ended.t

    def covers(self, t: float) -> bool:
        """Return whether a moment belongs to the hand-over."""
        return self.begin <= t <= self.end


def hand_overs(record: Record) -> Iterator[HandOver]:
    """Yield the hand-overs that both drivers say have worked, and after which the device heard of the successor."""
    heard = max((event.t for kind in (Doorbell, RegisterWrite, RegisterRead) for event in record.all(kind)), default=0.0)
    saved: Asked | None = None
    for asked in record.answers("save", "restore"):
        if asked.action == "save":
            saved = asked if asked.ok else None
        elif saved is not None and asked.ok and asked.started.t <= heard:
            yield HandOver(saved, asked)
            saved = None


@check(
    "servicing/restored", cite=PRACTICE, level=RECOMMENDED, why="practice", witnesses=["out"], needs=NEEDS, scenarios=FLOWING
)
def restored(record: Record) -> Iterator[Finding]:
    """Saves itself and takes over again when asked."""
    for asked in record.answers("save", "restore"):
        yield Finding(asked.ok, asked.ended, "success", asked.said)


@check("servicing/no-reset", cite=PRACTICE, level=RECOMMENDED, why="practice", witnesses=["wire"], **KEEPS)
def no_reset(record: Record) -> Iterator[Finding]:
    """Leaves the controller enabled: no reset of any kind between the request to save and the end of the hand-over."""
    for one in hand_overs(record):
        resets = [event for event in record.all(Reset) if one.covers(event.t)]
        for event in resets:
            yield Finding(False, event, "no reset during the hand-over", f"a reset by {event.cause}")
        if not resets:
            yield Finding(True, one.restored.ended, "no reset during the hand-over", "none")


@check(
    "servicing/known", cite=PRACTICE, level=RECOMMENDED, why="practice", witnesses=["wire"], needs=NEEDS, scenarios=UNCHANGED
)
def known(record: Record) -> Iterator[Finding]:
    """Asks for nothing again that the predecessor knew: no Identify while it takes over."""
    for one in hand_overs(record):
        asked = [(event, command) for _, event, command in record.commands(Identify) if one.restored.covers(event)]
        for event, command in asked:
            yield Finding(False, event, "no Identify", f"Identify with CNS {command.CNS:02X}h", ("CNS",))
        if not asked:
            yield Finding(True, one.restored.ended, "no Identify", "none")


@dataclass(frozen=True)
class Operation:
    """One operation as it was asked for."""

    controller: str
    namespace: Namespace
    lba: int
    fill: int | None

    @property
    def key(self) -> tuple[str, int, bool]:
        """What distinguishes it from the others: its controller, its first block, and whether it writes."""
        return self.controller, self.lba, self.fill is not None

    @property
    def data(self) -> bytes:
        """What a write writes."""
        assert self.fill is not None
        return content.blocks(self.fill, self.namespace.nsid, self.lba, EACH, self.namespace.block_size)


def _operations(record: Record, asked: Asked) -> Iterator[Operation]:
    """Yield the operations of a `submit`."""
    wanted = asked.arguments.get("controller", record.controllers[0].id)
    namespace = next(one.namespace(asked.arguments["nsid"]) for one in record.controllers if one.id == wanted)
    assert namespace is not None
    begin = int(asked.arguments["lba"])
    for lba in range(begin, begin + int(asked.arguments["blocks"]), int(asked.arguments["each"])):
        yield Operation(wanted, namespace, lba, asked.arguments.get("fill"))


@check("servicing/ended", cite=INTEGRITY, level=MANDATORY, why="integrity", witnesses=["out", "wire"], needs=NEEDS,
       scenarios=FLOWING)  # fmt: skip
def ended(record: Record) -> Iterator[Finding]:
    """Ends every operation exactly once, as the device has ended it, and with the right data."""
    started: list[Operation] = []
    begun = 0.0
    for asked in record.answers("submit", "collect"):
        if asked.action == "submit":
            if not asked.ok:  # nobody knows what was started
                return
            begun = begun or asked.started.t
            started += _operations(record, asked)
            continue
        answers = asked.all("operations")
        if not asked.ok or len(answers) != len(started):
            yield Finding(False, asked.ended, f"the end of {len(started)} operations", f"{asked.said}: {len(answers)} ended")
            return
        yield from _compare(record, asked, begun, started, answers)
        started, begun = [], 0.0


def _compare(
    record: Record, asked: Asked, begun: float, started: Sequence[Operation], answers: Sequence[Mapping[str, Any]]
) -> Iterator[Finding]:
    """Compare what the driver says of operations with what the device said, and their data with what the disk held."""
    data, at = asked.data or b"", 0
    said = _said(record, begun, asked)
    for operation, answer in zip(started, answers, strict=True):
        good, device = answer.get("status") == "success", said.get(operation.key)
        words = {True: "success", False: "a failure", None: "no completion, or a reset"}[device]
        right = good == bool(device) and (device is not None or record.scenario.hostile)
        yield Finding(right, asked.ended, f"{words} of the operation at LBA {operation.lba}", answer.get("status"))
        if not good or operation.fill is not None:
            continue
        size = EACH * operation.namespace.block_size
        found, at = data[at : at + size], at + size
        seed = record.scenario.seed
        expected = b"".join(content.initial(seed, operation.namespace, operation.lba + block) for block in range(EACH))
        yield Finding(found == expected, asked.ended, f"{show(expected)} at LBA {operation.lba}", show(found))


def _said(record: Record, begun: float, collected: Asked) -> Mapping[tuple[str, int, bool], bool]:
    """Return whether the device ended commands with success, by controller, first block, and whether it is a write."""
    found = {}
    for event in record.all(Completed):
        owner = record.owner(event)
        if owner is None or event.t < begun or not isinstance(owner.command, Read | Write):
            continue
        if collected.ended is None or event.t <= collected.ended.t:
            key = event.controller or record.controllers[0].id, owner.command.SLBA, isinstance(owner.command, Write)
            found[key] = event.completion.ok
    return found


@check("servicing/written", cite=INTEGRITY, level=MANDATORY, why="integrity", witnesses=["store"], needs=NEEDS,
       scenarios=ONLY_WRITTEN)  # fmt: skip
def written(record: Record) -> Iterator[Finding]:
    """Leaves on the disk what every write that succeeded has written, and nothing else in its place."""
    if not any(record.commands(Write)):
        return  # what the device never saw proves nothing
    succeeded = all(one.get("status") == "success" for asked in record.answers("collect") for one in asked.all("operations"))
    for asked in record.answers("submit") if succeeded else ():
        controller = asked.arguments.get("controller", record.controllers[0].id)
        image = record.evidence.image(controller, int(asked.arguments["nsid"]))
        if image is None or "fill" not in asked.arguments:
            continue
        with image.open("rb") as file:
            for operation in _operations(record, asked):
                file.seek(operation.lba * operation.namespace.block_size)
                found = file.read(len(operation.data))
                yield Finding(
                    found == operation.data, asked.ended, f"{show(operation.data)} at LBA {operation.lba}", show(found)
                )


@check("servicing/once", cite=INTEGRITY, level=MANDATORY, why="integrity", witnesses=["wire"], **KEEPS)
def once(record: Record) -> Iterator[Finding]:
    """Sends no command of the predecessor again while it is in flight."""
    handing = tuple(hand_overs(record))
    for state, event, command in record.commands(Read, Write):
        if not any(event.t >= one.restored.started.t for one in handing):
            continue
        same = [
            other
            for other in state.in_flight.values()
            if isinstance(other.command, LbaCommand)
            and (other.command.OPC, other.command.NSID, other.command.SLBA, other.command.NLB)
            == (command.OPC, command.NSID, command.SLBA, command.NLB)
        ]
        yield Finding(
            not same, event, "a command that is not in flight", f"{len(same)} with the same blocks in flight", ("SLBA",)
        )
    for one in handing:
        yield Finding(True, one.restored.ended, "no command sent twice", "none")


@check("servicing/cid", cite=BASE_2_0["3.3.3.1"], level=MANDATORY, why="shall", witnesses=["wire"], **KEEPS)
def cid(record: Record) -> Iterator[Finding]:
    """Gives no command the identifier of one that the predecessor has left in flight on the same queue."""
    handing = tuple(hand_overs(record))
    for state, event in record.walk(Submitted):
        if any(event.t >= one.restored.started.t for one in handing):
            yield Finding(
                event.key not in state.in_flight, event, "a CID that is not in use", f"CID {event.command.CID}", ("CID",)
            )


@check("servicing/event-limit", cite=BASE_2_0["5.2"], level=RECOMMENDED, why="practice", witnesses=["wire"], **KEEPS)
def event_limit(record: Record) -> Iterator[Finding]:
    """Keeps at most AERL+1 event requests outstanding, those of the predecessor included."""
    for state, event, _ in record.commands(AsyncEventRequest):
        if state.profile:
            limit = state.profile.controller.AERL + 1
            flying = sum(isinstance(one.command, AsyncEventRequest) for one in state.in_flight.values())
            yield Finding(flying < limit, event, f"at most {limit} outstanding", f"{flying} before this one")


@check("servicing/event-kept", cite=BASE_2_0["5.2"], level=RECOMMENDED, why="practice", witnesses=["wire"], needs=NEEDS,
       scenarios=["servicing/namespaces"])  # fmt: skip
def event_kept(record: Record) -> Iterator[Finding]:
    """Acts on an event that was reported while no driver was there: it reads the log page, and requests events again."""
    for one in hand_overs(record):
        for event in record.all(Completed):
            owner = record.owner(event)
            if owner is None or not isinstance(owner.command, AsyncEventRequest) or not one.covers(event.t):
                continue
            lid = AsyncEvent(event.completion.DW0).LID
            read = any(log.LID == lid and sent.t > event.t for _, sent, log in record.commands(GetLogPage))
            yield Finding(read, event, f"log page {lid:02X}h is read", "it is not read")
            again = any(sent.t > event.t for _, sent, _ in record.commands(AsyncEventRequest))
            yield Finding(again, event, "another event request", "none is sent")


@check(
    "servicing/interrupts", cite=PRACTICE, level=RECOMMENDED, why="practice", witnesses=["wire"], needs=NEEDS, scenarios=KEPT
)
def interrupts(record: Record) -> Iterator[Finding]:
    """Listens to the interrupts of its queues once it has taken over."""
    for one in hand_overs(record):
        unhandled = [event for event in record.all(Remark) if event.name == UNHANDLED and event.t > one.end]
        later = (asked.started.t for asked in record.answers("save") if asked.started.t > one.end)
        until = min(later, default=float("inf"))
        missed = [event for event in unhandled if event.t < until]
        for event in missed:
            yield Finding(False, event, "a handler of every vector", f"nobody listens to vector {event.detail.get('vector')}")
        came = [event for event in record.all(Interrupt) if one.end < event.t < until]
        if came and not missed:
            yield Finding(True, came[0], "a handler of every vector", "all were handled")


@check("servicing/orderly", cite=BASE_2_0["3.6.1"], level=RECOMMENDED, why="should", witnesses=["wire"], needs=NEEDS,
       scenarios=["servicing/off"])  # fmt: skip
def orderly(record: Record) -> Iterator[Finding]:
    """Without keep-alive: ends what is in flight, then shuts the controller down or disables it, before it is replaced."""
    for asked in record.answers("save"):
        if not asked.ok or asked.ended is None:
            continue
        configured = [event for _, event in record.during(asked, RegisterWrite) if event.offset == CC.OFFSET]
        writes = [event for event in configured if CC(event.value).SHN or not CC(event.value).EN]
        yield Finding(bool(writes), asked.ended, "CC.SHN is written, or CC.EN=0", "neither")
        for state, event in record.during(asked, RegisterWrite):
            if event in writes:
                flying = sum(key[0] > 0 for key in state.in_flight)
                yield Finding(not flying, event, "no I/O command in flight at the shutdown", f"{flying}")
