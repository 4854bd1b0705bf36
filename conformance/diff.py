"""Two recordings held against each other: where does one driver first do something else than the other?

Compared is what two drivers can be expected to share: the registers they touch, the commands they send and how those end, what
they were asked. Time, command identifiers and addresses are their own business; so is how they ring doorbells and place
buffers, and what the guest's PCI code does before them. A register that is polled counts once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import TypeGuard

from conformance.wire import Row, field_texts, printable
from lab.events import ActionEnded, ActionStarted, Completed, Event, RegisterRead, RegisterWrite, Reset, Submitted
from lab.nvme.registers import ACQ, ASQ, REGISTERS

ADDRESSES = frozenset({"MPTR", "PRP1", "PRP2"})
"""Fields of a command of which only whether they are there is compared."""
OWN = frozenset({"OPC", "CID", *ADDRESSES})
DRIVERS_RESETS = ("cc-en", "shutdown", "flr")
"""Resets that are a driver's doing; the others come from the lab or the machine."""
_WIDE = frozenset(register.OFFSET for register in REGISTERS if register.SIZE == 8)
THOROUGH = 4000
"""Steps of both recordings together up to which the shortest difference is looked for, however often steps repeat."""


@dataclass(frozen=True)
class Step:
    """A row, and the words by which it is compared."""

    row: Row
    words: str


@dataclass(frozen=True)
class Hunk:
    """A stretch of steps that both recordings share (``same``), or that one has in place of the other's."""

    same: bool
    left: Sequence[Step]
    right: Sequence[Step]


def diff(left: Iterable[Row], right: Iterable[Row]) -> list[Hunk]:
    """The two timelines as stretches that are the same and stretches that are not, in turn."""
    ours, theirs = list(steps(left)), list(steps(right))
    matcher = SequenceMatcher(
        None, [step.words for step in ours], [step.words for step in theirs], autojunk=len(ours) + len(theirs) > THOROUGH
    )
    return [Hunk(tag == "equal", ours[a:b], theirs[c:d]) for tag, a, b, c, d in matcher.get_opcodes()]


def joined(events: Iterable[Event]) -> Iterator[Event]:
    """The events, both halves of an 8-byte register that follow each other as the one access that they mean."""
    low: RegisterRead | RegisterWrite | None = None
    for event in events:
        if low is not None:
            first, low = low, None
            if _is_high_half(event, first):
                yield replace(first, size=8, value=event.value << 32 | first.value)
                continue
            yield first
        if isinstance(event, (RegisterRead, RegisterWrite)) and event.size == 4 and event.offset in _WIDE:
            low = event
        else:
            yield event
    if low is not None:
        yield low


def _is_high_half(event: Event, low: RegisterRead | RegisterWrite) -> TypeGuard[RegisterRead | RegisterWrite]:
    return (
        isinstance(event, (RegisterRead, RegisterWrite))
        and type(event) is type(low)
        and (event.controller, event.offset, event.size) == (low.controller, low.offset + 4, 4)
    )


def steps(rows: Iterable[Row]) -> Iterator[Step]:
    """The rows that are compared; of equal ones in a row the first."""
    last = ""
    for row in rows:
        words = _words(row)
        if words and words != last:
            yield Step(row, words)
            last = words


def _words(row: Row) -> str:
    """What is compared of a row; "" if nothing is."""
    match row.event:
        case RegisterRead() | RegisterWrite() as event:
            own = isinstance(event, RegisterWrite) and _holds_address(event)
            return f"{row.name} {'address' if own else row.detail}"
        case Submitted() as event:
            return f"{row.name} SQ {event.sqid} {' '.join(_fields(event))}".rstrip()
        case Completed() as event:
            done = event.completion
            answer = f" DW0={done.DW0:#x}" if event.is_known("DW0") and done.DW0 else ""
            return f"completion {row.detail.partition(': ')[0]}: {'success' if done.ok else done.text}{answer}"
        case ActionStarted():
            return f"{row.name} {row.detail}".rstrip()
        case ActionEnded() as event:
            return f"{row.name} {printable(str(event.answer.get('status')))}"
        case Reset(cause=cause) if cause in DRIVERS_RESETS:
            return f"{row.name} {row.detail}"
    return ""


def _fields(event: Submitted) -> Iterator[str]:
    command = event.command
    for name, value in command.fields().items():
        if name in ADDRESSES and value and event.is_known(name):
            yield f"{name}=address"
        elif name not in OWN and event.is_known(name):
            yield from field_texts(command, {name: value})


def _holds_address(event: Event) -> bool:
    offset = getattr(event, "offset", -1)
    return any(register.OFFSET <= offset < register.OFFSET + register.SIZE for register in (ASQ, ACQ))
