"""What is judged by a driver's own accesses to its memory: in which order it rings, and when it reads a completion."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from conformance.judging.judge import UNWATCHED, Verdict, judge
from conformance.judging.models import DriverEntry, Results, VerdictEntry
from conformance.judging.summary import disqualified
from conformance.proof.recording import record
from conformance.record.record import Record
from conformance.suite.check import CHECKS, Outcome
from conformance.suite.shadow_doorbells import passes
from lab.data.events import Remark
from lab.data.evidence import Evidence
from lab.nvme.completions import Completion
from lab.reference.ring import CompletionRing
from lab.reference.shadow_doorbells import ShadowDoorbells

BARRIER, PHASE = CHECKS["multiqueue/shadow-barrier"], CHECKS["admin-queue/phase-before-body"]
SHADOW, WRAPS = "multiqueue/shadow", "admin-queue/wraps"


def verdict(check: str, scenario: str, folder: Path, defect: str = "") -> Verdict:
    (found,) = judge(record(scenario, 5, folder / "evidence", defect), [CHECKS[check]])
    return found


# -- shadow doorbells -----------------------------------------------------------------------------------------------


def test_in_order_every_update_is_looked_at(tmp_path: Path) -> None:
    found = verdict(BARRIER.id, SHADOW, tmp_path)
    assert found.outcome is Outcome.PASS
    assert found.judged > 100


@pytest.mark.parametrize(
    ("defect", "says"),
    [
        ("none", "no barrier between the shadow doorbell and the EventIdx"),
        ("index-first", "neither was the EventIdx read nor the doorbell rung"),
        ("entries-unfenced", "no barrier between the entries and the shadow doorbell"),
        ("doorbell-first", "before its shadow doorbell"),
        ("places", "of the shadow doorbells"),
        ("swapped", "of the EventIdxs"),
    ],
)
def test_what_is_out_of_order_is_reported(tmp_path: Path, defect: str, says: str) -> None:
    found = verdict(BARRIER.id, SHADOW, tmp_path, f"{BARRIER.id}:{defect}")
    assert found.outcome is Outcome.WARN
    assert any(says in finding.actual for finding in found.findings if not finding.ok)


def test_a_place_of_no_queue_is_reported_also_where_the_buffers_were_refused(tmp_path: Path) -> None:
    refused = "multiqueue/shadow-refused"
    assert verdict(BARRIER.id, refused, tmp_path / "right").outcome is Outcome.INCONCLUSIVE
    found = verdict(BARRIER.id, refused, tmp_path / "wrong", f"{BARRIER.id}:one-too-many")
    assert [f.actual for f in found.findings] == ["4 bytes at 0x18 of the shadow doorbells"]


def test_a_doorbell_that_the_index_asks_for_must_be_rung(tmp_path: Path) -> None:
    found = verdict(BARRIER.id, SHADOW, tmp_path, "multiqueue/shadow-doorbells:never-rings")
    assert any("although that goes beyond EventIdx 0" in finding.actual for finding in found.findings if not finding.ok)


def test_a_doorbell_too_many_is_no_violation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    must_ring = ShadowDoorbells.must_ring

    def always(self: ShadowDoorbells, qid: int, *, completion: bool, value: int) -> bool:
        must_ring(self, qid, completion=completion, value=value)
        return True

    monkeypatch.setattr(ShadowDoorbells, "must_ring", always)
    assert verdict(BARRIER.id, SHADOW, tmp_path).outcome is Outcome.PASS


def test_a_tail_before_its_entries_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    must_ring = ShadowDoorbells.must_ring

    def ahead(self: ShadowDoorbells, qid: int, *, completion: bool, value: int) -> bool:
        return must_ring(self, qid, completion=completion, value=value if completion else (value + 1) % 16)

    monkeypatch.setattr(ShadowDoorbells, "must_ring", ahead)
    found = verdict(BARRIER.id, SHADOW, tmp_path)
    assert any("were not written yet" in finding.actual for finding in found.findings if not finding.ok)


def test_the_judges_own_arithmetic_is_not_the_drivers() -> None:
    """Examples from a ring of 8 slots, by hand: the tail goes 6, 7, 0, 1."""
    assert passes(6, 6, 7)
    assert passes(7, 7, 0)
    assert passes(6, 6, 1)
    assert not passes(6, 7, 0)
    assert not passes(5, 6, 7)
    assert not passes(7, 6, 7)


# -- the phase tag --------------------------------------------------------------------------------------------------


def looking(length: int) -> Callable[[CompletionRing], Completion | None]:
    """Return a driver that takes in the phase tag by one aligned access of so many bytes, which end with the entry."""

    def peek(self: CompletionRing) -> Completion | None:
        at = self.head * self.size
        status = self.memory.read(at + 16 - length, length)
        if status[-2] & 1 != self.phase:
            return None
        return Completion(self.memory.read(at, 16 - length) + status)

    return peek


@pytest.mark.parametrize("length", [2, 4, 8])
def test_what_comes_with_the_phase_tag_in_one_access_is_read_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    monkeypatch.setattr(CompletionRing, "peek", looking(length))
    found = verdict(PHASE.id, WRAPS, tmp_path)
    assert found.outcome is Outcome.PASS
    assert found.judged > 100


def test_a_whole_entry_is_no_access_of_one_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CompletionRing, "peek", looking(16))
    found = verdict(PHASE.id, WRAPS, tmp_path)
    assert found.outcome is Outcome.FAIL
    assert "16 bytes from byte 0 on read before the phase tag" in found.findings[0].actual


def test_a_look_before_the_completion_came_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The phase tag is read, found old, and the body is read on the next round without another look."""
    peek, looked = CompletionRing.peek, set[int]()

    def once(self: CompletionRing) -> Completion | None:
        at = self.head * self.size
        if self.head not in looked:
            looked.add(self.head)
            return peek(self)
        looked.discard(self.head)
        body = Completion(self.memory.read(at, 14) + bytes(2))
        found = peek(self)
        return body.but(P=found.P, SC=found.SC, SCT=found.SCT, DNR=found.DNR) if found else None

    monkeypatch.setattr(CompletionRing, "peek", once)
    assert verdict(PHASE.id, WRAPS, tmp_path).outcome is Outcome.FAIL


