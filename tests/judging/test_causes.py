"""One mistake gives one failure: what only follows from it is inconclusive, and says because of what."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.judging.judge import Verdict, judge
from conformance.proof.recording import record
from conformance.suite.check import Outcome
from conformance.suite.selection import select


def verdicts(scenario: str, defect: str, folder: Path) -> dict[str, Verdict]:
    evidence = record(scenario, 5, folder / "evidence", defect)
    return {verdict.check.id: verdict for verdict in judge(evidence, select().checks_of(scenario))}


def failed(found: dict[str, Verdict]) -> set[str]:
    return {id for id, verdict in found.items() if verdict.outcome is Outcome.FAIL}


def test_a_driver_that_does_not_load_fails_once(tmp_path: Path) -> None:
    found = verdicts("io-queues/basic", "every/load:one-vendor", tmp_path)
    assert failed(found) == {"every/load"}
    followed = [verdict for verdict in found.values() if verdict.because == "every/load"]
    assert followed
    assert all(verdict.outcome is Outcome.INCONCLUSIVE for verdict in followed)
    assert all(verdict.reason.startswith("because of every/load: ") for verdict in followed)


def test_a_queue_that_was_refused_for_its_size_explains_the_load(tmp_path: Path) -> None:
    found = verdicts("io-queues/small", "io-queues/size:fixed", tmp_path)
    assert failed(found) == {"io-queues/size"}
    assert found["every/unusual-device"].because == "io-queues/size"
    assert found["every/unusual-device"].to_json()["because"] == "io-queues/size"


def test_what_stands_by_itself_has_no_cause(tmp_path: Path) -> None:
    found = verdicts("read/basic", "read/nlb:one-fewer", tmp_path)
    assert "read/nlb" in failed(found)
    assert found["read/nlb"].because == ""


def test_a_check_of_the_queues_limits_explains_the_load(tmp_path: Path) -> None:
    """What the driver cannot do with these queues shows while it loads; it may refuse them."""
    found = verdicts("io-queues/largest", "io-queues/mqes-max:overflow", tmp_path)
    assert failed(found) == set()
    assert found["io-queues/mqes-max"].outcome is Outcome.WARN


def test_a_recommendation_stands_beside_the_failed_load(tmp_path: Path) -> None:
    found = verdicts("io-queues/smallest", "io-queues/mqes-min:sixteen", tmp_path)
    assert failed(found) == set(), "a driver may refuse queues of two entries"
    assert found["io-queues/mqes-min"].outcome is found["every/unusual-device"].outcome is Outcome.WARN


@pytest.mark.parametrize(
    ("scenario", "failures"),
    [
        ("io-queues/largest", set()),
        ("io-queues/smallest", set()),
        ("detect/command-sets", set()),
        ("multiqueue/few", set()),
        ("write/power-cut", {"every/load"}),
    ],
)
def test_a_driver_that_never_loads_fails_at_nothing_else(scenario: str, failures: set[str], tmp_path: Path) -> None:
    """It never looked at the situation that the scenario's own checks are made for; unusual devices it may refuse."""
    assert failed(verdicts(scenario, "every/load:one-vendor", tmp_path)) == failures


def test_a_stuck_queue_is_seen_on_the_wire(tmp_path: Path) -> None:
    """An unanswered action does not hide the cause: the driver takes no entry after the first wrap."""
    found = verdicts("admin-queue/wraps", "admin-queue/phase:fixed", tmp_path)
    assert {"admin-queue/phase", "every/answer"} <= failed(found)


def test_an_unanswered_action_is_one_failure(tmp_path: Path) -> None:
    found = verdicts("io-queues/basic", "every/answer:late-doorbell", tmp_path)
    assert failed(found) == {"every/answer"}
    assert found["read/exact"].because == "every/answer"
