"""Compare two recordings: where one driver first does something else than the other.

Compared is what two drivers can be expected to share: the registers they touch, the commands they send and how each ended,
what they were asked and answered. Time, command identifiers, the numbers of I/O queues and addresses are their own business; so
is how they ring doorbells, place buffers and wait, and what the guest's PCI code does before them. A register that is polled
counts once. What both were asked alike is compared question by question, so that a long load does not blur the reads after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import TypeGuard

from conformance.wire.decode import WireLine, field_texts, printable
from lab.data.events import ActionEnded, ActionStarted, Completed, Event, RegisterRead, RegisterWrite, Reset, Submitted
from lab.nvme.registers import ACQ, ASQ, REGISTERS

ADDRESSES = frozenset({"MPTR", "PRP1", "PRP2"})
"""Fields of a command of which only whether they are there is compared."""
QUEUES = frozenset({"QID", "CQID", "IV"})
"""Fields that name I/O queues and their vectors: any numbering does."""
OWN = frozenset({"OPC", "CID", *ADDRESSES, *QUEUES})
DRIVERS_RESETS = ("cc-en", "shutdown", "flr")
"""Resets that are a driver's doing; the others come from the lab or the machine."""
_WIDE = frozenset(register.OFFSET for register in REGISTERS if register.SIZE == 8)
THOROUGH = 4000
"""Steps of both recordings together up to which the shortest difference is looked for, however often steps repeat."""


@dataclass(frozen=True)
class AlignedLine:
    """A row, and the words by which it is compared; ``question`` is what the driver was being asked, "" before the first."""

    row: WireLine
    words: str
    question: str = ""


@dataclass(frozen=True)
class Hunk:
    """A stretch of steps that both recordings share (``same``), or that one has in place of the other's."""

    same: bool
    left: Sequence[AlignedLine]
    right: Sequence[AlignedLine]


@dataclass(frozen=True)
class Parting:
    """Where two recordings part: after ``before`` shared steps; None where one does nothing in the other's place."""

    before: int
    left: AlignedLine | None
    right: AlignedLine | None

    @property
    def question(self) -> str:
        """What was being asked."""
        step = self.left or self.right
        return step.question if step else ""


def diff(left: Iterable[WireLine], right: Iterable[WireLine]) -> list[Hunk]:
    """Return the two timelines as equal and different stretches, in turn."""
    ours, theirs = (_by_question(steps(rows)) for rows in (left, right))
    asked = SequenceMatcher(None, [part[0].question for part in ours], [part[0].question for part in theirs], autojunk=False)
    found: list[Hunk] = []
    for tag, a, b, c, d in asked.get_opcodes():
        if tag == "equal":
            for one, other in zip(ours[a:b], theirs[c:d], strict=True):
                found += _hunks(one, other)
        else:
            found.append(Hunk(False, [s for part in ours[a:b] for s in part], [s for part in theirs[c:d] for s in part]))
    return list(_merged(found))


def _by_question(found: Iterable[AlignedLine]) -> list[list[AlignedLine]]:
    parts: list[list[AlignedLine]] = []
    for step in found:
        if not parts or isinstance(step.row.event, ActionStarted):
            parts.append([])
        parts[-1].append(step)
    return parts


def _hunks(ours: Sequence[AlignedLine], theirs: Sequence[AlignedLine]) -> Iterator[Hunk]:
    matcher = SequenceMatcher(
        None, [step.words for step in ours], [step.words for step in theirs], autojunk=len(ours) + len(theirs) > THOROUGH
    )
    for tag, a, b, c, d in matcher.get_opcodes():
        yield Hunk(tag == "equal", ours[a:b], theirs[c:d])


def _merged(hunks: Iterable[Hunk]) -> Iterator[Hunk]:
    """Neighbours of one kind as one."""
    last: Hunk | None = None
    for hunk in hunks:
        if last is not None and last.same == hunk.same:
            last = Hunk(last.same, [*last.left, *hunk.left], [*last.right, *hunk.right])
            continue
        if last is not None:
            yield last
        last = hunk
    if last is not None:
        yield last


def parting(hunks: Sequence[Hunk], kind: type[Event] = Event) -> Parting | None:
    """Where they part first; of all steps, or of those of one kind of event."""
    before = 0
    for hunk in hunks:
        left, right = ([step for step in side if isinstance(step.row.event, kind)] for side in (hunk.left, hunk.right))
        if hunk.same:
            before += len(left)
        elif left or right:
            return Parting(before, left[0] if left else None, right[0] if right else None)
    return None


def joined(events: Iterable[Event]) -> Iterator[Event]:
    """Yield the events, joining consecutive halves of an 8-byte register into one access."""
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


def steps(rows: Iterable[WireLine]) -> Iterator[AlignedLine]:
    """Return the rows that are compared; of equal consecutive ones the first."""
    all_rows = list(rows)
    ends: dict[int | None, Completed] = {
        row.command: row.event for row in all_rows if row.command is not None and isinstance(row.event, Completed)
    }
    last, question = "", ""
    for row in all_rows:
        words = _words(row, ends)
        if isinstance(row.event, ActionStarted):
            question = words
        if words and (words != last or isinstance(row.event, Submitted)):
            yield AlignedLine(row, words, question)
        last = words or last


def _words(row: WireLine, ends: Mapping[int | None, Completed]) -> str:
    """Return the part of a row that is compared; "" if none is."""
    match row.event:
        case RegisterRead() | RegisterWrite() as event:
            own = isinstance(event, RegisterWrite) and _holds_address(event)
            return f"{row.name} {'address' if own else row.detail}"
        case Submitted() as event:
            parts = [row.name, *([] if event.sqid == 0 else ["on an I/O queue"]), *_fields(event)]
            return f"{' '.join(parts)} → {_ended(ends.get(row.command))}"
        case Completed() if row.command is None:
            return f"{row.name} of no command in flight"
        case ActionStarted():
            return f"{row.name} {row.detail}".rstrip()
        case ActionEnded() as event:
            return f"{row.name} {printable(str(event.answer.get('status')))}"
        case Reset(cause=cause) if cause in DRIVERS_RESETS:
            return f"{row.name} {row.detail}"
    return ""


def _ended(event: Completed | None) -> str:
    if event is None:
        return "no completion"
    answer = f" DW0={event.completion.DW0:#x}" if event.is_known("DW0") and event.completion.DW0 else ""
    return f"{'success' if event.completion.ok else event.completion.text}{answer}"


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
