"""Two recordings held against each other: what is a driver's own business does not count, what it does differently does."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from click.testing import CliRunner, Result

from conformance.commands import nvme_lab, run_command
from conformance.wire.decode import timeline
from conformance.wire.diff import Hunk, diff, joined, parting
from lab.data.events import ActionEnded, ActionStarted, Completed, Doorbell, Event, RegisterRead, Submitted
from lab.data.evidence import Evidence
from lab.nvme.commands import CreateIoSq, Identify, Read
from lab.nvme.completions import Completion
from lab.nvme.registers import CAP
from tests.record.recordings import unpack
from tests.toy.fixtures import MakeEvidence


def between(evidence: Evidence, events: Iterable[Event]) -> list[Hunk]:
    """Return the evidence against itself with other events."""
    return diff(*(timeline(evidence.scenario, joined(one)) for one in (evidence.events(), events)))


def changed(evidence: Evidence, **fields: int) -> list[Event]:
    """Its events, the last submission's fields changed; exact, as what the device itself saw."""
    events = list(evidence.events())
    at = max(at for at, event in enumerate(events) if isinstance(event, Submitted))
    last = events[at]
    assert isinstance(last, Submitted)
    events[at] = replace(last, raw=bytes(last.command.but(**fields)))
    return events


def differences(hunks: list[Hunk]) -> list[tuple[list[str], list[str]]]:
    return [([s.words for s in h.left], [s.words for s in h.right]) for h in hunks if not h.same]


def test_time_addresses_and_doorbells_do_not_count(tmp_path: Path) -> None:
    evidence = unpack("linux-lab-read-basic", tmp_path / "evidence")
    events = [replace(event, t=event.t * 2) for event in changed(evidence, PRP1=0x7654_3000) if not isinstance(event, Doorbell)]
    hunks = between(evidence, events)
    assert differences(hunks) == []
    assert sum(len(hunk.left) for hunk in hunks) > 30


def test_another_block_counts_and_is_the_only_difference(tmp_path: Path) -> None:
    evidence = unpack("linux-lab-read-basic", tmp_path / "evidence")
    ((left, right),) = differences(between(evidence, changed(evidence, SLBA=0x1234)))
    assert len(left) == len(right) == 1
    assert "SLBA=0x1234" in right[0]
    assert "SLBA=0x1234" not in left[0]


def test_how_a_command_ended_belongs_to_it_whenever_that_came(make_evidence: MakeEvidence) -> None:
    sent = [Submitted(t=n, controller="nv0", sqid=0, raw=bytes(Identify.of(CID=n, CNS=n))) for n in range(2)]
    ended = [Completed(t=5, controller="nv0", cqid=0, raw=bytes(Completion.of(CID=n))) for n in range(2)]
    one_by_one, at_the_end = make_evidence([sent[0], ended[0], sent[1], ended[1]]), [*sent, *reversed(ended)]
    assert differences(between(one_by_one, at_the_end)) == []
    bad = Completed(t=5, controller="nv0", cqid=0, raw=bytes(Completion.of(CID=1, SC=2)))
    ((left, right),) = differences(between(one_by_one, [*sent, ended[0], bad]))
    assert left[0].endswith("→ success")
    assert "Invalid Field" in right[0]
    ((_, right),) = differences(between(one_by_one, [*sent, ended[0]]))
    assert right[0].endswith("→ no completion")


def test_any_numbering_of_io_queues_does(make_evidence: MakeEvidence) -> None:
    def on(queue: int) -> list[Event]:
        create = CreateIoSq.of(CID=1, PRP1=0x1000, QID=queue, CQID=queue, QSIZE=7, PC=1)
        read = Read.of(CID=queue, NSID=1, PRP1=0x2000)
        return [
            Submitted(t=1, controller="nv0", sqid=0, raw=bytes(create)),
            Submitted(t=2, controller="nv0", sqid=queue, raw=bytes(read)),
        ]

    assert differences(between(make_evidence(on(1)), on(2))) == []
    moved = [replace(event, sqid=0) if isinstance(event, Submitted) else event for event in on(2)]
    assert len(differences(between(make_evidence(on(1)), moved))) == 1  # but a read on the admin queue is something else


def asked(number: int, lba: int, *between: Event, status: str = "success") -> list[Event]:
    began = ActionStarted(t=number, number=number, action="read", arguments={"lba": lba})
    meanwhile = [replace(event, t=number) for event in between]
    return [began, *meanwhile, ActionEnded(t=number, number=number, action="read", answer={"status": status})]


