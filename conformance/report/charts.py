"""Charts as places on a drawing: ``charts.svg.j2`` draws them. Pure, and no scale hides anything: axes start at nothing.

A chart is as wide as a column of the page, so that its text is as large as the page's on a phone, a screen and paper.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from conformance.suite.measure import Axis, Measurement, Series

WIDTH, HEIGHT = 380, 250
LEFT, RIGHT, TOP, BOTTOM = 46, 18, 30, 44
"""Margins, in the drawing's units. The y axis has its label above it, from the left edge on."""
LETTER = 10
"""Width that a letter takes at most, on paper too."""
LONGEST = 54
"""Letters of an axis' label that fit; a longer one is set narrower."""
TICKS = 5
"""Lines across, about."""


@dataclass(frozen=True)
class Tick:
    """A mark on an axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Box:
    """A bar of a histogram, and what it says."""

    x: float
    y: float
    width: float
    height: float
    says: str


@dataclass(frozen=True)
class Dot:
    """A point of a line, and its label."""

    x: float
    y: float
    says: str


@dataclass(frozen=True)
class DrawnSeries:
    """One line with its dots, or the bars of one histogram."""

    name: str
    dots: list[Dot] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)

    @property
    def path(self) -> str:
        """The line through the dots, in SVG's words."""
        return "M" + "L".join(f"{dot.x:.1f} {dot.y:.1f}" for dot in self.dots) if self.dots else ""


@dataclass(frozen=True)
class Chart:
    """What is drawn of a measurement: all of its lines, or one of its histograms."""

    title: str
    across: str
    """The label of the x axis, with its unit."""
    upwards: str
    """The label of the y axis, with its unit."""
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    series: list[DrawnSeries]
    rows: list[tuple[str, str, str]]
    """(series, x, y) in words, for a table."""
    counted: str
    """The heading of the table's column of y: in a histogram a number, where the chart shows a share."""


def charts(measurement: Measurement, beside: Sequence[Measurement] = ()) -> Iterator[Chart]:
    """Yield the charts of a measurement, all of its series on the same axes; lines as high as those of others ``beside`` it."""
    points = [point for series in measurement.series for point in series.points]
    if not points:
        return
    edges = sorted({edge for point in points for edge in (point.x, point.to) if edge is not None})
    scale = _Logarithmic(edges)
    x_ticks = [Tick(scale.at(edge), number(edge)) for edge in sparse(edges, scale.at)]
    across, counted = labelled(measurement.x), labelled(measurement.y)
    if measurement.kind == "line":
        compared = [point.y for other in beside for series in other.series for point in series.points]
        top, y_ticks = linear(max([point.y for point in points] + compared))
        drawn = [_line(series, scale, top) for series in measurement.series]
        rows = [row for series in measurement.series for row in _rows(series)]
        yield Chart(measurement.title, across, counted, x_ticks, y_ticks, drawn, rows, counted)
    else:
        top, y_ticks = linear(max(share for series in measurement.series for share in _shares(series)))
        upwards = f"{measurement.y.name} (% of all)"
        for series in measurement.series:
            drawn = [_histogram(series, scale, top)]
            yield Chart(series.name, across, upwards, x_ticks, y_ticks, drawn, list(_rows(series)), counted)


def labelled(axis: Axis) -> str:
    """Return an axis' name with its unit."""
    return f"{axis.name} ({axis.unit})"


def _rows(series: Series) -> Iterator[tuple[str, str, str]]:
    for point in series.points:
        span = f" to {number(point.to)}" if point.to is not None else ""
        yield series.name, number(point.x) + span, number(point.y)


def _shares(series: Series) -> list[float]:
    """In percent of the series: series of different length can be compared."""
    total = sum(point.y for point in series.points) or 1
    return [100 * point.y / total for point in series.points]


@dataclass(frozen=True)
class _Logarithmic:
    """The x axis: as far from 1 to 2 as from 64 to 128. What is not above nothing stands where half of the least would."""

    edges: Sequence[float]

    def at(self, value: float) -> float:
        least = min((edge for edge in self.edges if edge > 0), default=1.0)
        begin = math.log(least / 2 if min(self.edges) <= 0 else least)
        end = math.log(max(*self.edges, least))
        here = math.log(value) if value > 0 else begin
        share = (here - begin) / (end - begin) if end > begin else 0.5
        return LEFT + share * (WIDTH - LEFT - RIGHT)


def sparse(values: Sequence[float], at: Callable[[float], float]) -> Iterator[float]:
    """Yield the values whose words do not run into each other where they stand."""
    last = -math.inf
    for value in values:
        half = LETTER * len(number(value)) / 2
        if at(value) - half >= last:
            last = at(value) + half + LETTER
            yield value


def linear(largest: float) -> tuple[float, list[Tick]]:
    """Return where the y axis ends, and its lines at round numbers."""
    if largest <= 0:
        return 1.0, [Tick(height(0, 1.0), "0")]
    rough = largest / TICKS
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    count = math.ceil(largest / step)
    return count * step, [Tick(height(at * step, count * step), number(at * step)) for at in range(count + 1)]


def height(value: float, top: float) -> float:
    """Return where a value stands on a y axis that ends at ``top``."""
    return HEIGHT - BOTTOM - value / top * (HEIGHT - BOTTOM - TOP)


def _line(series: Series, scale: _Logarithmic, top: float) -> DrawnSeries:
    dots = [Dot(scale.at(p.x), height(p.y, top), f"{series.name}: {number(p.y)} at {number(p.x)}") for p in series.points]
    return DrawnSeries(series.name, dots=dots)


def _histogram(series: Series, scale: _Logarithmic, top: float) -> DrawnSeries:
    boxes = []
    for point, share in zip(series.points, _shares(series), strict=True):
        left, right = scale.at(point.x), scale.at(point.to if point.to is not None else point.x)
        top_edge = height(share, top)
        says = f"{number(point.y)} from {number(point.x)} to {number(point.to if point.to is not None else point.x)}"
        boxes.append(Box(left, top_edge, max(right - left - 1, 1), HEIGHT - BOTTOM - top_edge, says))
    return DrawnSeries(series.name, boxes=boxes)


def number(value: float) -> str:
    """Format a number with four digits, or all digits of a larger one."""
    return f"{value:.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.4g}"
