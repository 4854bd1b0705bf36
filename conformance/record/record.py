"""The record of one scenario as checks read it: the events, the one fold over them, and the driver's answers.

`Record.walk` is the only place that rebuilds what a controller was at each moment (enabled, live queues, commands in
flight, epoch since the last reset). Checks read its `State`; none of them rebuilds it.

All checks walk the same record, so what can be known beforehand is: each `Stretch` of it knows the states that it begins with,
which kinds of events it holds, and which of them change anything at all. A walk that names the kinds of events it wants goes
through the stretches that hold them, and there over nothing but them and what changes a state.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import inf
from typing import Any, ClassVar, TypeVar, overload

from lab.data.events import (
    MEMORY_WATCHED,
    ActionEnded,
    ActionStarted,
    Completed,
    ConfigWrite,
    Doorbell,
    Event,
    Interrupt,
    RegisterRead,
    RegisterWrite,
    Remark,
    Reset,
    ShadowDoorbell,
    Submitted,
)
from lab.data.evidence import Evidence
from lab.data.plan import Controller
from lab.data.profile import Profile, read_profiles
from lab.nvme.commands import (
    Command,
    CreateIoCq,
    CreateIoSq,
    DeleteIoCq,
    DeleteIoSq,
    DoorbellBufferConfig,
    LbaCommand,
    SetFeatures,
)
from lab.nvme.completions import Completion
from lab.nvme.features import Fid
from lab.nvme.registers import ACQ, AQA, ASQ, CAP, CC, CSTS

C = TypeVar("C", bound=Command)
E = TypeVar("E", bound=Event)
Kind = type[Event] | type[Command]
"""What an event is: its class, or its command's class if it is a submission."""
Move = Callable[["State", Any], None]
"""What an event does to its controller's state."""
Step = tuple[Kind, str, Event, Move | None]
"""An event as it is walked: with its kind, its controller's id, and its move if it changes anything."""


@dataclass
class SubmissionQueue:
    """A live submission queue. ``tail`` is the last doorbell's value; ``head`` what the last completion told (SQHD), or
    what the controller had fetched where SQHD itself was not seen."""

    qid: int
    size: int
    base: int
    cqid: int
    contiguous: bool = True
    tail: int = 0
    head: int = 0
    fetched: int = 0  # commands taken since it was created


@dataclass
class CompletionQueue:
    """A live completion queue. ``posted`` and ``returned`` count entries since it was created."""

    qid: int
    size: int
    base: int
    vector: int | None
    contiguous: bool = True
    head: int = 0  # the last doorbell's value
    posted: int = 0
    returned: int = 0


