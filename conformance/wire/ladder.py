"""The ladder diagram of an excerpt: host on the left, device on the right, time downwards, an arrow an event.

Here are the places; ``ladder.svg.j2`` draws them, and `text` writes them for a terminal. Each command has a bar at the
device's side, from its submission to its completion.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from conformance.wire.decode import BESIDE, TO_DEVICE, WireLine
from conformance.wire.excerpts import Excerpt, Gap, Key, key
from lab.data.events import Completed, Dma, Doorbell, Event, FaultInjected, Interrupt, Panicked, Reset, Submitted

HOST, DEVICE, WIDTH = 100, 700, 800
"""The lifelines' x and the drawing's width, in the drawing's units."""
TOP, ROW = 34, 24
"""Where the first row stands, and the height of each."""
LABEL = 92
"""Characters that fit over an arrow."""
LANE, LANES = 12, 5
"""The distance of bars of commands that overlap, and how many stand side by side; further ones share the last."""
PAUSE = 0.01
"""Seconds between two events from which on the elapsed time is shown."""

Kind = Literal["doorbell", "command", "data", "completion", "interrupt", "register", "beside", "bad"]
_KINDS: dict[type[Event], Kind] = {
    Doorbell: "doorbell", Submitted: "command", Dma: "data", Completed: "completion", Interrupt: "interrupt",
    Reset: "bad", FaultInjected: "bad", Panicked: "bad",
}  # fmt: skip


@dataclass(frozen=True)
class Arrow:
    """An event at height ``y``. ``to`` is where its arrow points; None where it belongs to neither side."""

    y: float
    time: str
    label: str
    to: Literal["host", "device"] | None
    kind: Kind
    here: bool


@dataclass(frozen=True)
class Note:
    """Words between the rows: what is left out, or how much time passed."""

    y: float
    text: str


@dataclass(frozen=True)
class Bar:
    """A command in flight: ``number`` as people write it. It is open where its begin or end is not in the excerpt."""

    number: str
    x: float
    top: float
    bottom: float


@dataclass(frozen=True)
class Ladder:
    """An excerpt as shapes with coordinates, ``height`` units high."""

    height: float
    arrows: list[Arrow] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)


def ladder(excerpt: Excerpt, place: Key | None) -> Ladder:
    """Lay out an excerpt; the event with the key ``place`` is marked."""
    arrows: list[Arrow] = []
    notes: list[Note] = []
    spans: dict[str, list[float]] = {}
    y, last = float(TOP), None
    for part in excerpt:
        words = _between(last, part)
        if words:
            notes.append(Note(y, words))
            y += ROW
        if isinstance(part, Gap):
            last = None
            continue
        arrows.append(_arrow(part, y, key(part.event) == place))
        if part.number:
            spans.setdefault(part.number, []).append(y)
        y, last = y + ROW, part
    return Ladder(y, arrows, notes, list(_bars(spans)))


def _between(last: WireLine | None, part: WireLine | Gap) -> str:
    """Return what stands before a part of the excerpt."""
    if isinstance(part, Gap):
        return left_out(part)
    return f"{passed:.2f} s pass" if last is not None and (passed := part.t - last.t) >= PAUSE else ""


def left_out(gap: Gap) -> str:
    """Return the words for a gap."""
    return f"{gap.rows} event{'' if gap.rows == 1 else 's'} left out"


def _arrow(row: WireLine, y: float, here: bool) -> Arrow:
    to: Literal["host", "device"] | None = None
    if row.direction != BESIDE:
        to = "device" if row.direction == TO_DEVICE else "host"
    kind = _KINDS.get(type(row.event), "beside" if to is None else "register")
    if isinstance(row.event, Completed) and not row.event.completion.ok:
        kind = "bad"
    return Arrow(y, f"{row.t:.6f}", _label(row), to, kind, here)


def _label(row: WireLine) -> str:
    words = " ".join(f"{row.name} {row.detail}".split())
    label = f"{row.trust}{words}".strip()
    return label if len(label) <= LABEL else f"{label[: LABEL - 1]}…"


def _bars(spans: dict[str, list[float]]) -> Iterator[Bar]:
    free = [0.0] * LANES  # until which height a lane is taken
    for number, heights in spans.items():
        top, bottom = heights[0], heights[-1]
        lane = next((at for at, taken in enumerate(free) if taken < top), LANES - 1)
        free[lane] = max(free[lane], bottom)
        yield Bar(number, DEVICE + 16 + LANE * lane, top - 6, bottom + 6)


def text(excerpt: Excerpt, width: int) -> Iterator[tuple[WireLine | None, str]]:
    """Yield the ladder in lines of ``width`` characters, each with the row that it shows."""
    inner = max(width - 24, 30)
    yield None, f"{'':12}host{'device':>{inner}}"
    for part in excerpt:
        if isinstance(part, Gap):
            yield None, f"{'':12}┊{f' {left_out(part)} ':^{inner}}┊"
            continue
        label = f" {_label(part)[: inner - 6]} "
        if part.direction == BESIDE:
            line = f"{label:·^{inner}}"
        elif part.direction == TO_DEVICE:
            line = f"{label:─^{inner - 1}}▶"
        else:
            line = f"◀{label:─^{inner - 1}}"
        yield part, f"{part.t:11.6f} │{line}│ {part.number}".rstrip()
