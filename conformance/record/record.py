"""The record of one scenario as checks read it: the events, the one fold over them, and the driver's answers.

`Record.walk` folds the events over `conformance.record.state.State`. Checks read that state; none of them rebuilds it.

All checks walk the same record, so it is folded once: each event is kept with the state just before it (`Sight`), by its kind,
and a walk that names the kinds of events it wants goes over nothing else.

Where that would take too much memory (`KEPT_BYTES`), the rest of a long record is folded anew by each walk. Each `Stretch` of
it knows the states that it begins with, which kinds of events it holds, and which of them change anything at all.
"""

from __future__ import annotations

import gc
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from math import inf
from operator import itemgetter
from typing import Any, TypeVar, overload

from conformance.record.state import NAMESPACE_CHANGED, Move, State, changed_spec
from conformance.record.words import words
from lab.data.events import (
    MEMORY_WATCHED,
    ActionEnded,
    ActionStarted,
    Completed,
    Dma,
    DmaMap,
    Doorbell,
    Event,
    FaultInjected,
    Plugged,
    PrpList,
    RegisterRead,
    RegisterWrite,
    Remark,
    Reset,
    Submitted,
)
from lab.data.evidence import Evidence
from lab.data.plan import MACHINE, Controller, Namespace
from lab.data.profile import Profile, read_profiles
from lab.nvme.commands import Command
from lab.nvme.registers import CAP, CC, CSTS, VS

C = TypeVar("C", bound=Command)
E = TypeVar("E", bound=Event)
T = TypeVar("T")
Kind = type[Event] | type[Command]
"""What an event is: its class, or its command's class if it is a submission."""
Step = tuple[Kind, str, Event, Move | None]
"""An event as it is walked: with its kind, its controller's id, and its move if it changes anything."""
Sight = tuple[State, Any]
"""An event with its controller's state just before it."""

REMOVED = "removed"
"""The behaviour that takes a controller away: its registers read all ones."""
ALL_ONES = 0xFFFF_FFFF
NEVER_ALL_ONES = frozenset({CAP.OFFSET, VS.OFFSET, CC.OFFSET, CSTS.OFFSET})
"""Registers that read all ones only where there is no controller any more."""
ABOUT_PRESENCE = frozenset({Reset, RegisterRead, RegisterWrite, Plugged, FaultInjected})
"""Events by which a controller goes away, loses power, or is seen again."""

STRETCH = 1024
"""Events of a stretch. To find the beginning of what a walk wants costs as much as some dozens of moves."""
KEPT_BYTES = 256 << 20
"""Memory for the states of a record's events: those of some 300,000."""
STATE_BYTES, IN_FLIGHT_BYTES = 700, 40
"""What an event's state takes of it, and each command that is in flight there."""


@dataclass
class Stretch:
    """`STRETCH` successive events of the record, or what is left of it."""

    states: Mapping[str, State]  # just before it, by the controller's id
    steps: list[Step] = field(default_factory=list)
    moves: list[Step] = field(default_factory=list)  # those steps that change a state
    kinds: Counter[Kind] = field(default_factory=Counter)
    still: set[Kind] = field(default_factory=set)  # kinds of events of which at least one changes nothing

    def add(self, event: Event, state: State) -> None:
        """Take the next event, and move its controller's state."""
        kind, move = _kind(event), state.move(event)
        step = kind, state.spec.id, event, move
        self.steps.append(step)
        self.kinds[kind] += 1
        if move is None:
            self.still.add(kind)
        else:
            self.moves.append(step)
            move(state, event)

    def touches(self, begin: float, end: float) -> bool:
        """Return whether any of it lies between these times."""
        return bool(self.steps) and self.steps[0][2].t <= end and begin <= self.steps[-1][2].t


def _copies(states: Mapping[str, State]) -> dict[str, State]:
    return {id: state.copy() for id, state in states.items()}