@dataclass
class State:
    """One controller between two events. It is the walk's own and changes under its reader's hands: keep no reference."""

    spec: Controller
    profile: Profile | None  # what its registers and Identify data really are, where the lab has read them
    epoch: int = 0  # counts enables
    cc: CC = field(default_factory=CC)
    csts: CSTS | None = None  # as the host last read it; None since CC.EN last changed
    been_ready: bool = False  # has the host read CSTS.RDY=1 since CC.EN became 1?
    pci_command: int | None = None  # PCI Command register as last written; None if no write was seen
    interrupts: str = ""  # how the controller last signalled: msix, msi or intx
    aqa: AQA = field(default_factory=AQA)
    asq: ASQ = field(default_factory=ASQ)
    acq: ACQ = field(default_factory=ACQ)
    written: set[int] = field(default_factory=set)  # dword offsets of registers written since power-on
    sqs: dict[int, SubmissionQueue] = field(default_factory=dict)
    cqs: dict[int, CompletionQueue] = field(default_factory=dict)
    in_flight: dict[tuple[int, int], Submitted] = field(default_factory=dict)  # by (SQID, CID)
    granted: tuple[int, int] | None = None  # I/O (submission, completion) queues granted since the reset
    shadow: tuple[int, int] | None = None
    """Where shadow doorbells and EventIdxs are, once Doorbell Buffer Config has succeeded: not every tail and head of an I/O
    queue is written to a doorbell any more."""

    shadowed: set[tuple[int, bool]] = field(default_factory=set)
    """(queue id, completion) of the queues whose shadow doorbells the record tells."""

    @property
    def cap(self) -> CAP | None:
        return self.profile.cap if self.profile else None

    def transfer_bytes(self, command: Command) -> int | None:
        """How many bytes of data a command moves; None where nobody can say."""
        if isinstance(command, LbaCommand) and command.transfer:
            namespace = self.spec.namespace(command.NSID)
            return command.blocks * namespace.block_size if namespace else None
        return command.data_length

    def rings_all(self, qid: int) -> bool:
        """Is every tail and head of this queue written to its doorbell, so that they tell how full it is?"""
        return qid == 0 or not self.shadow

    @property
    def enabled(self) -> bool:
        return bool(self.cc.EN)

    @property
    def page(self) -> int:
        """The memory page size in bytes that CC.MPS sets."""
        return 4096 << self.cc.MPS

    def answered(self, event: Completed) -> Submitted | None:
        """The submission that a completion ends, while it is still in flight."""
        return self.in_flight.get(event.key)

    def copy(self) -> State:
        """The same state, to be moved by itself."""
        return replace(
            self,
            written=set(self.written),
            sqs={qid: replace(sq) for qid, sq in self.sqs.items()},
            cqs={qid: replace(cq) for qid, cq in self.cqs.items()},
            in_flight=dict(self.in_flight),
            shadowed=set(self.shadowed),
        )

    # -- how it moves -----------------------------------------------------------------------------------------------

    def move(self, event: Event) -> Move | None:
        """What an event does to this state; None if it changes nothing."""
        match event:
            case RegisterRead(offset=CSTS.OFFSET, value=value) if self.csts is None or self.csts != value:
                return State._read
            case RegisterRead() | Interrupt(how=self.interrupts):
                return None
        return State.MOVES.get(type(event))

    def _read(self, event: RegisterRead) -> None:
        self.csts = CSTS(event.value)
        self.been_ready |= self.enabled and bool(self.csts.RDY)

    def _config(self, event: ConfigWrite) -> None:
        if event.offset <= 4 < event.offset + event.size:
            self.pci_command = event.value >> (4 - event.offset) * 8 & 0xFFFF

    def _interrupt(self, event: Interrupt) -> None:
        self.interrupts = event.how

    def _reset(self, event: Reset) -> None:
        self._disable()
        if event.cause not in ("cc-en", "shutdown"):
            self.written.clear()

    def _rung(self, event: Doorbell) -> None:
        if not self.shadowed or (event.qid, event.completion) not in self.shadowed:
            self._told(event)  # else it may be old: the controller has looked at the shadow meanwhile

    def _shadow_rung(self, event: ShadowDoorbell) -> None:
        self.shadowed.add((event.qid, event.completion))
        self._told(event)

    def _told(self, event: Doorbell | ShadowDoorbell) -> None:
        if event.completion and (cq := self.cqs.get(event.qid)):
            cq.returned += (event.value - cq.head) % cq.size
            cq.head = event.value & 0xFFFF
        elif not event.completion and (sq := self.sqs.get(event.qid)):
            sq.tail = event.value & 0xFFFF

    def _submitted(self, event: Submitted) -> None:
        self.in_flight[event.key] = event
        if sq := self.sqs.get(event.sqid):
            sq.fetched += 1

    def _register(self, event: RegisterWrite) -> None:
        self.written.update(range(event.offset & ~3, event.offset + event.size, 4))
        for register, name in ((AQA, "aqa"), (ASQ, "asq"), (ACQ, "acq")):
            shift = (event.offset - register.OFFSET) * 8
            if 0 <= shift < register.SIZE * 8:
                mask = ((1 << event.size * 8) - 1) << shift
                setattr(self, name, register(getattr(self, name) & ~mask | event.value << shift & mask))
        if event.offset == CC.OFFSET:
            self._configure(CC(event.value))

    def _configure(self, cc: CC) -> None:
        was_enabled, self.cc = self.enabled, cc
        if cc.EN and not was_enabled:
            self.epoch += 1
            self.csts, self.been_ready = None, False
            self.sqs[0] = SubmissionQueue(0, self.aqa.ASQS + 1, int(self.asq), cqid=0)
            self.cqs[0] = CompletionQueue(0, self.aqa.ACQS + 1, int(self.acq), vector=0)
        elif was_enabled and not cc.EN:
            self.csts = None
            self._disable()

    def _disable(self) -> None:
        self.cc = self.cc.but(EN=0)
        for live in (self.sqs, self.cqs, self.in_flight, self.shadowed):
            live.clear()
        self.granted = self.shadow = None

    def _completed(self, event: Completed) -> None:
        if cq := self.cqs.get(event.cqid):
            cq.posted += 1
        if sq := self.sqs.get(event.key[0]):
            sq.head = sq.fetched % sq.size if event.head is None else event.head
        if (submitted := self.in_flight.pop(event.key, None)) is None:
            return
        succeed = State.SUCCESSES.get(type(submitted.command))
        if succeed is not None and event.completion.ok:
            succeed(self, submitted.command, event.completion)

    def _cq_created(self, command: CreateIoCq, done: Completion) -> None:
        vector = command.IV if command.IEN else None
        self.cqs[command.QID] = CompletionQueue(command.QID, command.entries, command.PRP1, vector, bool(command.PC))

    def _sq_created(self, command: CreateIoSq, done: Completion) -> None:
        self.sqs[command.QID] = SubmissionQueue(command.QID, command.entries, command.PRP1, command.CQID, bool(command.PC))

    def _cq_deleted(self, command: DeleteIoCq, done: Completion) -> None:
        self.cqs.pop(command.QID, None)

    def _sq_deleted(self, command: DeleteIoSq, done: Completion) -> None:
        self.sqs.pop(command.QID, None)

    def _shadowing(self, command: DoorbellBufferConfig, done: Completion) -> None:
        self.shadow = command.PRP1, command.PRP2

    def _feature_set(self, command: SetFeatures, done: Completion) -> None:
        if command.FID == Fid.NUMBER_OF_QUEUES:
            self.granted = (done.DW0 & 0xFFFF) + 1, (done.DW0 >> 16) + 1

    SUCCESSES: ClassVar[Mapping[type[Command], Callable[[State, Any, Completion], None]]] = {
        CreateIoCq: _cq_created,
        CreateIoSq: _sq_created,
        DeleteIoCq: _cq_deleted,
        DeleteIoSq: _sq_deleted,
        DoorbellBufferConfig: _shadowing,
        SetFeatures: _feature_set,
    }
    """What commands do to it when they succeed; the others do nothing."""

    MOVES: ClassVar[Mapping[type[Event], Move]] = {
        ConfigWrite: _config,
        RegisterRead: _read,
        RegisterWrite: _register,
        Doorbell: _rung,
        ShadowDoorbell: _shadow_rung,
        Submitted: _submitted,
        Completed: _completed,
        Interrupt: _interrupt,
        Reset: _reset,
    }
    """What each kind of event does to it, unless `move` finds that it changes nothing; the others do nothing."""


