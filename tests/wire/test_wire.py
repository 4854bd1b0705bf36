"""The decoded timeline: of recordings of real drivers on both devices, of what is hostile, and of one that is under way."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from conformance.commands import nvme_lab
from conformance.judging.judge import place
from conformance.wire.decode import Trust, WireLine, dump, printable, timeline
from conformance.wire.excerpts import key, of_command
from lab.data.events import (
    ActionEnded,
    ActionStarted,
    Completed,
    Doorbell,
    Event,
    Panicked,
    RegisterRead,
    RegisterWrite,
    Remark,
    Reset,
    Submitted,
)
from lab.data.evidence import Evidence, EvidenceWriter, following
from lab.data.stream import StreamWriter
from lab.errors import LabError, UsageError
from lab.nvme.commands import Command, Identify, Read
from lab.nvme.completions import Completion
from lab.nvme.registers import CAP, CC
from tests.record.recordings import RECORDINGS, unpack
from tests.toy.fixtures import MakeEvidence

NAMES = sorted(path.name.removesuffix(".tar.xz") for path in RECORDINGS.glob("*.tar.xz"))
IDENTIFY = Identify.of(CID=7, PRP1=0x1000, CNS=1)


def timeline_rows(evidence: Evidence) -> list[WireLine]:
    return list(timeline(evidence.scenario, evidence.events()))


def one(make_evidence: MakeEvidence, event: Event) -> WireLine:
    return timeline_rows(make_evidence([event]))[0]


def wire(*arguments: str | Path) -> Result:
    return CliRunner().invoke(nvme_lab, ["wire", *map(str, arguments)])


@pytest.mark.parametrize("name", NAMES)
def test_every_command_of_a_real_driver_is_numbered_and_ended(name: str, tmp_path: Path) -> None:
    rows = timeline_rows(unpack(name, tmp_path / "evidence"))
    submitted = [row for row in rows if isinstance(row.event, Submitted)]
    assert [row.command for row in submitted] == list(range(1, len(submitted) + 1))
    assert [row.t for row in rows] == sorted(row.t for row in rows)
    assert rows[0].t == 0
    names = {row.name for row in submitted}
    assert {"Identify", "Create I/O Completion Queue", "Create I/O Submission Queue", "Read"} <= names
    ends = {row.command for row in rows if isinstance(row.event, Completed)}
    assert None not in ends
    assert {row.name for row in submitted if row.command not in ends} <= {"Asynchronous Event Request"}  # wait to the end


@pytest.mark.parametrize("name", NAMES)
def test_one_command_whole(name: str, tmp_path: Path) -> None:
    rows = timeline_rows(unpack(name, tmp_path / "evidence"))
    read = [row for row in rows if isinstance(row.event, Submitted) and isinstance(row.event.command, Read)][-1]
    assert read.command is not None
    assert isinstance(read.event, Submitted)
    whole = of_command(rows, read.command)
    kinds = [type(row.event).__name__ for row in whole]
    assert kinds[:2] == ["Doorbell", "Submitted"]
    assert "Dma" in kinds
    assert kinds[-1] == "Doorbell"
    assert {row.command for row in whole if type(row.event).__name__ not in ("Doorbell", "Interrupt")} == {read.command}
    assert isinstance(first := whole[0].event, Doorbell)
    assert (first.qid, first.completion) == (read.event.sqid, False)
    assert isinstance(last := whole[-1].event, Doorbell)
    assert last.completion
    assert "Interrupt" in kinds
    assert f"NLB        {read.event.command.CDW12 & 0xFFFF:#x}" in list(dump(read)) or read.event.command.CDW12 & 0xFFFF <= 9


def test_registers_show_their_fields(make_evidence: MakeEvidence) -> None:
    cc = CC.of(EN=1, IOSQES=6, IOCQES=4)
    row = one(make_evidence, RegisterWrite(t=1, controller="nv0", offset=CC.OFFSET, size=4, value=cc))
    assert (row.direction, row.name, row.detail) == ("→", "write CC", "0x460001  EN=1 IOSQES=6 IOCQES=4")
    high = CAP.of(CSS=1, MPSMAX=4) >> 32
    row = one(make_evidence, RegisterRead(t=1, controller="nv0", offset=CAP.OFFSET + 4, size=4, value=high))
    assert (row.direction, row.name) == ("←", "read CAP+4")
    assert "CSS=1" in row.detail
    assert "MPSMAX=4" in row.detail
    row = one(make_evidence, RegisterRead(t=1, controller="nv0", offset=0x800, size=4, value=3))
    assert (row.name, row.detail) == ("read offset 800h", "0x3  4 bytes")


def test_what_was_not_seen_is_not_shown(make_evidence: MakeEvidence) -> None:
    sampled = Submitted(t=1, controller="nv0", sqid=0, raw=bytes(IDENTIFY), exact=("CID", "OPC", "CNS"))
    row = one(make_evidence, sampled)
    assert row.trust is Trust.SAMPLED
    assert "~PRP1=0x1000" in row.detail
    assert " CNS=1 (controller)" in row.detail
    row = one(make_evidence, replace(sampled, rebuilt=True))
    assert row.trust is Trust.REBUILT
    assert "PRP1" not in row.detail
    assert "CNS=1" in row.detail
    lines = list(dump(row))
    assert "PRP1       not seen" in lines
    assert "CNS        1 (controller)" in lines


def test_a_completion_names_what_it_ends_and_how(make_evidence: MakeEvidence) -> None:
    bad = Completion.of(SQID=0, CID=7, SCT=0, SC=2, DNR=1, P=1)
    events = [
        Submitted(t=1, controller="nv0", sqid=0, raw=bytes(IDENTIFY)),
        Completed(t=1.00005, controller="nv0", cqid=0, raw=bytes(bad)),
        Completed(t=1.1, controller="nv0", cqid=0, raw=bytes(bad)),
    ]
    _, ended, again = timeline_rows(make_evidence(events))
    assert ended.command == 1
    assert ended.detail.startswith("Identify: Invalid Field in Command (SCT 0h, SC 02h)")
    assert ended.detail.endswith("after 50 µs")
    assert "DNR=1" in ended.detail
    assert again.command is None
    assert again.detail.endswith("of no command in flight")


def test_nothing_that_a_terminal_obeys_gets_through(make_evidence: MakeEvidence) -> None:
    nasty = "\x1b[2J\r\n\u202e\x9b31m"
    events = [
        Panicked(t=1, text=nasty),
        ActionEnded(t=2, number=0, action=nasty, answer={"status": {"words": nasty}}),
        Remark(t=3, name=nasty, detail={"a": nasty}),
    ]
    for row in timeline_rows(make_evidence(events)):
        assert (row.name + row.detail).isprintable()
    assert printable("\x1b[2J") == "\\x1b[2J"
    shown = wire(make_evidence(events).folder).output
    assert "\x1b" not in shown
    assert "\x9b" not in shown
    assert len(shown.splitlines()) == 5


def test_an_unknown_command_and_a_stray_doorbell(make_evidence: MakeEvidence) -> None:
    row = one(make_evidence, Submitted(t=1, controller="nv0", sqid=1, raw=bytes(Command.of(OPC=0xC1, CID=3, CDW12=5))))
    assert row.name == "opcode C1h"
    assert "CDW12=5" in row.detail
    row = one(make_evidence, Doorbell(t=1, controller="nv0", offset=0x1002, size=4, value=1, qid=-1, completion=False))
    assert row.detail == "0x1 at 1002h, where no doorbell starts"


def test_values_are_words_and_not_a_programming_languages(make_evidence: MakeEvidence) -> None:
    detail = {"fields": ["CID", "OPC"], "entry": 17, "where": None, "late": True}
    assert one(make_evidence, Remark(t=1, name="prp", detail=detail)).detail == "prp fields=CID,OPC entry=0x11 late=yes"
    asked = ActionStarted(t=1, number=0, action="write", arguments={"lba": 566, "fua": False, "fill": None})
    assert one(make_evidence, asked).detail == "lba=566 fua=no"


def test_every_kind_of_event_has_a_row(make_evidence: MakeEvidence) -> None:
    from conformance.wire.decode import _TELLERS

    assert set(_TELLERS) == set(Event.KINDS.values())


def test_the_command_prints_a_plain_line_an_event(tmp_path: Path) -> None:
    evidence = unpack("linux-qemu-write-basic", tmp_path / "evidence")
    result = wire(evidence.folder, "--all")
    lines = result.output.splitlines()
    assert result.exit_code == 0
    assert lines[0].startswith("linux/qemu/write/basic: ")
    assert len(lines) == len(list(evidence.events())) + 2
    assert any("→" in line and " write CC " in line and "EN=1" in line for line in lines)
    assert any("ask write" in line for line in lines)
    written = next(line for line in lines if " Write " in line and "SQ 1" in line)
    number = written.split("#")[1].split()[0]
    whole = wire(evidence.folder, "--command", number).output
    assert "SLBA " in whole
    assert "completion" in whole
    assert "DMA read" in whole


def test_wrong_usage_says_what_to_do(tmp_path: Path) -> None:
    evidence = unpack("reference-lab-write-basic", tmp_path / "evidence")
    last = max(row.command or 0 for row in timeline_rows(evidence))
    result = wire(evidence.folder, "--command", "99999")
    assert isinstance(result.exception, UsageError)
    assert f"numbered 1 to {last}" in str(result.exception)
    unpack("u-boot-qemu-read-basic", tmp_path / "second")
    assert "holds 2 recordings" in str(wire(tmp_path).exception)
    assert "There is no evidence" in str(wire(tmp_path / "nowhere").exception)


def test_follow_shows_events_as_they_come_and_ends_with_the_recording(make_evidence: MakeEvidence, tmp_path: Path) -> None:
    model = make_evidence([])
    writer = EvidenceWriter(tmp_path / "live", model.identity)
    command = [sys.executable, "-m", "conformance.cli", "wire", str(writer.folder), "--follow"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    watchdog = threading.Timer(60, child.kill)
    watchdog.start()
    try:
        assert child.stdout is not None
        for number in range(3):
            writer.record(ActionEnded(t=number, number=number, action="ready", answer={"status": "success"}))
            assert f"{number}.000000" in child.stdout.readline()  # the next is written only when this one was shown
        writer.record(Reset(t=9, controller="nv0", cause="flr"))
        writer.close("complete")
        rest = child.stdout.read()
        assert "RESET" in rest
        assert child.wait() == 0
    finally:
        watchdog.cancel()
        child.kill()
        child.wait()


def test_follow_reads_nothing_twice(make_evidence: MakeEvidence, tmp_path: Path) -> None:
    writer = EvidenceWriter(tmp_path / "live", make_evidence([]).identity)
    record = StreamWriter(writer.folder / "device" / "nv0.rec")
    batches = following(writer.folder)
    assert next(batches) == []
    for number in range(5):
        record.register_read(offset=0, size=4, value=number)
        writer.record(ActionEnded(t=number, number=number, action="ready", answer={"status": "success"}))
    first = next(batches)
    assert [event.number for event in first if isinstance(event, ActionEnded)] == list(range(5))
    record.register_read(offset=0, size=4, value=5)
    second = next(batches)  # what was being packed at the last look has come
    assert [event.value for event in second if isinstance(event, RegisterRead)] == list(range(5))
    assert not any(isinstance(event, ActionEnded) for event in second)
    record.close()
    writer.close("complete")
    rest = list(batches)
    assert [event.value for events in rest for event in events if isinstance(event, RegisterRead)] == [5]
    seen = sorted((event for events in (first, second, *rest) for event in events), key=lambda event: event.t)
    assert [key(event) for event in seen] == [key(event) for event in Evidence(writer.folder).events()]


def test_a_line_that_is_not_whole_waits_for_its_rest(make_evidence: MakeEvidence) -> None:
    folder = make_evidence([Reset(t=1, controller="nv0", cause="flr")], end=None).folder
    whole = (folder / "events.jsonl").read_bytes()
    (folder / "events.jsonl").write_bytes(whole[:-10])
    batches = following(folder)
    assert next(batches) == []
    (folder / "events.jsonl").write_bytes(whole)
    assert [type(event) for event in next(batches)] == [Reset]
    (folder / "events.jsonl").write_bytes(whole + b"{}\n")
    with pytest.raises(LabError, match=r"events\.jsonl:2: not an event"):
        next(batches)


@pytest.mark.parametrize("name", NAMES)
def test_a_place_that_a_failure_names_is_shown_amid_its_neighbours(name: str, tmp_path: Path) -> None:
    evidence = unpack(name, tmp_path / "evidence")
    rows = timeline_rows(evidence)
    read = [row for row in rows if isinstance(row.event, Submitted) and isinstance(row.event.command, Read)][-1]
    lines = wire(evidence.folder / place(read.event)).output.splitlines()
    (here,) = [line for line in lines if line.endswith("◂")]
    assert f" {read.number} Read " in here
    assert any("completion" in line and read.number in line for line in lines)
    assert len(lines) < 40 < len(rows)
    drawn = wire(evidence.folder / place(read.event), "--ladder").output
    assert "▶│" in drawn
    assert "│◀" in drawn
    assert drawn.count("◂") == 1


def test_a_command_as_a_ladder(tmp_path: Path) -> None:
    evidence = unpack("linux-lab-read-basic", tmp_path / "evidence")
    lines = wire(evidence.folder, "--command", "1", "--ladder").output.splitlines()
    assert "doorbell SQ 0 tail 1" in lines[1]
    assert "Identify" in lines[2]
    assert "completion Identify" in "".join(lines[3:])


def test_a_place_that_is_none_is_said_so(tmp_path: Path) -> None:
    evidence = unpack("linux-lab-read-basic", tmp_path / "evidence")
    assert "There is no such event" in str(wire(evidence.folder / "events.jsonl:99999").exception)
    assert "--follow goes with neither" in str(wire(evidence.folder, "--follow", "--ladder").exception)
