"""One mistake gives one failure: what only follows from it is inconclusive, and says because of what."""

from __future__ import annotations

from pathlib import Path

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
    assert found["every/load"].because == "io-queues/size"
    assert found["every/load"].to_json()["because"] == "io-queues/size"


def test_what_stands_by_itself_has_no_cause(tmp_path: Path) -> None:
    found = verdicts("read/basic", "read/nlb:one-fewer", tmp_path)
    assert "read/nlb" in failed(found)
    assert found["read/nlb"].because == ""