STRETCH = 1024
"""Events of a stretch. To copy the states that it begins with costs as much as some dozens of moves."""


@dataclass
class Stretch:
    """`STRETCH` successive events of the record, or what is left of it."""

    states: Mapping[str, State]  # just before it, by the controller's id
    steps: list[Step] = field(default_factory=list)
    moves: list[Step] = field(default_factory=list)  # those steps that change a state
    kinds: Counter[Kind] = field(default_factory=Counter)
    still: set[Kind] = field(default_factory=set)  # kinds of events of which at least one changes nothing

    def add(self, event: Event, state: State) -> None:
        """Takes the next event, and moves its controller's state."""
        kind = type(event.command) if isinstance(event, Submitted) else type(event)
        move = state.move(event)
        step = kind, state.spec.id, event, move
        self.steps.append(step)
        self.kinds[kind] += 1
        if move is None:
            self.still.add(kind)
        else:
            self.moves.append(step)
            move(state, event)

    def touches(self, begin: float, end: float) -> bool:
        """Does any of it lie between these times?"""
        return bool(self.steps) and self.steps[0][2].t <= end and begin <= self.steps[-1][2].t


def _copies(states: Mapping[str, State]) -> dict[str, State]:
    return {id: state.copy() for id, state in states.items()}


@dataclass(frozen=True)
class Asked:
    """An action, its arguments and what the driver answered; ``ended`` is None if no answer came."""

    number: int
    action: str
    arguments: Mapping[str, Any]
    started: ActionStarted
    ended: ActionEnded | None
    data: bytes | None

    @property
    def answer(self) -> Mapping[str, Any]:
        return self.ended.answer if self.ended else {}

    @property
    def status(self) -> Any:
        """success, timeout, unsupported, a status code or the driver's words; None if no answer came."""
        return self.answer.get("status")

    @property
    def ok(self) -> bool:
        return bool(self.status == "success")

    def all(self, field: str) -> list[Mapping[str, Any]]:
        """The answer's list of that name, empty if the driver did not give one."""
        return list(self.answer.get(field, ()))