# -- where memory cannot be read ------------------------------------------------------------------------------------


def test_unwatched_memory_cannot_be_judged_and_fails_no_driver(tmp_path: Path) -> None:
    evidence = record("read/basic", 5, tmp_path / "evidence")
    assert not Record(evidence).memory_watched
    (found,) = judge(evidence, [PHASE])
    assert (found.outcome, found.reason) == (Outcome.UNSUPPORTED, UNWATCHED)
    entry = VerdictEntry.model_validate(found.to_json())
    results = Results(drivers={entry.driver: DriverEntry(asked=["admin-queue"])}, verdicts=[entry])
    assert disqualified(results, entry.driver) == []
    results.verdicts = [entry.model_copy(update={"witnesses": ["wire"]})]
    assert disqualified(results, entry.driver) == results.verdicts


def test_only_the_scenarios_that_need_it_are_watched(tmp_path: Path) -> None:
    watched = {scenario for check in (BARRIER, PHASE) for scenario in check.scenarios}
    assert watched == {SHADOW, WRAPS, "multiqueue/shadow-refused", "multiqueue/shadow-reset"}
    for scenario in watched:
        assert Record(record(scenario, 5, tmp_path / scenario)).memory_watched


# -- interrupts without a handler -----------------------------------------------------------------------------------


def test_a_late_handler_is_reported_with_its_vector(tmp_path: Path) -> None:
    found = verdict("io-queues/handled-vector", "io-queues/basic", tmp_path, "io-queues/handled-vector:late-handler")
    assert found.outcome is Outcome.WARN
    assert [f.actual for f in found.findings if not f.ok] == ["vector 2 not handled, its queue never looked at"]


def test_an_interrupt_that_is_pending_until_its_vector_is_unmasked_is_not_lost(tmp_path: Path) -> None:
    recorded = Record(record("io-queues/basic", 5, tmp_path / "evidence", "io-queues/handled-vector:late-handler"))
    end = recorded.events[-1]
    unmasked = Remark(t=end.t, controller=recorded.controllers[0].id, name="interrupt-late", detail={"vector": 2})
    recorded.events = (*recorded.events, unmasked)
    found = list(CHECKS["io-queues/handled-vector"].find(recorded))
    assert all(finding.ok for finding in found)
    assert found[-1].actual == "vector 2, handled once it was unmasked"


def test_a_handler_in_time_is_seen_once_a_queue(tmp_path: Path) -> None:
    evidence: Evidence = record("multiqueue/plain", 5, tmp_path / "evidence")
    handled = [finding.actual for finding in CHECKS["io-queues/handled-vector"].find(Record(evidence))]
    assert sorted(handled) == ["vector 1, handled", "vector 2, handled"]
