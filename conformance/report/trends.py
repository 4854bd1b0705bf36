"""Trends of a driver over its versions, or over results, as charts: what passed, what code was executed, the time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from conformance.judging.history import Point
from conformance.report.charts import LEFT, LETTER, RIGHT, WIDTH, Chart, Dot, DrawnSeries, Tick, height, linear, number

ALL = 100.0
"""Percent: where a share's axis ends."""
Values = Sequence[tuple[Point, float]]


def trends(points: Sequence[Point]) -> Iterator[Chart]:
    """Yield the charts of one driver's results, from the oldest to the newest; nothing of a single one."""
    if len(points) < 2:
        return
    yield _chart("Checks passed", "of the judged verdicts (%)", [(point, 100 * point.rate) for point in points], ALL)
    against = [(point, float(point.judged - point.passed)) for point in points]
    yield _chart("Verdicts against the driver", "FAIL, WARN and FLAKY (verdicts)", against, max(value for _, value in against))
    covered = [(point, 100 * point.covered) for point in points if point.covered is not None]
    if len(covered) > 1:
        yield _chart("Code executed", "of the driver's instructions (%)", covered, ALL)
    seconds = [(point, point.seconds) for point in points]
    yield _chart("Time of the recordings", "all scenarios together (s)", seconds, max(value for _, value in seconds))


def _chart(title: str, upwards: str, values: Values, largest: float) -> Chart:
    top, y_ticks = linear(largest)
    places = [_across(at, len(values)) for at in range(len(values))]
    dots = [
        Dot(x, height(value, top), f"{point.version} ({point.result}): {number(round(value, 1))}")
        for x, (point, value) in zip(places, values, strict=True)
    ]
    return Chart(
        title=title,
        across="versions, the oldest first",
        upwards=upwards,
        x_ticks=list(_words(places, [point.version for point, _ in values])),
        y_ticks=y_ticks,
        series=[DrawnSeries("", dots=dots)],
        rows=[(point.result, point.version, number(round(value, 1))) for point, value in values],
        counted=upwards,
    )


def _across(at: int, count: int) -> float:
    """Return where the result with this number stands on the x axis."""
    return LEFT + at / (count - 1) * (WIDTH - LEFT - RIGHT)


def _words(places: Sequence[float], names: Sequence[str]) -> Iterator[Tick]:
    """Yield the names that fit: the last one, and those before it that leave room; one at the edge is drawn inside."""
    limit = float(WIDTH)
    kept = []
    for x, name in reversed(list(zip(places, names, strict=True))):
        half = min(len(name), 14) * LETTER / 2
        middle = min(max(x, half), WIDTH - half)
        if middle + half <= limit:
            kept.append(Tick(middle, name if len(name) <= 14 else f"{name[:13]}…"))
            limit = middle - half
    yield from reversed(kept)
