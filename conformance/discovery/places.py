"""Where a fault can strike: every command, access to BAR0, enabling, disabling and shutdown of a calm recording."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from conformance.discovery.behaviours import RECOVERY, PlaceKind
from lab.data.events import ActionStarted, Dma, Doorbell, Event, FaultInjected, RegisterRead, RegisterWrite, Reset, Submitted
from lab.nvme.registers import CC, OPTIONAL, REGISTERS

SHUTDOWN_BITS = (1, 2)
"""Values of CC.SHN that ask for a shutdown. Base 2.0, 3.1.3.5."""


@dataclass(frozen=True)
class Place:
    """The ``nth`` time that a driver does one kind of thing; ``strikes`` are the fields of the fault that say which kind."""

    kind: PlaceKind
    what: str
    nth: int = 1
    strikes: Mapping[str, Any] = field(default_factory=dict)
    returns_data: bool = False
    moves_data: bool = False

    @property
    def words(self) -> str:
        """Return it as people say it."""
        return self.what if self.kind == "start" else f"{self.what} {self.nth}"


START = Place("start", "the start")


def places(events: Iterable[Event], controller: str, *, struck: bool = False) -> list[Place]:
    """Return all places of a recording, in the order in which the driver came to them; of a poll the first and the last.

    With ``struck`` only those since the first fault has struck.
    ``controller`` is the one that is looked at. What follows the second load of `RECOVERY` is no place: the driver does there
    what it has done before.
    """
    own = [event for event in _before_recovery(events) if event.controller in ("", controller)]
    moved = _moved(own)
    found = [START]
    counts: Counter[tuple[str, str]] = Counter()
    enabled = False
    polls = _polls(own)
    for event in own:
        if struck and isinstance(event, FaultInjected):
            struck = False
            found.clear()
        match event:
            case Submitted():
                found.append(_command(event, counts, moved))
            case RegisterRead() | RegisterWrite() | Doorbell():
                place = _access(event, counts)
                if id(event) not in polls:
                    found.append(place)
                if isinstance(event, RegisterWrite) and event.offset == CC.OFFSET:
                    cc = CC(event.value)
                    found += _changes(cc, enabled, counts)
                    enabled = bool(cc.EN)
            case Reset(cause=cause) if cause != "shutdown":
                enabled = False
    return [] if struck else found


def _before_recovery(events: Iterable[Event]) -> list[Event]:
    """Return the events before the load that follows an unload at the end."""
    seen = list(events)
    asked = [event for event in seen if isinstance(event, ActionStarted)]
    names = tuple(event.action for event in asked[-len(RECOVERY) :])
    return seen[: seen.index(asked[1 - len(RECOVERY)])] if names == RECOVERY else seen


def _command(event: Submitted, counts: Counter[tuple[str, str]], moved: Mapping[int, bool]) -> Place:
    queue = "io" if event.sqid else "admin"
    name = type(event.command).__name__
    if name == "Command":
        name = f"{queue} command {event.command.OPC:#x}"
    counts["command", f"{queue} {event.command.OPC}"] += 1
    return Place(
        "command",
        name,
        counts["command", f"{queue} {event.command.OPC}"],
        {"queue": queue, "opcode": int(event.command.OPC)},
        returns_data=moved.get(id(event), False),
        moves_data=id(event) in moved,
    )


def _access(event: RegisterRead | RegisterWrite | Doorbell, counts: Counter[tuple[str, str]]) -> Place:
    access: Literal["read", "write"] = "read" if isinstance(event, RegisterRead) else "write"
    key = access, f"{event.offset:#x}"
    counts[key] += 1
    what = f"{access} of {_name(event)}"
    return Place(access, what, counts[key], {"register": event.offset, "access": access})


def _changes(cc: CC, enabled: bool, counts: Counter[tuple[str, str]]) -> Iterator[Place]:
    for kind, happens, what in (
        ("enable", cc.EN and not enabled, "CC.EN=1"),
        ("disable", enabled and not cc.EN, "CC.EN=0"),
        ("shutdown", cc.SHN in SHUTDOWN_BITS, "CC.SHN"),
    ):
        if happens:
            counts[kind, ""] += 1
            yield Place(kind, what, counts[kind, ""])  # type: ignore[arg-type]


def _name(event: RegisterRead | RegisterWrite | Doorbell) -> str:
    if isinstance(event, Doorbell):
        return f"{'CQ' if event.completion else 'SQ'} {event.qid} doorbell"
    known = next((one for one in (*REGISTERS, *OPTIONAL) if one.OFFSET <= event.offset < one.OFFSET + one.SIZE), None)
    if known is None:
        return f"{event.offset:#x}"
    return known.__name__ if known.OFFSET == event.offset else f"{known.__name__}'s upper half"


def _moved(events: Iterable[Event]) -> Mapping[int, bool]:
    """Return the submissions whose commands moved data, by identity, and whether any of it went to the host."""
    living: dict[tuple[int, int], Submitted] = {}
    found: dict[int, bool] = {}
    for event in events:
        match event:
            case Submitted():
                living[event.key] = event
            case Dma() if owner := living.get((event.sqid, event.cid)):
                found[id(owner)] = found.get(id(owner), False) or event.to_host
    return found


def _polls(events: Iterable[Event]) -> set[int]:
    """Return the reads in the middle of a poll, by identity: neither the first nor the last of equal ones in a row."""
    run: list[RegisterRead] = []
    found: set[int] = set()
    for event in events:
        if not isinstance(event, RegisterRead | RegisterWrite | Doorbell):
            continue
        if isinstance(event, RegisterRead) and run and event.offset == run[-1].offset:
            run.append(event)
            continue
        found |= {id(one) for one in run[1:-1]}
        run = [event] if isinstance(event, RegisterRead) else []
    return found | {id(one) for one in run[1:-1]}
