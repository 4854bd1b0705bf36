"""Real evidence, judged again: nothing fails that did not, and each way of tampering with it changes the right verdicts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from conformance.judging.judge import Verdict, judge
from conformance.suite.check import CHECKS, Outcome
from conformance.suite.selection import select
from lab.data.events import ActionEnded, ActionStarted, Completed, Event, Submitted, to_json
from lab.data.evidence import Evidence
from lab.nvme.commands import LbaCommand
from tests.record.recordings import RECORDINGS, unpack

NAMES = sorted(path.name.removesuffix(".tar.xz") for path in RECORDINGS.glob("*.tar.xz"))
WRITING = [name for name in NAMES if "-write-" in name]
FAILED = (Outcome.FAIL, Outcome.WARN)

Change = Callable[[Event], Event | None]


def verdicts(evidence: Evidence) -> dict[str, Verdict]:
    """Return what each check says."""
    return {verdict.check.id: verdict for verdict in judge(evidence, select().checks_of(evidence.scenario.id))}


def changed(before: Mapping[str, Verdict], after: Mapping[str, Verdict]) -> dict[str, Outcome]:
    """Return the outcomes that have changed."""
    return {id: verdict.outcome for id, verdict in after.items() if verdict.outcome is not before[id].outcome}


def rewritten(evidence: Evidence, change: Change) -> Evidence:
    """Return the evidence with all its events in events.jsonl, each as ``change`` gives it; None leaves it out."""
    events = [new for event in list(evidence.events()) if (new := change(event)) is not None]
    for path in (evidence.folder / "device").glob("*.rec"):
        path.unlink()
    lines = (json.dumps(to_json(event), separators=(",", ":")) + "\n" for event in events)
    (evidence.folder / "events.jsonl").write_text("".join(lines), encoding="utf-8")
    end = json.loads((evidence.folder / "end.json").read_text())
    (evidence.folder / "end.json").write_text(json.dumps({**end, "events": len(events), "files": None}))
    return Evidence(evidence.folder)


def last_transfer(evidence: Evidence) -> Submitted:
    """Return the last Read or Write of the record, which an action of the scenario asked for."""
    events = list(evidence.events())
    began = next(e.t for e in reversed(events) if isinstance(e, ActionStarted) and e.action in ("read", "write"))
    transfers = [e for e in events if isinstance(e, Submitted) and isinstance(e.command, LbaCommand) and e.sqid]
    return [event for event in transfers if event.t >= began][-1]


WARNINGS = {"u-boot-qemu-read-basic": {"admin-queue/all-command-sets"}}
"""What drivers really leave undone that is recommended."""


@pytest.mark.parametrize("name", NAMES)
def test_nothing_fails_on_real_evidence(name: str, tmp_path: Path) -> None:
    found = verdicts(unpack(name, tmp_path / "evidence"))
    wrong = [verdict for verdict in found.values() if verdict.outcome in (*FAILED, Outcome.ERROR) and verdict.known is None]
    assert {verdict.check.id for verdict in wrong} == WARNINGS.get(name, set())
    assert all(verdict.outcome is Outcome.WARN for verdict in wrong)
    assert sum(verdict.outcome is Outcome.PASS for verdict in found.values()) > 30
    assert found["read/exact"].outcome is found["read/nlb"].outcome is Outcome.PASS


@pytest.mark.parametrize("name", NAMES)
def test_events_written_elsewhere_say_the_same(name: str, tmp_path: Path) -> None:
    evidence = unpack(name, tmp_path / "evidence")
    before = verdicts(evidence)
    assert not changed(before, verdicts(rewritten(evidence, lambda event: event)))


@pytest.mark.parametrize("name", NAMES)
def test_one_block_more_in_a_command_is_seen(name: str, tmp_path: Path) -> None:
    evidence = unpack(name, tmp_path / "evidence")
    before, target = verdicts(evidence), last_transfer(evidence)

    def change(event: Event) -> Event | None:
        if event == target and isinstance(event, Submitted) and isinstance(event.command, LbaCommand):
            return replace(event, raw=bytes(event.command.but(NLB=event.command.NLB + 1)))
        return event

    found = changed(before, verdicts(rewritten(evidence, change)))
    assert found["read/extra"] is Outcome.WARN
    assert all("wire" in CHECKS[id].witnesses for id in found)


@pytest.mark.parametrize("name", WRITING)
def test_a_flipped_byte_on_the_image_is_seen(name: str, tmp_path: Path) -> None:
    evidence = unpack(name, tmp_path / "evidence")
    before = verdicts(evidence)
    with next((evidence.folder / "namespaces").glob("*.img")).open("r+b") as image:
        image.seek(12345)
        byte = image.read(1)[0]
        image.seek(12345)
        image.write(bytes([byte ^ 0x40]))
    assert changed(before, verdicts(evidence)) == {"write/exact": Outcome.FAIL}


@pytest.mark.parametrize("name", NAMES)
def test_a_flipped_byte_of_an_answer_is_seen(name: str, tmp_path: Path) -> None:
    evidence = unpack(name, tmp_path / "evidence")
    before = verdicts(evidence)
    answer = sorted((evidence.folder / "answers").iterdir())[0]
    data = bytearray(answer.read_bytes())
    data[100] ^= 1
    answer.write_bytes(data)
    found = changed(before, verdicts(evidence))
    assert [id for id, outcome in found.items() if outcome is Outcome.FAIL] == ["read/exact"], "one mistake, one failure"
    assert all(CHECKS[id].witnesses == ("store",) for id in found), "what else judges these bytes follows from it"


@pytest.mark.parametrize("name", NAMES)
def test_without_its_end_marker_it_proves_nothing(name: str, tmp_path: Path) -> None:
    evidence = unpack(name, tmp_path / "evidence")
    (evidence.folder / "end.json").unlink()
    found = verdicts(Evidence(evidence.folder))
    assert {verdict.outcome for verdict in found.values()} == {Outcome.ERROR}
    assert all("cut short" in verdict.reason for verdict in found.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_completion_that_never_came_is_seen(name: str, tmp_path: Path) -> None:
    """The driver gives back a slot of the completion queue that was never filled."""
    evidence = unpack(name, tmp_path / "evidence")
    before, target = verdicts(evidence), last_transfer(evidence)

    def change(event: Event) -> Event | None:
        ends = isinstance(event, Completed) and event.key == (target.sqid, target.command.CID) and event.t >= target.t
        return None if ends else event

    found = changed(before, verdicts(rewritten(evidence, change)))
    assert found["admin-queue/head-doorbell"] is Outcome.FAIL
    assert all("wire" in CHECKS[id].witnesses for id in found)


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_that_never_came_is_seen(name: str, tmp_path: Path) -> None:
    """An unanswered action is one failure, and judged by no other check."""
    evidence = unpack(name, tmp_path / "evidence")
    before = verdicts(evidence)

    def change(event: Event) -> Event | None:
        if isinstance(event, ActionEnded) and event.action == "read":
            return replace(event, answer={"status": "timeout"})
        return event

    found = changed(before, verdicts(rewritten(evidence, change)))
    assert found["every/answer"] is Outcome.FAIL
    assert found["read/exact"] is found["read/nlb"] is Outcome.INCONCLUSIVE, "they only follow from it"
    assert not any(outcome is Outcome.FAIL and "wire" in CHECKS[id].witnesses for id, outcome in found.items())