class Sights:
    """The beginning of a record, of which each event is kept with the state just before it."""

    def __init__(self) -> None:
        """Begin with no event."""
        self.kinds: dict[Kind, list[tuple[int, Sight]]] = {}
        self._count = 0
        self._room = KEPT_BYTES
        self._chosen: dict[frozenset[Kind], Sequence[Sight]] = {}
        self._latest, self._in_order = -inf, True
        """The time of the last event, and whether all times are in order, which a damaged record's may not be."""

    @property
    def has_room(self) -> bool:
        """Return whether another event may be kept."""
        return self._room > 0

    def add(self, event: Event, state: State) -> State:
        """Keep the next event with its controller's state, and return the state after it."""
        kind = _kind(event)
        if kind not in self.kinds:
            self.kinds[kind] = []
        self.kinds[kind].append((self._count, (state, event)))
        self._count += 1
        self._room -= STATE_BYTES + IN_FLIGHT_BYTES * len(state.in_flight)
        self._in_order &= self._latest <= event.t
        self._latest = event.t
        return state.after(event)

    def of(self, wanted: frozenset[Kind]) -> Sequence[Sight]:
        """Return the events of these kinds, in order."""
        if wanted not in self._chosen:
            numbered = [self.kinds[kind] for kind in wanted if kind in self.kinds]
            in_order = numbered[0] if len(numbered) == 1 else sorted(chain.from_iterable(numbered), key=itemgetter(0))
            self._chosen[wanted] = [sight for _, sight in in_order]
        return self._chosen[wanted]

    def within(self, wanted: frozenset[Kind], begin: float, end: float) -> Sequence[Sight]:
        """Return the events of these kinds that happened between these times."""
        found = self.of(wanted)
        if not self._in_order:
            return [sight for sight in found if begin <= sight[1].t <= end]
        return found[bisect_left(found, begin, key=_time) : bisect_right(found, end, key=_time)]


def _kind(event: Event) -> Kind:
    return type(event.command) if isinstance(event, Submitted) else type(event)


def _time(sight: Sight) -> float:
    time: float = sight[1].t
    return time


