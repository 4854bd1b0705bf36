"""Figures beside the verdicts: out of the evidence alone, into results.json, and through a merge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from conformance.commands import run_command
from conformance.judging.files import merge, read, schema
from conformance.proof.recording import record
from conformance.suite.measure import MEASURES, Axis, Measurement, Point, histogram, measure, measurements
from conformance.suite.selection import SCENARIOS
from conformance.suite.stages.multiqueue import DEPTHS, MEDIUM_MS, STEPS
from lab.data.evidence import Evidence


@pytest.fixture(scope="module")
def scaling(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    return record("multiqueue/scaling", 3, tmp_path_factory.mktemp("scaling") / "evidence")


@pytest.fixture(scope="module")
def found(scaling: Evidence) -> dict[str, Measurement]:
    return {one.id: one for one in measurements(scaling)}


def test_every_measure_is_of_scenarios_that_there_are() -> None:
    assert MEASURES
    assert all(set(one.scenarios) <= set(SCENARIOS) and one.scenarios for one in MEASURES.values())


def test_throughput_is_bounded_by_the_latency_and_grows_with_depth(found: dict[str, Measurement]) -> None:
    one, two = found["multiqueue/throughput"].series
    assert (one.name, two.name) == ("1 job on 1 queue", "2 jobs on 2 queues")
    for jobs, series in ((1, one), (2, two)):
        assert [point.x for point in series.points] == list(DEPTHS)
        rates = [point.y for point in series.points]
        assert rates == sorted(rates)
        assert all(0 < rate <= jobs * depth * 1000 / MEDIUM_MS for depth, rate in zip(DEPTHS, rates, strict=True))


def test_no_more_is_in_flight_than_was_asked_for(found: dict[str, Measurement]) -> None:
    for jobs, series in enumerate(found["multiqueue/in-flight"].series, 1):
        assert all(0 < point.y <= jobs * point.x for point in series.points)


def test_the_histogram_holds_every_command(found: dict[str, Measurement]) -> None:
    series = found["multiqueue/latency"].series
    assert len(series) == 2 * len(DEPTHS) == len({one.name for one in series})
    asked = [jobs * depth * STEPS for jobs in (1, 2) for depth in DEPTHS]
    for one, least in zip(series, asked, strict=True):
        assert sum(point.y for point in one.points) >= least, "and the regions are read back"
        assert all(this.to == following.x for this, following in zip(one.points, one.points[1:], strict=False))


def test_a_driver_that_asks_the_device_nothing_is_not_measured(tmp_path: Path) -> None:
    assert measurements(record("multiqueue/scaling", 3, tmp_path / "evidence", "liar")) == []


def test_what_was_cut_short_is_not_measured(tmp_path: Path) -> None:
    evidence = record("multiqueue/scaling", 3, tmp_path / "evidence")
    (evidence.folder / "end.json").unlink()
    assert measurements(Evidence(evidence.folder)) == []


def test_most_scenarios_have_no_figures(tmp_path: Path) -> None:
    assert measurements(record("read/basic", 3, tmp_path / "evidence")) == []


def test_bars_reach_from_edge_to_edge() -> None:
    assert histogram([], (0, 1, 2)) == ()
    assert histogram([1.0, 1.5, 3.9], (0, 1, 2, 3, 4, 5)) == (Point(1, 2, 2), Point(2, 0, 3), Point(3, 1, 4))
    for outside in (-1.0, 2.0):
        with pytest.raises(ValueError, match="does not lie from 0 to 2"):
            histogram([outside], (0, 1, 2))


def test_an_id_is_declared_once() -> None:
    axis = Axis("", "")
    with pytest.raises(ValueError, match="declared twice"):
        measure("multiqueue/latency", title="", x=axis, y=axis, scenarios=())(lambda record: iter(()))


def test_figures_stand_in_the_results_and_survive_a_merge(
    tmp_path: Path, scaling: Evidence, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["judge", str(scaling.folder), "--check", "multiqueue/scaling", "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    jsonschema.validate(document, schema())
    (tmp_path / "results.json").write_text(json.dumps(document))
    part = read(tmp_path)
    assert part.runs[0].measurements == measurements(scaling) != []
    assert merge([(tmp_path, part)], tmp_path).runs[0].measurements == measurements(scaling)
