"""The difference of two recordings around one event: what one version of a driver did there, and what the other did instead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from conformance.wire.decode import timeline
from conformance.wire.diff import AlignedLine, Hunk, diff, joined, parting
from lab.data.evidence import Evidence

BEFORE, SHOWN = 2, 8
"""Shared steps that are shown before a difference, and steps of each side of it."""


@dataclass(frozen=True)
class Around:
    """A difference: the shared steps before it, and what each side did. ``question`` is what the drivers were being asked."""

    question: str
    shared: tuple[str, ...]
    left: tuple[str, ...]
    right: tuple[str, ...]
    more: int = 0
    """Steps of both sides that are not shown."""

    @property
    def lines(self) -> Iterator[str]:
        """Yield the difference as text: two spaces, "<" or ">" before each step."""
        yield from (f"  {step}" for step in self.shared)
        yield from (f"< {step}" for step in self.left)
        yield from (f"> {step}" for step in self.right)


def around(left: Evidence, right: Evidence, event: int | None, *, of_left: bool) -> Around | None:
    """Return the difference that is at an event of one recording, or the last before it; of no event: the first difference.

    None where both do the same.
    """
    hunks = diff(*(timeline(one.scenario, joined(one.events())) for one in (left, right)))
    first = parting(hunks)
    if first is None:
        return None
    chosen = _at(hunks, event, of_left=of_left)
    place = chosen if chosen is not None else next(at for at, hunk in enumerate(hunks) if not hunk.same)
    hunk = hunks[place]
    shared = hunks[place - 1].left[-BEFORE:] if place and hunks[place - 1].same else ()
    start = _start(hunk, event, of_left=of_left)
    shown = [side[start : start + SHOWN] for side in (hunk.left, hunk.right)]
    more = len(hunk.left) + len(hunk.right) - sum(map(len, shown))
    step = next((side[0] for side in (hunk.left, hunk.right) if side), None)
    return Around(
        step.question if step else "",
        tuple(step.words for step in shared),
        tuple(step.words for step in shown[0]),
        tuple(step.words for step in shown[1]),
        more,
    )


def _at(hunks: Sequence[Hunk], event: int | None, *, of_left: bool) -> int | None:
    """Return the index of the difference that holds an event, or of the last one before it; None if there is none."""
    if event is None:
        return None
    last: int | None = None
    for at, hunk in enumerate(hunks):
        if not hunk.same:
            last = at
        if any(step.row.event.line == event for step in _side(hunk, of_left=of_left)):
            return last
    return None


def _start(hunk: Hunk, event: int | None, *, of_left: bool) -> int:
    """Return the step of a long difference from which it is shown, so that the event is among them."""
    lines = [step.row.event.line for step in _side(hunk, of_left=of_left)]
    place = lines.index(event) if event in lines else 0
    return max(place - SHOWN // 2, 0)


def _side(hunk: Hunk, *, of_left: bool) -> Sequence[AlignedLine]:
    return hunk.left if of_left else hunk.right