@contextmanager
def _uncollected() -> Iterator[None]:
    """Many objects are made in here and none becomes garbage: Python does not look through them again and again for any."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class Record:
    """One evidence folder as checks read it."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.scenario = evidence.scenario

    @cached_property
    @_uncollected()
    def events(self) -> tuple[Event, ...]:
        """Every event, in the order of time."""
        return tuple(self.evidence.events())

    def all(self, kind: type[E]) -> Sequence[E]:
        """Every event of this class, in the order of time, whosever it is: for what needs no state."""
        return self._by_class.get(kind, ())

    @cached_property
    def _by_class(self) -> Mapping[type[Event], list[Any]]:
        found: dict[type[Event], list[Any]] = {}
        for event in self.events:
            found.setdefault(type(event), []).append(event)
        return found

    @cached_property
    def controllers(self) -> tuple[Controller, ...]:
        """The device's controllers as they were specified."""
        return self.scenario.device.controllers

    @cached_property
    def profiles(self) -> Mapping[str, Profile]:
        """What each controller's registers and Identify data really are, read without the driver."""
        return read_profiles(self.evidence.folder)

    @property
    def exact(self) -> bool:
        """Did the programmable controller record this, which sees and remarks everything?"""
        return bool(self.evidence.identity["device"] == "lab")

    @property
    def unit(self) -> int:
        """The bytes of which the driver reads whole ones (`lab.data.manifest.Limits`); 0 for one that reads single blocks."""
        return int(self.evidence.identity["driver"].get("unit", 0))

    def claims(self, stage: str) -> bool:
        """Does the driver claim to be able to do this stage?"""
        return stage in self.evidence.identity["driver"]["stages"]

    @cached_property
    def memory_watched(self) -> bool:
        """Is what the driver does in its own memory in here too?"""
        return any(remark.name == MEMORY_WATCHED for remark in self.all(Remark))

    @property
    def only_profile(self) -> Profile | None:
        """The profile of the only controller; None if there are several, or none was taken."""
        return next(iter(self.profiles.values())) if len(self.profiles) == 1 else None

    @overload
    def walk(self) -> Iterator[tuple[State, Event]]: ...
    @overload
    def walk(self, *kinds: type[E]) -> Iterator[tuple[State, E]]: ...
    def walk(self, *kinds: type[Event]) -> Iterator[tuple[State, Event]]:
        """Every event of these classes, or every event at all, with its controller's state just before it.

        A check names the classes that it looks at: what changes nothing for it is not even walked over, and where there are no
        such events, nothing is.

        Events of several controllers that the device's record could not tell apart are left out: nothing may be judged
        from a state that is a mixture. So are doorbells of a controller that has lost power, until its driver looks at it.
        """
        return self._walk(self._stretches, self._kinds(kinds))

    def commands(self, *kinds: type[C]) -> Iterator[tuple[State, Submitted, C]]:
        """The submissions of commands of these classes, with the state just before each."""
        for state, event in self._walk(self._stretches, {kind for kind in self._there if issubclass(kind, kinds)}):
            yield state, event, event.command

    @overload
    def during(self, asked: Asked) -> Iterator[tuple[State, Event]]: ...
    @overload
    def during(self, asked: Asked, *kinds: type[E]) -> Iterator[tuple[State, E]]: ...
    def during(self, asked: Asked, *kinds: type[Event]) -> Iterator[tuple[State, Event]]:
        """What the device saw between an action and its answer; of these classes, as `walk` has them."""
        begin, end = asked.started.t, asked.ended.t if asked.ended else inf
        stretches = [stretch for stretch in self._stretches if stretch.touches(begin, end)]
        for state, event in self._walk(stretches, self._kinds(kinds)):
            if begin <= event.t <= end:
                yield state, event

    def _kinds(self, classes: tuple[type[Event], ...]) -> set[Kind]:
        """The kinds of events in the record that belong to these classes; all of them if there are no classes."""
        return {kind for kind in self._there if issubclass(Submitted if issubclass(kind, Command) else kind, classes or Event)}

    def _walk(self, stretches: Iterable[Stretch], wanted: set[Kind]) -> Iterator[tuple[State, Any]]:
        """The events of these kinds, in each stretch up to the last of them, with the state just before each."""
        for stretch in stretches:
            left = sum(stretch.kinds[kind] for kind in wanted)
            if not left:
                continue
            states = _copies(stretch.states)
            for kind, id, event, move in stretch.moves if wanted.isdisjoint(stretch.still) else stretch.steps:
                state = states[id]
                if kind in wanted:
                    yield state, event
                    left -= 1
                if move is not None:
                    move(state, event)
                if not left:
                    break

    @cached_property
    def _there(self) -> set[Kind]:
        """Every kind of event that is walked."""
        return {kind for stretch in self._stretches for kind in stretch.kinds}

    @cached_property
    @_uncollected()
    def _stretches(self) -> list[Stretch]:
        """The record as it is walked: decided once, for all checks."""
        only = self.controllers[0].id if len(self.controllers) == 1 else ""
        states = {spec.id: State(spec, self.profiles.get(spec.id)) for spec in self.controllers}
        found, dark = [Stretch(_copies(states))], set[str]()
        for event in self.events:
            if (id := event.controller or only) not in states:
                continue
            if isinstance(event, Reset) and event.cause == "power":
                dark.add(id)
            elif isinstance(event, RegisterRead | RegisterWrite):
                dark.discard(id)
            if isinstance(event, Doorbell) and id in dark:
                continue
            if len(found[-1].steps) == STRETCH:
                found.append(Stretch(_copies(states)))
            found[-1].add(event, states[id])
        return found

    @cached_property
    def asked(self) -> tuple[Asked, ...]:
        """Every action of the scenario that was begun, in order."""
        ends = {event.number: event for event in self.all(ActionEnded)}
        found = []
        for event in self.all(ActionStarted):
            ended = ends.get(event.number)
            data = self.evidence.answer_bytes(ended.answer) if ended else None
            found.append(Asked(event.number, event.action, event.arguments, event, ended, data))
        return tuple(found)

    def answers(self, *actions: str) -> Iterator[Asked]:
        """The actions of these names that were answered with something else than "unsupported"."""
        for asked in self.asked:
            if asked.action in actions and asked.ended and asked.status != "unsupported":
                yield asked

    def saw(self, asked: Asked, *kinds: type[Command]) -> bool:
        """Did the device see a command of these classes between an action and its answer?

        What a driver says of the medium without a command proves nothing: it may be out of a cache, or invented.
        """
        end = asked.ended.t if asked.ended else inf
        return any(asked.started.t <= e.t <= end and isinstance(e.command, kinds) for e in self.all(Submitted))