def test_questions_are_compared_one_by_one(make_evidence: MakeEvidence) -> None:
    read = RegisterRead(t=1, controller="nv0", offset=8, size=4, value=7)
    other = replace(read, value=8)
    hunks = between(make_evidence([*asked(0, 1, read), *asked(1, 2, read)]), [*asked(0, 1, other), *asked(1, 2, read)])
    assert differences(hunks) == [(["read VS 0x7  TER=7"], ["read VS 0x8  TER=8"])]
    first = parting(hunks)
    assert first
    assert (first.before, first.question) == (1, "ask read lba=1")
    assert parting(hunks, ActionEnded) is None
    assert parting(hunks, Submitted) is None


def test_a_question_that_only_one_was_asked_stands_alone(make_evidence: MakeEvidence) -> None:
    hunks = between(make_evidence([*asked(0, 1), *asked(1, 2), *asked(2, 3)]), [*asked(0, 1), *asked(2, 3, status="timeout")])
    assert differences(hunks) == [
        (["ask read lba=2", "answer read success"], []),
        (["answer read success"], ["answer read timeout"]),
    ]
    answers = parting(hunks, ActionEnded)
    assert answers
    assert answers.right is None
    assert answers.question == "ask read lba=2"


def test_halves_of_a_wide_register_are_one_access(make_evidence: MakeEvidence) -> None:
    whole = RegisterRead(t=1, controller="nv0", offset=0, size=8, value=CAP.of(MQES=7, MPSMAX=4))
    low = replace(whole, size=4, value=whole.value & 0xFFFF_FFFF)
    high = replace(low, offset=4, value=whole.value >> 32)
    assert list(joined([low, high])) == [whole]
    assert list(joined([low, low, high, low])) == [low, whole, low]
    assert list(joined([low, replace(high, controller="nv1")])) == [low, replace(high, controller="nv1")]


def test_a_register_that_is_polled_counts_once(make_evidence: MakeEvidence) -> None:
    poll = RegisterRead(t=1, controller="nv0", offset=0x1C, size=4, value=0)
    ready = replace(poll, value=1)
    assert differences(between(make_evidence([poll, ready]), [poll, poll, poll, ready])) == []
    assert differences(between(make_evidence([poll, ready]), [poll, poll])) == [(["read CSTS 0x1  RDY=1"], [])]


# -- the command ----------------------------------------------------------------------------------------------------


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(nvme_lab, ["diff", *map(str, arguments)])


def test_the_same_recording_is_the_same(tmp_path: Path) -> None:
    evidence = unpack("u-boot-qemu-read-basic", tmp_path / "evidence")
    assert "Both do the same: " in run(evidence.folder, evidence.folder).output
    assert run_command(["diff", str(evidence.folder), str(evidence.folder)]) == 0


def test_two_drivers_side_by_side(tmp_path: Path) -> None:
    one, other = (unpack(name, tmp_path / name).folder for name in ("linux-qemu-write-basic", "reference-lab-write-basic"))
    shown = run(one, other).output
    assert "linux/qemu/write/basic" in shown.splitlines()[0]
    assert "reference/lab/write/basic" in shown.splitlines()[0]
    assert "They part after " in shown
    assert "steps the same" in shown
    assert "commands: first at 'ask load'" in shown
    assert run_command(["diff", str(one), str(other)]) == 1
    document = json.loads(run(one, other, "--json").output)
    assert document["first"]["commands"]["question"] == "ask load"
    assert document["first"].keys() == {"anything", "commands", "answers"}
    assert document["same"] > 0
    assert {"t", "command", "line", "step"} == set(document["differences"][-1]["right"][-1])


def test_a_long_difference_is_cut_and_says_so(make_evidence: MakeEvidence) -> None:
    reads = [RegisterRead(t=n, controller="nv0", offset=8, size=4, value=n) for n in range(60)]
    one, other = make_evidence([]), make_evidence(reads)
    shown = run(one.folder, other.folder).output
    assert shown.count("read VS") == 40 + 1  # and in the conclusion
    assert "… and 20 more" in shown
    (difference,) = json.loads(run(one.folder, other.folder, "--json").output)["differences"]
    assert len(difference["right"]) == 60
