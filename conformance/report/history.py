"""The history of drivers as one HTML page: checks by versions, transitions with the wire of both sides, and trends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os.path import relpath
from pathlib import Path

from conformance.judging.history import NEVER, History, Point, Transition
from conformance.report.html import environment
from conformance.suite.check import Outcome
from conformance.wire.around import Around

WIDTH, HEIGHT, MARGIN = 420, 120, 24
"""Of a chart of trends, in the drawing's units."""


@dataclass(frozen=True)
class Line:
    """One quantity over results: its places on the drawing, and what each says."""

    name: str
    points: tuple[tuple[float, float, str], ...]
    top: str
    """The value at the upper end of the scale, which begins at nothing."""

    @property
    def path(self) -> str:
        """The line through the points, in SVG's words."""
        return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y, _ in self.points)


def html(history: History, differences: Mapping[Transition, Around | None]) -> str:
    """Return the history as one HTML file without external parts."""
    return (
        environment()
        .get_template("history.html.j2")
        .render(
            history=history,
            differences=differences,
            never=NEVER,
            error=Outcome.ERROR,
            warn=Outcome.WARN,
            trends={driver: list(trend(points)) for driver, points in history.trend.items() if len(points) > 1},
            width=WIDTH,
            height=HEIGHT,
            margin=MARGIN,
            link=lambda evidence: relpath(evidence, Path.cwd()),
        )
    )


def trend(points: Sequence[Point]) -> Iterator[Line]:
    """Yield the trends of one driver: the share of the judged verdicts that passed, of its code that was executed, seconds."""
    yield _line("passed", [(point, 100 * point.rate) for point in points], 100, "%")
    if any(point.covered is not None for point in points):
        yield _line("covered", [(point, 100 * point.covered) for point in points if point.covered is not None], 100, "%")
    most = max(point.seconds for point in points) or 1.0
    yield _line("recorded in", [(point, point.seconds) for point in points], most, " s")


def _line(name: str, values: Sequence[tuple[Point, float]], top: float, unit: str) -> Line:
    step = (WIDTH - 2 * MARGIN) / max(len(values) - 1, 1)
    places = tuple(
        (
            MARGIN + number * step,
            HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * value / top,
            f"{point.version} ({point.result}): {name} {value:.1f}{unit}",
        )
        for number, (point, value) in enumerate(values)
    )
    return Line(name, places, f"{top:.0f}{unit}")
