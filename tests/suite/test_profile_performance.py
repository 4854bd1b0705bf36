"""What the profile performance reads out of a record: order and overlap, not seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.proof.recording import record
from conformance.record.record import Record
from conformance.suite.check import CHECKS
from conformance.suite.measure import measurements
from conformance.suite.profiles.performance import LATENCY_MS

SEED = 3


def findings(scenario: str, folder: Path, *checks: str) -> dict[str, list[bool]]:
    """Return what each check finds in a fresh recording of the reference driver."""
    read = Record(record(f"performance/{scenario}", SEED, folder / "evidence"))
    return {check: [finding.ok for finding in CHECKS[f"performance/{check}"].find(read)] for check in checks}


def test_a_ring_is_judged_by_its_order_and_its_addresses(tmp_path: Path) -> None:
    found = findings("classes", tmp_path, "priority", "deadline", "zero-copy")
    assert found == {"priority": [True], "deadline": [], "zero-copy": [True] * 24}


def test_the_lost_operation_ends_at_its_deadline_and_all_others_succeed(tmp_path: Path) -> None:
    found = findings("deadlines", tmp_path, "deadline", "priority")
    assert found["priority"] == []
    assert len(found["deadline"]) > 20, "the order, and each operation whose completion is far from its deadline"
    assert all(found["deadline"])


def test_polled_queues_take_no_interrupts(tmp_path: Path) -> None:
    assert findings("polled", tmp_path, "polling") == {"polling": [True]}


def test_interrupts_and_commands_in_flight_are_measured_from_one_cpu_to_all(tmp_path: Path) -> None:
    measured = {one.id: one for one in measurements(record("performance/queues", SEED, tmp_path / "evidence"))}
    assert measured.keys() == {"performance/interrupts", "performance/in-flight"}
    for one in measured.values():
        assert [point.x for point in one.series[0].points] == [1, 2]
        assert all(point.y > 0 for point in one.series[0].points)


def test_fios_load_is_measured_by_depth_and_all_that_was_counted_was_read(tmp_path: Path) -> None:
    evidence = record("performance/fio", SEED, tmp_path / "evidence")
    rate, latency = measurements(evidence)
    assert (rate.id, latency.id) == ("performance/fio", "performance/fio-latency")
    ((one, more, most),) = (series.points for series in rate.series)
    assert [point.x for point in (one, more, most)] == [1, 8, 32]
    assert 4 * one.y < more.y < most.y / 2
    assert {series.name: [point.x for point in series.points] for series in latency.series} == {
        "average": [1, 8, 32], "p99": [1, 8, 32],
    }  # fmt: skip
    assert all(point.y >= LATENCY_MS for series in latency.series for point in series.points)
    assert [finding.ok for finding in CHECKS["performance/counted"].find(Record(evidence))] == [True] * 3


@pytest.mark.parametrize("check", ["tail", "polling", "priority", "deadline", "zero-copy"])
def test_a_driver_that_only_lies_is_not_judged(check: str, tmp_path: Path) -> None:
    scenario = next(one.partition("/")[2] for one in CHECKS[f"performance/{check}"].scenarios)
    lied = Record(record(f"performance/{scenario}", SEED, tmp_path / "evidence", "liar"))
    assert list(CHECKS[f"performance/{check}"].find(lied)) == []
