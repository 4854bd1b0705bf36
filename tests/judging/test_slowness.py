"""A failure on a machine that was too slow is the lab's, whatever the check; a PASS stands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conformance.judging.judge import judge
from conformance.judging.slowness import device_latency
from conformance.suite.check import Outcome
from conformance.suite.selection import CHECKS
from lab.data.events import ActionEnded, ActionStarted, Completed, Doorbell, Event, FaultInjected, Panicked, Submitted
from lab.data.evidence import Evidence
from lab.nvme.commands import AsyncEventRequest, Read
from lab.nvme.completions import Completion
from tests.toy.fixtures import MakeEvidence

STEADY = {"bound": 0.5, "longest_stall": 0.1, "longest_stop": 0.0, "steal": 0.0}
PANIC = [ActionStarted(t=1.0, number=0, action="load", arguments={}), Panicked(t=2.0, text="Kernel panic")]
ANSWERED = [PANIC[0], ActionEnded(t=2.0, number=0, action="load", answer={"status": "success"})]


def with_machine(evidence: Evidence, **more: float) -> Evidence:
    path = evidence.folder / "end.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "machine": {**STEADY, **more}}))
    return Evidence(evidence.folder)


def outcome(evidence: Evidence) -> tuple[Outcome, str]:
    (verdict,) = judge(evidence, [CHECKS["every/panic"]])
    return verdict.outcome, verdict.reason


def command(sqid: int, cid: int, rung: float, done: float, *, struck: bool = False, raw: bytes = b"") -> list[Event]:
    submitted = raw or Read.of(CID=cid)
    events: list[Event] = [
        Doorbell(t=rung, controller="nv0", offset=0x1008, size=4, value=1, qid=sqid, completion=False),
        Submitted(t=rung + 0.01, controller="nv0", sqid=sqid, raw=bytes(submitted)),
    ]
    if struck:
        events.append(FaultInjected(t=rung + 0.02, controller="nv0", fault="f", sqid=sqid, cid=cid))
    return [*events, Completed(t=done, controller="nv0", cqid=1, raw=bytes(Completion.of(SQID=sqid, CID=cid)))]


@pytest.mark.parametrize(
    ("machine", "reason"),
    [
        ({"longest_stop": 7.0}, "this machine was too slow: QEMU was stopped for 7.0 s (allowed: 0.5 s)"),
        ({"longest_stall": 1.7}, "this machine was too slow: QEMU or the lab was not run for 1.7 s (allowed: 0.5 s)"),
    ],
)
def test_a_failure_on_a_slow_machine_is_an_error(make_evidence: MakeEvidence, machine: dict[str, float], reason: str) -> None:
    evidence = make_evidence(PANIC, end="panic")
    assert outcome(evidence)[0] is Outcome.FAIL
    assert outcome(with_machine(evidence))[0] is Outcome.FAIL
    assert outcome(with_machine(evidence, **machine)) == (Outcome.ERROR, reason)


def test_a_pass_on_a_slow_machine_stays(make_evidence: MakeEvidence) -> None:
    evidence = make_evidence(ANSWERED)
    assert outcome(with_machine(evidence, longest_stop=7.0))[0] is Outcome.PASS


def test_a_failure_beside_a_slow_device_is_an_error(make_evidence: MakeEvidence) -> None:
    slow = with_machine(make_evidence([*PANIC, *command(1, 7, rung=3.0, done=4.7)], end="panic"))
    assert outcome(slow) == (
        Outcome.ERROR, "this machine was too slow: the device took 1.7 s for a command (allowed: 0.5 s)",
    )  # fmt: skip
    prompt = with_machine(make_evidence([*PANIC, *command(1, 7, rung=3.0, done=3.2)], end="panic"))
    assert outcome(prompt)[0] is Outcome.FAIL


def test_an_ordered_delay_and_a_wait_for_an_event_are_no_slowness() -> None:
    events = command(1, 7, 3.0, 9.0, struck=True) + command(0, 1, 10.0, 20.0, raw=bytes(AsyncEventRequest.of(CID=1)))
    assert device_latency(events) == 0.0
    assert device_latency(command(1, 7, 3.0, 9.0)) == 6.0


def test_a_doorbell_that_announced_nothing_does_not_make_the_next_command_slow() -> None:
    idle = Doorbell(t=1.0, controller="nv0", offset=0x1008, size=4, value=1, qid=1, completion=False)
    assert device_latency([idle, *command(1, 7, rung=50.0, done=50.1)]) == pytest.approx(0.1)


def test_an_end_marker_holds_the_machine_report(make_evidence: MakeEvidence, tmp_path: Path) -> None:
    end = with_machine(make_evidence(ANSWERED)).end
    assert end is not None
    assert end.machine is not None
    assert end.machine.bound == 0.5


@pytest.mark.parametrize(
    ("check", "waited", "outcome"),
    [("every/prompt", 0.4, Outcome.WARN), ("every/prompt", 1.9, Outcome.ERROR), ("every/panic", 1.9, Outcome.FAIL)],
)
def test_what_the_drivers_clock_decides_proves_nothing_where_its_guest_was_run_in_pieces(
    make_evidence: MakeEvidence, check: str, waited: float, outcome: Outcome
) -> None:
    """A guest that gets a third of a processor lags, and catches up at once: a time-out of seconds is over too early then."""
    read = [
        ActionStarted(t=3.0, number=1, action="read", arguments={"nsid": 1, "lba": 0, "blocks": 1}),
        *command(1, 7, rung=3.1, done=3.2),
        Doorbell(t=20.0, controller="nv0", offset=0x100C, size=4, value=1, qid=1, completion=True),
        ActionEnded(t=20.1, number=1, action="read", answer={"status": "success"}),
    ]
    evidence = with_machine(make_evidence([*(PANIC if check == "every/panic" else ANSWERED), *read]), most_waited=waited)
    (verdict,) = judge(evidence, [CHECKS[check]])
    assert verdict.outcome is outcome
    starved = f"this machine was too slow: a thread of QEMU was not run for {waited} s of 5 s"
    assert verdict.reason.startswith(starved) == (outcome is Outcome.ERROR)
