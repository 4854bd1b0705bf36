"""What is measured beside what is judged: figures out of the record, for people to look at. They never decide a verdict.

::

    @measure("multiqueue/throughput", title="Throughput", x=Axis("outstanding", "commands"), y=Axis("commands", "commands/s"),
             scenarios=["multiqueue/scaling"])
    def throughput(record: Record) -> Iterator[Series]:
        ...

A measurement is made of the evidence alone, as a verdict is: old evidence can be measured by new code. One without points is
left out.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from conformance.record.record import Record
from lab.data.evidence import Evidence

Kind = Literal["line", "histogram"]


@dataclass(frozen=True)
class Point:
    """A value ``y`` at ``x``; in a histogram ``y`` of them from ``x`` up to ``to`` (exclusive)."""

    x: float
    y: float
    to: float | None = None


@dataclass(frozen=True)
class Series:
    """Points that belong together, in the order of x."""

    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Axis:
    """What is measured along an axis, and in which unit."""

    name: str
    unit: str


@dataclass(frozen=True)
class Measurement:
    """What came of one scenario."""

    id: str
    title: str
    kind: Kind
    x: Axis
    y: Axis
    series: tuple[Series, ...]


Function = Callable[[Record], Iterator[Series]]


@dataclass(frozen=True)
class Measure:
    """Something that scenarios are measured by. Its id is stage/slug and never changes."""

    id: str
    title: str
    kind: Kind
    x: Axis
    y: Axis
    scenarios: tuple[str, ...]
    find: Function

    def of(self, record: Record) -> Measurement:
        """Return what one record gives for it; series without points are left out."""
        series = tuple(one for one in self.find(record) if one.points)
        return Measurement(self.id, self.title, self.kind, self.x, self.y, series)


MEASURES: dict[str, Measure] = {}
"""Every measure by its id, filled as the stages are imported (`conformance.suite.selection`)."""


def measure(
    id: str, *, title: str, x: Axis, y: Axis, scenarios: Iterable[str], kind: Kind = "line"
) -> Callable[[Function], Measure]:
    """Register the decorated function as a measure; ValueError where the id is taken."""

    def register(find: Function) -> Measure:
        if id in MEASURES:
            raise ValueError(f"measure {id} is declared twice")
        MEASURES[id] = Measure(id, title, kind, x, y, tuple(scenarios), find)
        return MEASURES[id]

    return register


def measurements(evidence: Evidence) -> list[Measurement]:
    """All that can be measured in a scenario that was recorded to its end."""
    wanted = [one for one in MEASURES.values() if evidence.scenario.id in one.scenarios]
    if not wanted or evidence.end is None or evidence.end.outcome != "complete":
        return []
    record = Record(evidence)
    return [found for one in wanted if (found := one.of(record)).series]


def histogram(values: Sequence[float], edges: Sequence[float]) -> tuple[Point, ...]:
    """How many values lie from each edge up to the next, without the empty ends. Values outside the edges raise ValueError."""
    counts = [0] * (len(edges) - 1)
    for value in values:
        at = bisect_right(edges, value) - 1
        if not 0 <= at < len(counts):
            raise ValueError(f"{value} does not lie from {edges[0]} to {edges[-1]}")
        counts[at] += 1
    filled = [at for at, count in enumerate(counts) if count]
    return tuple(Point(edges[at], counts[at], edges[at + 1]) for at in range(filled[0], filled[-1] + 1)) if filled else ()
