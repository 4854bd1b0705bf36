"""A failure explains itself: what the device saw, in words, and the rows of the wire that lead to it."""

from __future__ import annotations

from pathlib import Path

from conformance.judging.judge import Verdict, judge
from conformance.judging.models import Results, VerdictEntry
from conformance.proof.recording import record
from conformance.record.words import PYTHON
from conformance.report.failure import facts, followers_of
from conformance.suite.check import Outcome
from conformance.suite.selection import select
from conformance.wire.excerpts import BRIEF


def verdicts(scenario: str, defect: str, folder: Path) -> dict[str, Verdict]:
    evidence = record(scenario, 5, folder / "evidence", defect)
    return {verdict.check.id: verdict for verdict in judge(evidence, select().checks_of(scenario))}


def entries(found: dict[str, Verdict]) -> list[VerdictEntry]:
    return [VerdictEntry.model_validate(verdict.to_json()) for verdict in found.values()]


def test_the_cause_of_a_failed_answer_is_what_the_device_saw(tmp_path: Path) -> None:
    found = verdicts("admin-queue/slow-ready", "admin-queue/quiet-until-ready:no-wait", tmp_path)["admin-queue/ready-wait"]
    assert "doorbell SQ 0 was rung" in found.seen
    assert "µs after CC.EN=1, before RDY=1; CSTS not read since" in found.seen
    assert "slow-ready" in found.seen


def test_an_answer_without_any_access_says_so(tmp_path: Path) -> None:
    assert (
        verdicts("read/basic", "every/load:one-vendor", tmp_path)["every/load"].seen
        == "the driver did not touch the controller meanwhile"
    )


def test_a_completion_that_was_never_taken_is_named(tmp_path: Path) -> None:
    found = verdicts("admin-queue/wraps", "admin-queue/phase:fixed", tmp_path)
    assert "1 completion in CQ 0 not taken (1 interrupt sent)" in found["every/answer"].seen


def test_a_few_rows_of_the_wire_lead_to_the_violation(tmp_path: Path) -> None:
    found = verdicts("read/basic", "read/nlb:one-fewer", tmp_path)
    rows = found["read/nlb"].wire
    assert 3 <= len(rows) <= BRIEF
    assert "NLB=6 (7 blocks)" in rows[-1], "the violation itself comes last"
    assert any("ask read" in row for row in rows)
    assert not found["read/first-last-high"].wire, "a pass quotes nothing"


def test_no_failure_shows_python(tmp_path: Path) -> None:
    for scenario, defect in (("read/basic", "read/nlb:one-fewer"), ("io-queues/basic", "every/answer:late-doorbell")):
        for verdict in verdicts(scenario, defect, tmp_path / defect.replace("/", "-")).values():
            assert not PYTHON.search(verdict.seen)


def test_consequences_are_folded_into_their_cause(tmp_path: Path) -> None:
    all_entries = entries(verdicts("io-queues/basic", "every/load:one-vendor", tmp_path))
    results = Results(verdicts=all_entries)
    (cause,) = [verdict for verdict in all_entries if verdict.outcome is Outcome.FAIL]
    assert "read/exact" in followers_of(results)[*cause.key[:2], cause.check]
    told = dict(facts(results, cause))
    assert "not judged, they only follow from this" in told["follows"]
    assert told["next"].startswith("nvme-lab explain every/load")
