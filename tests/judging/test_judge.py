"""How findings become verdicts, and verdicts one."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from conformance.judging.judge import KEPT_EXAMPLES, KEPT_VIOLATIONS, judge
from conformance.record.record import Record
from conformance.suite.check import CHECKS, Check, Finding, Function, Outcome
from conformance.suite.citations import PRACTICE
from conformance.suite.selection import SCENARIOS
from lab import drivers
from lab.controller.namespaces import StoredNamespace
from lab.data.events import ActionEnded, RegisterWrite, Submitted
from lab.data.evidence import Evidence
from lab.errors import LabError
from lab.nvme.commands import Read
from lab.recording.record import record
from lab.toolchain import Toolchain
from tests.toy.fixtures import MakeEvidence

EXACT = RegisterWrite(t=1.0, offset=0x14, size=4, value=1)
SAMPLED = Submitted(t=1.0, sqid=1, raw=Read.of(NLB=7), exact=("OPC",))
REBUILT = replace(SAMPLED, rebuilt=True)


def made(find: Function, **fields: object) -> Check:
    """Return a check that is not registered."""
    check = Check("read/made", PRACTICE, "M", "shall", ("wire",), (), (), find)
    return replace(check, **fields)  # type: ignore[arg-type]


def yielding(*findings: Finding) -> Function:
    def find(record: Record) -> Iterator[Finding]:
        """Is made up."""
        yield from findings

    return find


@pytest.mark.parametrize(
    ("findings", "level", "outcome"),
    [
        ((), "M", Outcome.INCONCLUSIVE),
        ((Finding(True, EXACT),), "M", Outcome.PASS),
        ((Finding(True, EXACT), Finding(False, EXACT)), "M", Outcome.FAIL),
        ((Finding(False, EXACT),), "R", Outcome.WARN),
        ((Finding(False, EXACT),), "O", Outcome.WARN),
        ((Finding(False, SAMPLED, fields=("NLB",)),), "M", Outcome.INCONCLUSIVE),
        ((Finding(False, SAMPLED),), "M", Outcome.INCONCLUSIVE),
        ((Finding(False, SAMPLED, fields=("OPC",)),), "M", Outcome.FAIL),
        ((Finding(False, SAMPLED, fields=("OPC", "NLB")), Finding(True, EXACT)), "M", Outcome.INCONCLUSIVE),
        ((Finding(False),), "M", Outcome.FAIL),
        ((Finding(False, REBUILT, fields=("OPC",)),), "M", Outcome.FAIL),
    ],
)
def test_what_findings_amount_to(
    make_evidence: MakeEvidence, findings: tuple[Finding, ...], level: str, outcome: Outcome
) -> None:
    (verdict,) = judge(make_evidence(), [made(yielding(*findings), level=level)])
    assert verdict.outcome is outcome
    assert verdict.judged == len(findings)


def test_what_was_not_seen_proves_nothing(make_evidence: MakeEvidence) -> None:
    unseen = (Finding(True, REBUILT, fields=("NLB",)), Finding(False, REBUILT))
    for check in (made(yielding(*unseen)), made(yielding(*unseen), uses="SGLs")):
        (verdict,) = judge(make_evidence(), [check])
        assert (verdict.outcome, verdict.judged, verdict.reason) == (Outcome.INCONCLUSIVE, 0, "nothing observed")
        assert not verdict.unused


def test_what_a_driver_is_free_to_leave_out_is_not_held_against_it(make_evidence: MakeEvidence) -> None:
    (verdict,) = judge(make_evidence(), [made(yielding(), uses="SGLs")])
    assert (verdict.outcome, verdict.reason) == (Outcome.INCONCLUSIVE, "never used: SGLs")
    assert verdict.unused
    assert verdict.to_json()["unused"]


@pytest.mark.parametrize(("end", "reason"), [(None, "cut short"), ("lab-error", "because")])
def test_evidence_that_proves_nothing_is_an_error_of_the_lab(make_evidence: MakeEvidence, end: str | None, reason: str) -> None:
    (verdict,) = judge(make_evidence(end=end), [made(yielding(Finding(False, EXACT)))])
    assert verdict.outcome is Outcome.ERROR
    assert reason in verdict.reason


def test_a_check_that_cannot_read_the_evidence_is_an_error_of_the_lab(make_evidence: MakeEvidence) -> None:
    def find(record: Record) -> Iterator[Finding]:
        """Is made up."""
        raise LabError("events.jsonl:7: not an event")
        yield

    (verdict,) = judge(make_evidence(), [made(find)])
    assert (verdict.outcome, verdict.reason) == (Outcome.ERROR, "events.jsonl:7: not an event")


@pytest.mark.parametrize(
    ("needs", "stages", "outcome"),
    [
        (("write",), ["read"], Outcome.UNSUPPORTED),
        (("read",), ["detect"], Outcome.UNSUPPORTED),
        (("read",), ["read"], Outcome.PASS),
        ((), ["detect"], Outcome.PASS),
    ],
)
def test_what_the_driver_does_not_claim_is_unsupported(
    make_evidence: MakeEvidence, needs: tuple[str, ...], stages: list[str], outcome: Outcome
) -> None:
    evidence = make_evidence(driver={"stages": stages})
    (verdict,) = judge(evidence, [made(yielding(Finding(True, EXACT)), needs=needs, witnesses=("out",))])
    assert verdict.outcome is outcome


def test_what_the_device_saw_is_judged_also_without_an_action(make_evidence: MakeEvidence) -> None:
    evidence = make_evidence(driver={"stages": ["detect"]})
    answered = ActionEnded(t=1.0, number=0, action="read", answer={"status": "success"})
    seen, said = yielding(Finding(False, EXACT)), yielding(Finding(False, answered))
    outcomes = [judge(evidence, [made(find, needs=("write",))])[0].outcome for find in (seen, said)]
    assert outcomes == [Outcome.FAIL, Outcome.UNSUPPORTED]


@pytest.mark.parametrize(("stops", "outcome"), [(["detect", "identify"], Outcome.PASS), (["identify"], Outcome.UNSUPPORTED)])
def test_a_driver_that_cannot_stop_at_a_stage_is_not_judged_there(
    make_evidence: MakeEvidence, stops: list[str], outcome: Outcome
) -> None:
    (verdict,) = judge(make_evidence(driver={"stops": stops}), [made(yielding(Finding(True, EXACT)), stops="detect")])
    assert verdict.outcome is outcome


@pytest.mark.parametrize(
    ("where", "known"),
    [
        ({"devices": ["qemu"]}, "upstream"),
        ({"devices": ["lab"]}, None),
        ({"scenarios": ["write/basic", "read/*"]}, "upstream"),
        ({"scenarios": ["write/*"]}, None),
    ],
)
def test_a_known_failure_stays_a_failure_with_its_reason(
    make_evidence: MakeEvidence, where: dict[str, list[str]], known: str | None
) -> None:
    entry = {"check": "read/made", "reason": "upstream", **where}
    (verdict,) = judge(make_evidence(driver={"known": [entry]}), [made(yielding(Finding(False, EXACT)))])
    assert (verdict.outcome, verdict.known) == (Outcome.FAIL, known)


def test_a_full_disk_of_this_machine_is_never_the_drivers_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(StoredNamespace, "write", full)
    scenario = SCENARIOS["write/basic"].resolve(5)
    evidence = Evidence(
        record(drivers.find("reference"), scenario, "lab", tmp_path / "evidence", toolchain=Toolchain(None, None))
    )
    (verdict,) = judge(evidence, [CHECKS["write/exact"]])
    assert verdict.outcome is Outcome.ERROR
    assert "this machine's disk did not take what was written: [Errno 28] No space left on device" in verdict.reason


def test_violations_are_kept_before_what_was_right(make_evidence: MakeEvidence) -> None:
    findings = [Finding(True, EXACT)] * 100 + [Finding(False, EXACT)] * 50
    (verdict,) = judge(make_evidence(), [made(yielding(*findings))])
    assert [finding.ok for finding in verdict.findings] == [False] * KEPT_VIOLATIONS + [True] * KEPT_EXAMPLES
    assert verdict.judged == 150


def test_every_check_judges_evidence_without_a_single_event(make_evidence: MakeEvidence) -> None:
    """Nothing observed is never a pass."""
    outcomes = {v.outcome for v in judge(make_evidence(), CHECKS.values())}
    assert outcomes == {Outcome.INCONCLUSIVE, Outcome.UNSUPPORTED}


@pytest.mark.parametrize(("passes_through", "outcome"), [(True, Outcome.UNSUPPORTED), (False, Outcome.WARN)])
def test_what_a_user_asks_for_is_not_the_business_of_a_driver_that_passes_it_on(
    make_evidence: MakeEvidence, passes_through: bool, outcome: Outcome
) -> None:
    evidence = make_evidence(driver={"passes_through": passes_through})
    (verdict,) = judge(evidence, [made(yielding(Finding(False, EXACT)), level="R", guards=True)])
    assert verdict.outcome is outcome


def test_rules_that_want_a_refusal_are_no_mandatory_ones() -> None:
    guarding = {check.id for check in CHECKS.values() if check.guards}
    assert guarding == {"features/trim-range", "read/in-range", "write/in-range"}
    assert all(CHECKS[check].level != "M" for check in guarding)