def _fold(stretches: Iterable[Stretch], wanted: frozenset[Kind]) -> Iterator[Sight]:
    """Yield the events of these kinds, in each stretch up to the last of them, with the state just before each."""
    for stretch in stretches:
        left = sum(stretch.kinds[kind] for kind in wanted)
        if not left:
            continue
        states = dict(stretch.states)
        for kind, id, event, move in stretch.moves if wanted.isdisjoint(stretch.still) else stretch.steps:
            state = states[id]
            if kind in wanted:
                yield state, event
                left -= 1
            if move is not None:
                states[id] = moved = state.copy()
                move(moved, event)
            if not left:
                break


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
        """The fields of the driver's answer; empty if no answer came."""
        return self.ended.answer if self.ended else {}

    @property
    def status(self) -> Any:
        """success, timeout, unsupported, a status code or the driver's words; None if no answer came."""
        return self.answer.get("status")

    @property
    def said(self) -> str:
        """The status in words."""
        return "no answer" if self.status is None else words(self.status)

    @property
    def ok(self) -> bool:
        """Whether the driver answered "success"."""
        return bool(self.status == "success")

    def covers(self, event: Event) -> bool:
        """Return whether an event happened between the action and its answer."""
        return self.started.t <= event.t <= (self.ended.t if self.ended else inf)

    def all(self, field: str) -> list[Mapping[str, Any]]:
        """Return the answer's list of that name, empty if the driver did not give one."""
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
        """Read a finished evidence folder; events are read when they are first needed."""
        self.evidence = evidence
        self.scenario = evidence.scenario
        self._kinds_of: dict[tuple[type[Event], ...], frozenset[Kind]] = {}
        self._found: dict[Callable[[Record], Iterable[Any]], Sequence[Any]] = {}

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

    def once(self, function: Callable[[Record], Iterable[T]]) -> Sequence[T]:
        """Return all that a function finds in this record, which several checks want and which is found once."""
        if function not in self._found:
            self._found[function] = tuple(function(self))
        found: Sequence[T] = self._found[function]
        return found

    @cached_property
    def controllers(self) -> tuple[Controller, ...]:
        """The device's controllers as they were specified."""
        return self.scenario.device.controllers

    def spec_at(self, controller: Controller, event: Event | None) -> Controller:
        """Return a controller as it was specified, with the sizes and formats that its namespaces had at an event."""
        for remark in self.all(Remark):
            if remark.name == NAMESPACE_CHANGED and remark.controller == controller.id and event and remark.t <= event.t:
                controller = changed_spec(controller, remark)
        return controller

    def largest(self, controller: str, namespace: Namespace) -> int:
        """Return the blocks of a namespace, or those from before it became smaller: a driver need not know that yet."""
        first = next((spec.namespace(namespace.nsid) for spec in self.controllers if spec.id == controller), None)
        return max(namespace.blocks, first.blocks if first and first.block_size == namespace.block_size else 0)

    @cached_property
    def profiles(self) -> Mapping[str, Profile]:
        """What each controller's registers and Identify data really are, read without the driver."""
        return read_profiles(self.evidence.folder)

    @property
    def exact(self) -> bool:
        """Whether the programmable controller recorded this, which sees and remarks everything."""
        return self.evidence.identity.device == "lab"

    @property
    def has_wire(self) -> bool:
        """Whether anybody could see what the device saw; nobody can at a real machine."""
        return self.evidence.identity.device != MACHINE

    @property
    def unit(self) -> int:
        """The bytes of which the driver reads whole ones (`lab.data.manifest.Limits`); 0 for one that reads single blocks."""
        return self.evidence.identity.driver.unit

    @property
    def shows_lending(self) -> bool:
        """Whether `DmaMap` events are the driver's doing: in this process, or behind an IOMMU that is on.

        Else they are the machine's, which maps its memory anew whenever its firmware changes what is where.
        """
        if not self.exact or self.evidence.identity.qemu is None:
            return self.exact
        return bool(self.scenario.guest.get("iommu")) and not self.sees_the_machine

    @cached_property
    def sees_the_machine(self) -> bool:
        """Whether a controller was enabled while it could reach both ends of a PC's lower 4 GiB: RAM and the firmware."""
        open_: set[range] = set()
        for event in self.events:
            if isinstance(event, DmaMap):
                span = range(event.address, event.address + event.length)
                open_ = {other for other in open_ if other.stop <= span.start or span.stop <= other.start}
                open_ |= {span} if event.mapped else set()
            elif isinstance(event, RegisterWrite) and event.offset == CC.OFFSET and CC(event.value).EN:
                starts, ends = {span.start for span in open_}, {span.stop for span in open_}
                if 0 in starts and 1 << 32 in ends:
                    return True
        return False

    def claims(self, stage: str) -> bool:
        """Return whether the driver claims this stage."""
        return stage in self.evidence.identity.driver.stages

    @cached_property
    def memory_watched(self) -> bool:
        """Whether the record has the driver's accesses to its own memory too."""
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

        Events of several controllers that the device's record could not distinguish are left out: nothing may be judged
        from a state that is a mixture. So are doorbells of a controller that has lost power, until its driver looks at it, and
        all writes to one that is gone.
        """
        return self._walk(self._kinds(kinds))

    def commands(self, *kinds: type[C]) -> Iterator[tuple[State, Submitted, C]]:
        """Return the submissions of commands of these classes, with the state just before each."""
        for state, event in self._walk(frozenset(kind for kind in self._there if issubclass(kind, kinds))):
            yield state, event, event.command

    @overload
    def during(self, asked: Asked) -> Iterator[tuple[State, Event]]: ...
    @overload
    def during(self, asked: Asked, *kinds: type[E]) -> Iterator[tuple[State, E]]: ...
    def during(self, asked: Asked, *kinds: type[Event]) -> Iterator[tuple[State, Event]]:
        """Return what the device saw between an action and its answer; of these classes, as `walk` has them."""
        begin, end = asked.started.t, asked.ended.t if asked.ended else inf
        wanted, (sights, rest) = self._kinds(kinds), self._folded
        yield from sights.within(wanted, begin, end)
        for state, event in _fold([stretch for stretch in rest if stretch.touches(begin, end)], wanted):
            if begin <= event.t <= end:
                yield state, event

    def _kinds(self, classes: tuple[type[Event], ...]) -> frozenset[Kind]:
        """Return the kinds of events in the record that belong to these classes; all of them if there are no classes."""
        if classes not in self._kinds_of:
            self._kinds_of[classes] = frozenset(
                kind for kind in self._there if issubclass(Submitted if issubclass(kind, Command) else kind, classes or Event)
            )
        return self._kinds_of[classes]

    def _walk(self, wanted: frozenset[Kind]) -> Iterator[Sight]:
        """Return the events of these kinds, with the state just before each."""
        sights, rest = self._folded
        yield from sights.of(wanted)
        yield from _fold(rest, wanted)

    @cached_property
    def _there(self) -> set[Kind]:
        """Every kind of event that is walked."""
        sights, rest = self._folded
        return {*sights.kinds, *(kind for stretch in rest for kind in stretch.kinds)}

    def _goes_away(self, event: Event) -> bool:
        """Return whether a controller leaves its slot here, or is seen to have left. Its driver cannot know at once."""
        match event:
            case Plugged(present=False):
                return True
            case FaultInjected(fault=name):
                return name in self._removals
            case RegisterRead(offset=offset, value=value):
                return offset in NEVER_ALL_ONES and value & ALL_ONES == ALL_ONES
        return False

    @cached_property
    def was_removed(self) -> bool:
        """Whether a fault has taken a controller away: what the driver wrote in that moment is lost, and not in the record."""
        return any(event.fault in self._removals for event in self.all(FaultInjected))

    @cached_property
    def _removals(self) -> frozenset[str]:
        """The faults that take a controller away."""
        return frozenset(fault.name for fault in self.scenario.faults if fault.behaviour == REMOVED)

    @cached_property
    @_uncollected()
    def _folded(self) -> tuple[Sights, list[Stretch]]:
        """The record as it is walked, once for all checks: what is kept of it, and the rest."""
        only = self.controllers[0].id if len(self.controllers) == 1 else ""
        states = {spec.id: State(spec, self.profiles.get(spec.id)) for spec in self.controllers}
        sights, rest, dark, gone = Sights(), list[Stretch](), set[str](), set[str]()
        for event in self.events:
            if (id := event.controller or only) not in states:
                continue
            if type(event) in ABOUT_PRESENCE:
                if isinstance(event, Reset) and event.cause == "power":
                    dark.add(id)
                elif isinstance(event, (RegisterRead, RegisterWrite)):
                    dark.discard(id)
                if self._goes_away(event):
                    gone.add(id)
                elif isinstance(event, RegisterRead) and event.value & ALL_ONES != ALL_ONES:
                    gone.discard(id)
            if id in gone and isinstance(event, (Doorbell, RegisterWrite)):
                continue
            if id in dark and isinstance(event, Doorbell):
                continue
            if sights.has_room:
                states[id] = sights.add(event, states[id])
                continue
            if not rest or len(rest[-1].steps) == STRETCH:
                rest.append(Stretch(states))
                states = _copies(states)  # those of the stretch, and of what is kept, stay as they are
            rest[-1].add(event, states[id])
        return sights, rest

    @cached_property
    def _owners(self) -> Mapping[int, Submitted]:
        """The submission that each event belongs to, by the event's identity.

        A command lives from its submission until the next one that takes its identifier, or a reset.
        """
        living: dict[tuple[str, int, int], Submitted] = {}
        found: dict[int, Submitted] = {}
        for event in self.events:
            match event:
                case Submitted():
                    living[event.controller, *event.key] = event
                case Completed() if owner := living.get((event.controller, *event.key)):
                    found[id(event)] = owner
                case PrpList() | Dma() | FaultInjected() if owner := living.get((event.controller, event.sqid, event.cid)):
                    found[id(event)] = owner
                case Remark(detail={"sqid": int(sqid), "cid": int(cid)}) if owner := living.get((event.controller, sqid, cid)):
                    found[id(event)] = owner
                case Reset() if event.cause != "shutdown":
                    living = {key: owner for key, owner in living.items() if key[0] != event.controller}
        return found

    def owner(self, event: Event) -> Submitted | None:
        """Return the submission of the command that a list, a transfer, a remark, a fault or a completion belongs to."""
        return self._owners.get(id(event))

    @cached_property
    def _lists(self) -> Mapping[int, Sequence[PrpList]]:
        found: dict[int, list[PrpList]] = {}
        for event in self.all(PrpList):
            if (owner := self.owner(event)) is not None:
                found.setdefault(id(owner), []).append(event)
        return found

    def prp_lists(self, command: Submitted) -> Sequence[PrpList]:
        """Return the PRP list pages that the controller read for this very command, in order."""
        return self._lists.get(id(command), ())

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

    def driver_since(self, t: float) -> float:
        """Return the moment from which a driver was there for what happened at ``t``: later, if it was being replaced then."""
        left: float | None = None
        for asked in self.answers("save", "restore"):
            if asked.action == "save":
                left = asked.started.t
            elif left is not None and asked.ended is not None:
                if left <= t <= asked.ended.t:
                    return asked.ended.t
                left = None
        return t

    def answers(self, *actions: str) -> Iterator[Asked]:
        """Return the actions of these names that were answered by anything but "unsupported"."""
        for asked in self.asked:
            if asked.action in actions and asked.ended and asked.status != "unsupported":
                yield asked

    def saw(self, asked: Asked, *kinds: type[Command]) -> bool:
        """Return whether the device saw a command of these classes between an action and its answer.

        What a driver says of the medium without a command proves nothing: it may be from a cache, or invented.
        """
        end = asked.ended.t if asked.ended else inf
        return any(asked.started.t <= e.t <= end and isinstance(e.command, kinds) for e in self.all(Submitted))
