"""``nvme-lab observe``: what is booted and how, how far a driver gets, and a report that blames nobody without cause."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conformance.commands import run_command
from conformance.commands.observe import _target
from conformance.judging.judge import Verdict
from conformance.onboarding import observation, observe_report
from conformance.onboarding.crashes import crash_line
from conformance.onboarding.observation import (
    Boot,
    BootImage,
    DeviceComparison,
    Observer,
    checks_of,
    compared,
    groups,
    manifest_of,
)
from conformance.onboarding.observe_report import Report, advice
from conformance.onboarding.rungs import PLAIN, RUNGS, Rung
from conformance.onboarding.steps_seen import HOW_TO, Seen, seen
from conformance.suite.check import EVERY, Finding, Outcome
from conformance.suite.selection import CHECKS
from lab.data.events import Completed, Event, RegisterRead, RegisterWrite, Submitted
from lab.data.manifest import STAGES
from lab.deadline import Deadline
from lab.device.lab import unservable
from lab.errors import UsageError
from lab.guest.process import Process
from lab.nvme.commands import CreateIoSq, Identify, Read
from lab.nvme.registers import CC, CSTS
from lab.toolchain import Toolchain
from tests.hobby.iso import bootable
from tests.onboarding.boot_sectors import COM2, FLOPPY_BYTES, image, printer, shower

PLAIN_RUNG = RUNGS[0]
ODD = next(rung for rung in RUNGS if rung.name == "4kn")
HOSTILE = next(rung for rung in RUNGS if rung.name == "never-ready")


# -- what is booted -------------------------------------------------------------------------------------------------


def options(**given: Any) -> dict[str, Any]:
    keys = ("kernel", "disk", "iso", "floppy", "firmware", "initrd", "append", "machine", "cpu", "memory", "arch")
    return {**dict.fromkeys(keys), "cpus": 1, "extra": (), **given}


def test_the_file_says_how_it_is_booted(tmp_path: Path) -> None:
    for name, content, key in (
        ("a.img", image(b""), "disk"),
        ("b.img", image(b"", FLOPPY_BYTES), "floppy"),
        ("c.iso", bootable(image(b"")[:2048]), "iso"),
    ):
        file = tmp_path / name
        file.write_bytes(content)
        target, called, what = _target(file, None, None, options())
        assert target.boot[key] == str(file)
        assert called == file.stem
        assert what.startswith(f"{file}: ")


def test_an_nvme_disk_alone_is_booted_from_and_a_firmware_alone_is_the_driver(tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(image(b""))
    target, _, _ = _target(None, disk, None, options())
    assert (target.boot["nvme"], target.disk) == (True, disk)
    target, _, _ = _target(None, None, None, options(firmware=disk))
    assert target.boot["firmware_driver"]
    target, _, _ = _target(None, None, None, options(firmware=disk, disk=disk))
    assert "firmware_driver" not in target.boot


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "Nothing says what is booted"),
        ({"kernel": Path("a"), "disk": Path("b")}, "One system is booted at a time"),
        ({"kernel": Path("/nonexistent")}, "there is no file /nonexistent"),
    ],
)
def test_what_cannot_be_booted_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=re.escape(says)):
        _target(None, None, None, options(**given))


def test_a_kernel_for_another_processor_is_refused_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "kernel"
    head = b"\x7fELF\2\1\1" + bytes(9) + b"\2\0" + (21).to_bytes(2, "little") + b"\1\0\0\0"
    file.write_bytes(head + bytes(24) + bytes(4) + (64).to_bytes(2, "little") + bytes(10))
    assert run_command(("observe", str(file))) == 4
    said = capsys.readouterr().err
    assert "PPC64" in said
    assert "remedy:" in said


def test_machines_are_varied_but_not_what_was_chosen() -> None:
    shown = [tuple(one.values()) for one in BootImage({}, Path()).variants()]
    assert shown[0] == ("q35", "max", "256M")
    assert {cpu for _, cpu, _ in shown} == {"max", "qemu64"}
    assert {memory for _, _, memory in shown} == {"256M", "1G"}
    assert {machine for machine, _, _ in shown} == {"q35", "pc"}
    assert [*BootImage({}, Path(), machine="pc", cpu="max", memory="64M").variants()] == [
        {"machine": "pc", "cpu": "max", "memory": "64M"}
    ]


# -- the ladder -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rung", RUNGS, ids=lambda rung: rung.name)
def test_each_rung_can_be_recorded_and_asks_nothing(rung: Rung, tmp_path: Path) -> None:
    scenario = rung.scenario(7)
    assert [action.name for action in scenario.actions] == ["load"]
    assert rung.kind == "qemu" or unservable(scenario.device, (11, 1), scenario.faults) is None
    assert not {check.id for check in checks_of(rung) if check.stage == EVERY}
    assert set(rung.checks) <= {check.id for check in checks_of(rung)}
    kernel = tmp_path / "kernel"
    kernel.touch()
    manifest = manifest_of(
        "x", BootImage({"kernel": str(kernel)}, tmp_path), {"machine": "q35", "cpu": "max", "memory": "1G"}, 9
    )
    assert (manifest.boot.quiet, manifest.boot.screen, manifest.stages) == (1.5, True, ())


def test_the_ladder_begins_plainly_and_every_step_has_a_hint() -> None:
    assert RUNGS[0].name == PLAIN
    assert len({rung.name for rung in RUNGS}) == len(RUNGS)
    assert HOW_TO.keys() == set(STAGES)


# -- how far it gets ------------------------------------------------------------------------------------------------


def command(made: Any, *, sqid: int, ok: bool | None, t: float) -> list[Event]:
    sent = made.but(CID=7)
    found: list[Event] = [Submitted(t=t, controller="nv0", sqid=sqid, raw=bytes(sent))]
    if ok is not None:
        raw = bytes(8) + sqid.to_bytes(2, "little").rjust(4, b"\0") + (7).to_bytes(2, "little") + (b"\1\0" if ok else b"\5\0")
        found.append(Completed(t=t + 0.1, controller="nv0", cqid=sqid, raw=raw))
    return found


def up() -> list[Event]:
    return [
        RegisterRead(t=1, controller="nv0", offset=0, size=8, value=1),
        RegisterWrite(t=2, controller="nv0", offset=CC.OFFSET, size=4, value=int(CC.of(EN=1))),
        RegisterRead(t=3, controller="nv0", offset=CSTS.OFFSET, size=4, value=1),
    ]


def test_steps_are_read_from_the_wire() -> None:
    events = [*up(), *command(Identify.of(CNS=1), sqid=0, ok=True, t=4), *command(CreateIoSq.of(QID=1), sqid=0, ok=True, t=5)]
    found = seen([*events, *command(Read.of(NSID=1), sqid=1, ok=True, t=6)])
    assert list(found.steps) == ["detect", "admin-queue", "identify", "io-queues", "read"]
    assert found.waiting == ""


def test_what_failed_and_what_is_waited_for_is_said() -> None:
    failing = seen([*up(), *command(CreateIoSq.of(QID=1), sqid=0, ok=False, t=5)])
    assert list(failing.steps) == ["detect", "admin-queue"]
    assert failing.failed[0].startswith("CreateIoSq on queue 0: ")
    waiting = seen([*up(), *command(Read.of(NSID=1, SLBA=5), sqid=1, ok=None, t=5)])
    assert waiting.waiting == "Read of LBA 5 in namespace 1"
    assert seen(up()[:2]).waiting.startswith("CSTS.RDY (read 0 times")


def boot(rung: Rung = PLAIN_RUNG, *, reached: tuple[str, ...] = STAGES[:5], how: str = "quiet", **more: Any) -> Boot:
    steps = {stage: ["seen"] for stage in reached}
    return Boot(rung, Path("evidence"), Seen(steps=steps, accesses=len(reached)), 1.0, how, **more)


def sentence(other: Boot) -> DeviceComparison:
    return compared(boot(), other)


def test_a_boot_is_compared_with_the_plain_one() -> None:
    assert not sentence(boot(ODD)).is_worse
    less = sentence(boot(ODD, reached=STAGES[:3]))
    assert less.is_worse
    assert less.sentence.startswith("only detect, admin-queue, identify; not io-queues, read")
    assert sentence(boot(ODD, how="ended", reason="the guest reset the machine")).is_worse
    assert sentence(boot(ODD, said={"COM1": "ok\nPage Fault at 0\n"})).is_worse


def test_steps_that_a_device_does_not_allow_are_not_missed() -> None:
    old = next(rung for rung in RUNGS if rung.name == "version-1.0")
    with_list = boot(reached=(*STAGES[:5], "multi-namespace"))
    assert not compared(with_list, boot(old)).is_worse
    assert compared(with_list, boot(ODD)).is_worse


@pytest.mark.parametrize(
    ("stimulus", "after", "says", "worse"),
    [
        ("reset", Seen(), "after the reset no register was accessed", True),
        ("reset", Seen({stage: ["seen"] for stage in STAGES[:5]}, accesses=9), "the same steps again", False),
        ("reset", Seen({"detect": ["seen"]}, accesses=1), "only detect; not admin-queue", True),
        ("power-button", Seen(), "it does nothing to the device, and leaves the machine on", False),
        ("power-button", Seen({"reset": ["a shutdown is asked for"]}, accesses=1), "it tells the controller (CC.SHN)", False),
    ],
)
def test_what_a_driver_does_after_a_stimulus_is_told(
    stimulus: str, after: Seen, says: str, worse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rung = next(rung for rung in RUNGS if rung.stimulus == stimulus)
    stimulated = boot(rung, stimulated=1.0)
    monkeypatch.setattr(Boot, "afterwards", after)
    found = sentence(stimulated)
    assert says in found.sentence
    assert found.is_worse == worse


def test_violations_on_a_slow_machine_are_told_as_not_proven() -> None:
    finding = Finding(False, None, "one", "two")
    slow = Verdict("x", "lab", "observe/plain", CHECKS["io-queues/size"], Outcome.ERROR, "too slow", findings=(finding,))
    report = Report("x", "x.img: a disk", {}, (boot(verdicts=(slow,)),))
    assert report.unproven == ["io-queues/size"]
    assert "1 more not proven" in report.headline


def test_a_driver_that_refuses_a_hostile_device_is_not_worse() -> None:
    assert not sentence(boot(HOSTILE, reached=STAGES[:1])).is_worse
    assert not sentence(boot(ODD, how="lab-error", reason="QEMU died")).is_worse


# -- the report -----------------------------------------------------------------------------------------------------


def verdict(check: str, outcome: Outcome, because: str = "") -> Verdict:
    findings = (Finding(False, None, "one", "two \x1b[31m<b>"),) if outcome is Outcome.FAIL else ()
    return Verdict("x", "lab", "observe/plain", CHECKS[check], outcome, because=because, findings=findings)


def test_violations_are_grouped_and_consequences_folded() -> None:
    follower = verdict("io-queues/live-cq", Outcome.INCONCLUSIVE, "io-queues/size")
    one = boot(verdicts=(verdict("io-queues/size", Outcome.FAIL), follower))
    other = boot(ODD, verdicts=(verdict("io-queues/size", Outcome.FAIL), verdict("admin-queue/aqa", Outcome.WARN)))
    first, second = groups([one, other])
    assert (first.verdict.check.id, first.boots, first.follows) == ("io-queues/size", ("plain", "4kn"), ("io-queues/live-cq",))
    assert (second.verdict.check.id, second.is_mandatory) == ("admin-queue/aqa", False)


def test_the_page_has_three_parts_and_escapes_what_the_system_says(tmp_path: Path) -> None:
    one = boot(verdicts=(verdict("io-queues/size", Outcome.FAIL),), said={"COM1": "<script>alert(1)</script>\n"})
    report = Report("x", "x.img: a disk", {"machine": "q35"}, (one, boot(ODD, reached=STAGES[:2])))
    page = observe_report.html(report, tmp_path)
    assert all(part in page for part in ("1. What the driver did", "2. What it broke", "3. What was never exercised"))
    assert "<script>" not in page
    assert "\x1b" not in page
    assert "it gets less far on 4kn" in report.headline
    data = observe_report.to_json(report, tmp_path)
    assert data["broken"][0]["check"] == "io-queues/size"
    assert set(data["unexercised"]) == set(STAGES[5:])
    json.dumps(data)


def test_a_driver_that_was_not_reached_is_judged_for_nothing() -> None:
    silent = replace(boot(reached=()), how="not-reached", screen="SeaBIOS (version 1)\nBooting from Hard Disk...\n")
    report = Report("x", "x.img: a disk", {}, (silent,))
    assert report.headline.startswith("Not reached")
    assert "It said nothing" in " ".join(advice(report))
    assert "It spoke" in said_of(replace(silent, screen="No init found"))
    at_prompt = said_of(replace(silent, said={"COM1": "U-Boot 2023\n=> "}))
    assert "prompt on COM1 (=>)" in at_prompt
    assert "nvme scan" in at_prompt
    drawn = said_of(replace(silent, said={"COM1": "x" * 500 + "[ Dec 01  8:10 ]"}))
    assert "prompt on COM1 (…xxx" in drawn
    assert "x" * 41 not in drawn
    started = replace(silent, said={"COM1": "Command line: panic=-1 oops=panic\nKernel panic: Unable to mount root fs"})
    assert started.crash.startswith("Kernel panic")
    assert "--initrd" in said_of(started)


@pytest.mark.parametrize(
    "line", ["Kernel command line: console=ttyS0 panic=-1 oops=panic", "..MP-BIOS bug: 8254 timer", "kernel.panic = 0"]
)
def test_what_only_looks_like_a_crash_is_none(line: str) -> None:
    assert crash_line([line]) == ""
    assert crash_line([f"{line}\nBUG: unable to handle page fault\nKernel panic - not syncing"]) == "Kernel panic - not syncing"


def said_of(boot: Boot) -> str:
    return " ".join(advice(Report("x", "x.img: a disk", {}, (boot,))))


# -- guests ---------------------------------------------------------------------------------------------------------


def observed(folder: Path, toolchain: Toolchain, **boot: Any) -> Boot:
    """Boot once, on the usual machine, before the plain device."""
    observer = Observer("x", BootImage(boot, folder, machine="pc", cpu="max", memory="64M"), folder, toolchain, lambda _: None)
    return observer.plain()


def test_a_screen_only_system_is_seen_and_not_judged(toolchain: Toolchain, tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(image(shower(b"No init found")))
    found = observed(tmp_path, toolchain, disk=str(disk))
    assert found.how == "not-reached"
    assert "No init found" in found.own_screen
    assert found.picture is not None
    assert found.picture.read_bytes().startswith(b"\x89PNG")
    assert not found.verdicts


def test_a_system_on_a_floppy_that_speaks_on_com2_is_heard(toolchain: Toolchain, tmp_path: Path) -> None:
    floppy = tmp_path / "floppy.img"
    floppy.write_bytes(image(printer(COM2, b"PANIC: no root\r\n"), FLOPPY_BYTES))
    found = observed(tmp_path, toolchain, floppy=str(floppy))
    assert found.said == {"COM2": "PANIC: no root\n"}
    assert found.crash == "PANIC: no root"


def test_the_page_lists_the_ladder() -> None:
    page = (Path(__file__).parents[2] / "docs" / "observing.md").read_text(encoding="utf-8")
    rows = [row for row in page.splitlines() if row.startswith("| `")]
    assert rows == [f"| `{rung.name}` | {rung.title} |" for rung in RUNGS]


@pytest.mark.parametrize(
    ("before", "after", "is_echoed"),
    [
        (("boot\n=> ", ""), ("boot\n=> nvme scan", ""), True),
        (("boot\n=> ", ""), ("boot\n=> ", ""), False),
        (("nvme scan\n=> ", ""), ("nvme scan\n=> [1] link up\n", ""), False),  # it was typed before
        (("", "C:>"), ("", "C:>nvme scan"), True),
        (("", "old"), ("", "scrolled\n> nvme scan"), True),
    ],
)
def test_where_keys_are_heard_is_seen(before: tuple[str, str], after: tuple[str, str], is_echoed: bool) -> None:
    assert observation._is_echoed(before, after, "nvme scan") == is_echoed


# -- several at once ------------------------------------------------------------------------------------------------


class FakeObserver(Observer):
    """Boots nothing: each boot waits for as many others as there shall be at once."""

    def __init__(self, folder: Path, at_once: int) -> None:
        super().__init__("x", BootImage({}, folder), folder, Toolchain(None, None), lambda _: None)
        self.together = threading.Barrier(at_once)

    def boot(self, rung: Rung, *, suffix: str = "", quiet: float = 0.0) -> Boot:
        del suffix, quiet
        self.together.wait(10)
        return boot(rung)


def test_several_devices_are_tried_at_once_and_told_in_their_order(tmp_path: Path) -> None:
    found = list(FakeObserver(tmp_path, 2).all_beside(boot(), RUNGS[1:7], 2, 0))
    assert [rung.name for rung, _ in found] == [rung.name for rung in RUNGS[1:7]]
    assert all(made is not None and made.rung is rung for rung, made in found)


def test_no_boot_is_begun_that_would_end_too_late(tmp_path: Path) -> None:
    slow = replace(boot(), seconds=100.0)
    assert [made for _, made in FakeObserver(tmp_path, 1).all_beside(slow, RUNGS[1:4], 2, 50)] == [None] * 3


def test_what_a_second_boot_must_prove_is_left_out_where_it_would_end_too_late(tmp_path: Path) -> None:
    begun: list[str] = []

    class Slow(FakeObserver):
        def boot(self, rung: Rung, *, suffix: str = "", quiet: float = 0.0) -> Boot:
            begun.append(f"{rung.name}{suffix}")
            return replace(boot(rung, reached=()), seconds=100.0)

    assert [made for _, made in Slow(tmp_path, 1).all_beside(boot(), RUNGS[1:2], 1, 50)] == [None]
    assert begun == [RUNGS[1].name]


def test_an_interrupt_ends_the_guests_of_all_threads(tmp_path: Path) -> None:
    running = Process(["sleep", "60"], {}, tmp_path / "output")

    class Interrupted(FakeObserver):
        def boot(self, rung: Rung, *, suffix: str = "", quiet: float = 0.0) -> Boot:
            if rung is RUNGS[1]:
                self.together.wait(10)
                raise KeyboardInterrupt
            running.start()
            self.together.wait(10)
            assert running.wait(Deadline(30)), "it was not killed"
            return boot(rung)

    with pytest.raises(KeyboardInterrupt):
        list(Interrupted(tmp_path, 2).all_beside(boot(), RUNGS[1:6], 2, 0))
    assert not running.alive
