"""Ladder diagrams and charts: what stands where, and that no scale hides anything."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from conformance.judging.history import Point as TrendPoint
from conformance.report.charts import BOTTOM, HEIGHT, LEFT, LETTER, RIGHT, TOP, WIDTH, charts, number
from conformance.report.trends import trends
from conformance.suite.measure import Axis, Measurement, Point, Series
from conformance.wire.decode import WireLine, timeline
from conformance.wire.excerpts import AFTER, BEFORE, TRANSFERS, Gap, excerpt, key, of_command
from conformance.wire.ladder import LABEL, ladder, text
from lab.data.events import Completed, Dma, Event, RegisterWrite, Submitted
from lab.nvme.commands import Read
from lab.nvme.completions import Completion
from tests.record.recordings import unpack
from tests.toy.fixtures import MakeEvidence

DEPTH, RATE = Axis(name="depth", unit="commands"), Axis(name="rate", unit="1/s")


def rows_of(make_evidence: MakeEvidence, events: list[Event]) -> list[WireLine]:
    evidence = make_evidence(events)
    return list(timeline(evidence.scenario, evidence.events()))


def write(at: int, **changes: float) -> RegisterWrite:
    return RegisterWrite(t=changes.get("t", at * 0.001), controller="nv0", offset=0x14, size=4, value=at)


def read_of(blocks: int, transfers: int, ok: bool = True) -> list[Event]:
    command = Read.of(CID=7, NSID=1, PRP1=0x1000, NLB=blocks - 1)
    moved: list[Event] = [
        Dma(t=1 + n / 1e6, controller="nv0", sqid=1, cid=7, address=n << 12, length=4096, to_host=True)
        for n in range(transfers)
    ]
    done = Completion.of(SQID=1, CID=7, P=1, SC=0 if ok else 2)
    return [
        Submitted(t=1, controller="nv0", sqid=1, raw=bytes(command)),
        *moved,
        Completed(t=1.001, controller="nv0", cqid=1, raw=bytes(done)),
    ]


# -- excerpts and ladders ---------------------------------------------------------------------------------------------


def test_an_excerpt_holds_the_neighbours(make_evidence: MakeEvidence) -> None:
    rows = rows_of(make_evidence, [write(n) for n in range(40)])
    assert list(excerpt(rows, 20)) == rows[20 - BEFORE : 20 + AFTER + 1]
    assert list(excerpt(rows, 0)) == rows[: AFTER + 1]


def test_an_excerpt_holds_the_whole_command_but_few_of_its_transfers(make_evidence: MakeEvidence) -> None:
    rows = rows_of(make_evidence, read_of(256, 100))
    shown = excerpt(rows, 0)
    kinds = [type(part.event).__name__ if isinstance(part, WireLine) else part.rows for part in shown]
    assert kinds == ["Submitted", *["Dma"] * TRANSFERS, 100 - TRANSFERS, "Completed"]
    assert of_command(rows, 1) == rows
    assert of_command(rows, 2) == []


@pytest.mark.parametrize("name", ["linux-lab-read-basic", "u-boot-qemu-read-basic"])
def test_a_ladder_has_an_arrow_for_every_event_downwards(name: str, tmp_path: Path) -> None:
    evidence = unpack(name, tmp_path / "evidence")
    rows = list(timeline(evidence.scenario, evidence.events()))
    at = max(at for at, row in enumerate(rows) if isinstance(row.event, Submitted) and isinstance(row.event.command, Read))
    shown = excerpt(rows, at)
    made = ladder(shown, key(rows[at].event))
    assert len(made.arrows) == sum(isinstance(part, WireLine) for part in shown)
    heights = [arrow.y for arrow in made.arrows]
    assert heights == sorted(set(heights))
    assert made.height > heights[-1]
    (here,) = [arrow for arrow in made.arrows if arrow.here]
    assert (here.kind, here.to) == ("command", "device")
    assert here.label.startswith(("Read", "~Read", "?Read"))
    assert {"doorbell", "data", "completion"} <= {arrow.kind for arrow in made.arrows}
    bar = next(bar for bar in made.bars if bar.number == rows[at].number)
    assert bar.top < here.y < bar.bottom


def test_a_ladder_shows_gaps_pauses_and_failures(make_evidence: MakeEvidence) -> None:
    events = [write(0), write(1, t=0.5), *read_of(8, 1, ok=False)]
    rows = rows_of(make_evidence, events)
    made = ladder([*rows[:2], Gap(3), rows[-1]], None)
    assert [note.text for note in made.notes] == ["0.50 s pass", "3 events left out"]
    assert made.arrows[-1].kind == "bad"
    assert not any(arrow.here for arrow in made.arrows)


def test_labels_fit_and_commands_that_overlap_stand_side_by_side(make_evidence: MakeEvidence) -> None:
    commands = [Read.of(CID=n, NSID=1, PRP1=(1 << 60) - 1, PRP2=(1 << 60) - 1, SLBA=(1 << 60), NLB=9) for n in range(3)]
    events: list[Event] = [
        Submitted(t=1 + n / 1e6, controller="nv0", sqid=1, raw=bytes(command)) for n, command in enumerate(commands)
    ]
    for n in range(3):
        done = Completion.of(SQID=1, CID=n, P=1)
        events.append(Completed(t=2 + n / 1e6, controller="nv0", cqid=1, raw=bytes(done)))
    made = ladder(rows_of(make_evidence, events), None)
    assert all(len(arrow.label) <= LABEL for arrow in made.arrows)
    assert made.arrows[0].label.endswith("…")
    assert len({bar.x for bar in made.bars}) == 3


def test_a_ladder_in_a_terminal(make_evidence: MakeEvidence) -> None:
    rows = rows_of(make_evidence, read_of(8, 1))
    (_, head), *lines_of_rows = text([rows[0], Gap(1), rows[2]], 90)
    lines = [line for _, line in lines_of_rows]
    assert [row for row, _ in lines_of_rows] == [rows[0], None, rows[2]]
    assert head.split() == ["host", "device"]
    assert lines[0].rstrip(" #1").endswith("▶│")
    assert "Read SQ 1" in lines[0]
    assert "1 event left out" in lines[1]
    assert "│◀" in lines[2]
    assert lines[2].endswith("#1")
    assert len({line.rindex(mark) for line, mark in zip(lines, "│┊│", strict=True)}) == 1


# -- charts -----------------------------------------------------------------------------------------------------------


def measurement(kind: str, **series: list[Point]) -> Measurement:
    entries = [Series(name=name, points=tuple(points)) for name, points in series.items()]
    return Measurement(id="m", title="M", kind=kind, x=DEPTH, y=RATE, series=tuple(entries))  # type: ignore[arg-type]


def test_a_line_rises_from_nothing_and_doubles_are_equally_far_apart() -> None:
    points = [Point(x=x, y=y) for x, y in ((1, 0), (2, 50), (4, 100))]
    (chart,) = charts(measurement("line", one=points, other=[Point(x=1, y=80)]))
    one, other = chart.series
    x = [dot.x for dot in one.dots]
    assert x[0] == LEFT
    assert x[-1] == WIDTH - RIGHT
    assert x[1] - x[0] == pytest.approx(x[2] - x[1])
    assert one.dots[0].y == HEIGHT - BOTTOM
    assert one.dots[2].y == TOP
    assert other.dots[0].y == pytest.approx(TOP + 0.2 * (HEIGHT - BOTTOM - TOP))
    assert [tick.text for tick in chart.y_ticks] == ["0", "20", "40", "60", "80", "100"]
    assert chart.rows[1] == ("one", "2", "50")


def test_a_histogram_a_series_in_percent_on_the_same_axes() -> None:
    one = [Point(x=1, to=2, y=1), Point(x=2, to=4, y=3)]
    other = [Point(x=4, to=8, y=5)]
    first, second = charts(measurement("histogram", one=one, other=other))
    assert (first.title, second.title) == ("one", "other")
    assert first.upwards.endswith("(% of all)")
    assert first.y_ticks == second.y_ticks
    low, high = first.series[0].boxes
    assert high.height == pytest.approx(3 * low.height)
    assert high.x == pytest.approx(low.x + low.width + 1)
    assert second.series[0].boxes[0].height == pytest.approx(HEIGHT - BOTTOM - TOP)  # all of it
    assert second.rows == [("other", "4 to 8", "5")]


def test_nothing_is_drawn_of_nothing_and_of_zeros_a_flat_line() -> None:
    assert list(charts(measurement("line"))) == []
    (chart,) = charts(measurement("line", one=[Point(x=0, y=0), Point(x=1, y=0)]))
    assert {dot.y for dot in chart.series[0].dots} == {HEIGHT - BOTTOM}
    assert all(LEFT <= dot.x <= WIDTH - RIGHT for dot in chart.series[0].dots)


@pytest.mark.parametrize(("value", "said"), [(0, "0"), (12345.6, "12346"), (0.123456, "0.1235"), (512.0, "512")])
def test_numbers_are_short(value: float, said: str) -> None:
    assert number(value) == said


# -- trends -----------------------------------------------------------------------------------------------------------


def results_of(*versions: str) -> list[TrendPoint]:
    return [TrendPoint(version, f"r{at}", passed=90 + at, judged=100, seconds=10.0) for at, version in enumerate(versions)]


def test_a_trend_has_a_point_for_each_result_from_edge_to_edge() -> None:
    passed, against, time = trends(results_of("1.0", "1.1", "2.0"))
    assert [dot.x for dot in passed.series[0].dots] == [LEFT, pytest.approx((LEFT + WIDTH - RIGHT) / 2), WIDTH - RIGHT]
    assert [tick.text for tick in passed.x_ticks] == ["1.0", "1.1", "2.0"]
    assert passed.y_ticks[-1].text == "100"
    assert [row[2] for row in against.rows] == ["10", "9", "8"]
    assert {dot.y for dot in time.series[0].dots} == {TOP}


def test_names_of_many_versions_do_not_run_into_each_other() -> None:
    (chart, *_) = trends(results_of(*(f"2.{at}-beta" for at in range(40))))
    assert chart.x_ticks[-1].text == "2.39-beta"
    assert all(after.at - before.at >= len(before.text) * LETTER for before, after in pairwise(chart.x_ticks))
    assert all(0 <= tick.at <= WIDTH for tick in chart.x_ticks)


def test_a_single_result_has_no_trend() -> None:
    assert list(trends(results_of("1.0"))) == []
