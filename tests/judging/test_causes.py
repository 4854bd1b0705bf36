"""One mistake gives one failure: what only follows from it is inconclusive, and says because of what."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from conformance.judging.causes import Causes, consequences
from conformance.judging.judge import Verdict, judge
from conformance.proof.recording import record
from conformance.record.record import Record
from conformance.suite.check import Finding, Outcome
from conformance.suite.selection import CHECKS, select
from conformance.suite.stages.admin_queue import STILL_SECONDS
from lab.data.events import Doorbell, Submitted
from lab.drivers import watchdog


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
    assert failed(found) == {"admin-queue/phase"}
    assert found["every/answer"].because == "admin-queue/phase"


def test_a_driver_in_process_hangs_for_longer_than_a_standstill_is_judged_by() -> None:
    assert watchdog.STILL_SECONDS > STILL_SECONDS, "else it depends on the machine whether a stuck queue is seen"


@pytest.mark.parametrize(
    ("scenario", "defect", "speaks"),
    [
        ("read/sizes", "read/exact:list-of-one", "read/exact"),  # wrong in three kinds of reads: what they have in common
        ("write/basic", "write/exact:cut-short", "write/exact"),  # what was written wrongly is read so too
        ("read/protected", "read/pi-type1:no-tag", "read/pi-type1"),  # the wire says why each transfer fails
        ("admin-queue/basic", "admin-queue/both-halves:low-only", "admin-queue/both-halves"),
        ("reset/removed", "reset/removal:crashes", "reset/removal"),
        ("io-queues/watched", "admin-queue/entry-written:doorbell-first", "admin-queue/entry-written"),
    ],
)
def test_one_mistake_is_one_failure(scenario: str, defect: str, speaks: str, tmp_path: Path) -> None:
    assert failed(verdicts(scenario, defect, tmp_path)) == {speaks}


CHECK_A, CHECK_B = CHECKS["admin-queue/doorbell"], CHECKS["admin-queue/head-doorbell"]


@pytest.mark.parametrize("same_moment", [True, False])
def test_two_that_explain_each_other_do_not_both_fall_silent(same_moment: bool, tmp_path: Path) -> None:
    """Each may bring the other about; the earlier one speaks, or the first of two of the same moment."""
    evidence = record("admin-queue/basic", 5, tmp_path / "evidence")
    times = (2.0, 2.0 if same_moment else 1.0)
    found = [
        Finding(False, Doorbell(t=t, controller="nv0", offset=0x1000, size=4, value=1, qid=0, completion=False)) for t in times
    ]
    violations = {CHECK_A: [found[0]], CHECK_B: [found[1]]}
    causes = consequences(violations, Causes(Record(evidence), violations), dict.fromkeys(violations, Outcome.FAIL))
    assert len(causes) == 1
    assert (CHECK_A if not same_moment else CHECK_B) in causes


def test_what_was_only_sampled_explains_nothing(tmp_path: Path) -> None:
    """A check that cannot fail, because the device did not see the field, would take the failure of another with it."""
    evidence = record("admin-queue/basic", 5, tmp_path / "evidence")
    sent = next(event for event in evidence.events() if isinstance(event, Submitted))
    sampled = replace(sent, exact=())
    owned, length = CHECKS["read/owned-memory"], CHECKS["read/nlb"]
    violations = {length: [Finding(False, sampled, fields=("NLB",))], owned: [Finding(False, sampled)]}
    outcomes = {length: Outcome.INCONCLUSIVE, owned: Outcome.FAIL}
    assert consequences(violations, Causes(Record(evidence), violations), outcomes) == {}


@pytest.mark.parametrize("known", [False, True])
def test_what_a_driver_is_known_to_live_with_explains_nothing(known: bool, tmp_path: Path) -> None:
    """Old phase tags may stop a driver; one that had them after each reset so far hangs for another reason."""
    opened = Record(record("io-queues/basic", 5, tmp_path / "evidence", "every/answer:late-doorbell"))
    hung = next(asked for asked in opened.asked if asked.status == "timeout")
    during = replace(next(opened.walk(Submitted))[1], t=hung.started.t + 1)
    answer, zeroed = CHECKS["every/answer"], CHECKS["admin-queue/cq-zeroed"]
    violations = {zeroed: [Finding(False, during)], answer: [Finding(False, hung.ended)]}
    causes = Causes(opened, violations, {zeroed.id} if known else set())
    assert (answer in consequences(violations, causes, dict.fromkeys(violations, Outcome.FAIL))) is not known


def test_an_unanswered_action_is_one_failure(tmp_path: Path) -> None:
    found = verdicts("io-queues/basic", "every/answer:late-doorbell", tmp_path)
    assert failed(found) == {"every/answer"}
    assert found["read/exact"].because == "every/answer"
