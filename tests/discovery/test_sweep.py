"""Faults at every place: what is struck, what is judged, and what only one place or one pair can find."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from conformance.commands import run_command
from conformance.discovery import trial
from conformance.discovery.behaviours import LEFT_OUT, USES, Effect
from conformance.discovery.cases import followed, following, prepared, select, singles
from conformance.discovery.groups import Group, grouped, joined
from conformance.discovery.journal import FILE, Entry, SweepJournal
from conformance.discovery.oracles import RECOVERS, SAFETY, Failure, judging
from conformance.discovery.places import Place, places
from conformance.discovery.sweep import REPORT, read_report
from conformance.discovery.trial import Bench, Tried, attempt, reference_bench
from conformance.run.plan import seed_defect
from conformance.run.scenario_files import load_scenario
from conformance.suite.selection import find_scenario
from lab import drivers
from lab.controller import behaviour
from lab.controller.faults import check_fault
from lab.data.plan import Scenario
from lab.defects.defect import DEFECTS, defect
from lab.errors import LabError, UsageError
from lab.nvme.commands import Command, Read
from lab.nvme.completions import Completion
from lab.reference.errors import CommandFailed
from lab.reference.execution import Execution
from lab.reference.queue_pair import QueuePair

BENCH = reference_bench()
THIRD = "read/exact:third-failure"


def test_only_what_is_kept_is_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def refuse(*_: object, sealed: bool, **__: object) -> NoReturn:
        asked.append(sealed)
        raise LabError("not recorded")

    monkeypatch.setattr(trial, "record", refuse)
    for keep in (None, tmp_path / "kept"):
        assert attempt(BENCH, find_scenario("read/basic", 0), keep=keep).error == "not recorded"
    assert asked == [False, True]


def test_every_behaviour_of_the_lab_is_used_or_left_out_for_a_reason() -> None:
    assert {*USES, *LEFT_OUT} >= behaviour.BEHAVIOURS.keys()
    assert not USES.keys() & LEFT_OUT.keys()


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    actions = drivers.adapter(BENCH.driver, BENCH.toolchain).actions
    return prepared(find_scenario("read/basic", 0), actions)


@pytest.fixture(scope="module")
def calm(scenario: Scenario) -> Tried:
    return attempt(BENCH, scenario, events=True)


@pytest.fixture(scope="module")
def found(calm: Tried) -> list[Place]:
    return places(calm.events, "nv0")


def test_a_scenario_ends_with_the_question_whether_the_driver_recovers(scenario: Scenario, calm: Tried) -> None:
    assert [action.name for action in scenario.actions[-3:]] == ["unload", "load", "read"]
    assert (calm.failures, calm.error) == ((), "")


def test_places_are_those_of_the_calm_recording(found: list[Place]) -> None:
    words = [place.words for place in found]
    assert {"the start", "Identify 1", "Identify 4", "CreateIoSq 2", "Read 4", "CC.EN=1 1", "CC.SHN 1"} <= {*words}
    assert "CC.EN=1 2" not in words  # that is the load after all
    assert len({*words}) == len(words)
    assert not any(place.returns_data for place in found if place.what == "CreateIoSq")


def test_every_case_is_a_fault_that_the_device_can_have(scenario: Scenario, found: list[Place]) -> None:
    cases = list(singles(scenario, found))
    assert len({case.name for case in cases}) == len(cases) > 500
    for case in cases:
        check_fault(case.stricken.faults[-1])
    assert USES.keys() - {case.strikes[0].behaviour for case in cases} == {"slow-disable", "ones-after-disable", "new-firmware"}


def test_every_fault_strikes_where_it_says(scenario: Scenario, found: list[Place]) -> None:
    wanted = {"Identify 3", "Read 2", "write of CC 1", "read of CSTS 1", "CC.EN=1 1", "CC.SHN 1"}
    cases = [case for case in singles(scenario, found) if case.strikes[0].place.words in wanted]
    for case in cases[::7]:
        assert attempt(BENCH, case.stricken, case.effects, events=True).struck == 1, case.name


def test_the_order_is_drawn_and_shards_share_all(scenario: Scenario, found: list[Place]) -> None:
    cases = list(singles(scenario, found, ["drop", "status"]))
    parts = [select(cases, 3, None, (number, 3)) for number in (1, 2, 3)]
    assert sorted(case.name for part in parts for case in part) == sorted(case.name for case in cases)
    assert select(cases, 3, 5, (1, 1)) == select(cases, 3, None, (1, 1))[:5] != cases[:5]


def test_pairs_strike_what_only_happens_after_the_first_fault(scenario: Scenario, found: list[Place]) -> None:
    (first,) = (case for case in singles(scenario, found, ["drop"]) if case.strikes[0].place.words == "Read 2")
    seen = places(attempt(BENCH, first.stricken, events=True).events, "nv0", struck=True)
    assert {"Abort 1", "Read 3"} <= {place.words for place in seen}
    assert not {"Identify 1", "Read 1"} & {place.words for place in seen}
    assert any("dw0=1 at Abort 1" in case.name for case in following(first, seen, ["status"]))
    assert [one.count for one in followed([first, first, first], 20, 0)] == [8, 8, 4]


@pytest.mark.parametrize(
    ("effect", "judges", "leaves"),
    [
        (Effect.FAILURE, {"read/exact", "io-queues/order"}, set[str]()),
        (Effect.WIRE_LIE, {"read/exact"}, {"io-queues/order"}),
        (Effect.DATA_LIE, set(SAFETY), {"read/exact", "io-queues/order"}),
    ],
)
def test_what_is_judged_is_what_the_device_leaves_to_the_driver(
    effect: Effect, judges: set[str], leaves: set[str], scenario: Scenario
) -> None:
    checks = {check.id for check in judging(scenario, {effect})}
    assert judges | SAFETY <= checks
    assert not leaves & checks


@pytest.fixture
def third_failure() -> Iterator[Bench]:
    """Yield a driver that takes its third Read for done, although it failed, and no other."""

    @defect(THIRD)
    class ThirdFailure(Execution):
        """Takes the third Read for done if it fails."""

        reads = 0

        def run(
            self, pair: QueuePair, commands: Sequence[Command], *, retry: bool = True, depth: int | None = None
        ) -> list[Completion]:
            self.reads += any(isinstance(command, Read) for command in commands)
            try:
                return super().run(pair, commands, retry=retry, depth=depth)
            except CommandFailed as failed:
                if self.reads != 3 or not isinstance(failed.command, Read):
                    raise
                return [failed.completion]

    yield Bench(seed_defect(BENCH.driver, THIRD), "lab", BENCH.toolchain)
    del DEFECTS[THIRD]


def test_a_mistake_at_the_third_access_is_found_there_only(
    third_failure: Bench, scenario: Scenario, found: list[Place]
) -> None:
    failed = {}
    for case in singles(scenario, found, ["status"]):
        if tried := attempt(third_failure, case.stricken, case.effects, recovers=True).failures:
            failed[case.name] = tried[0].check
    assert failed == {"read/basic: status sc=6 dnr=1 at Read 3": "read/media-error"}


def test_a_mistake_that_needs_two_faults_is_found_by_pairs_only(scenario: Scenario, found: list[Place]) -> None:
    bench = Bench(seed_defect(BENCH.driver, "reset/abort:bit-ignored"), "lab", BENCH.toolchain)
    reads = [case for case in singles(scenario, found, ["drop"]) if case.strikes[0].place.what == "Read"]
    assert reads
    assert not [case.name for case in reads if attempt(bench, case.stricken, case.effects, recovers=True).failures]
    first = reads[0]
    seen = places(attempt(bench, first.stricken, first.effects, events=True).events, "nv0", struck=True)
    refused = [case for case in following(first, seen, ["status"]) if case.strikes[1].place.what == "Abort"]
    failed = [case.name for case in refused if attempt(bench, case.stricken, case.effects, recovers=True).failures]
    assert any("status sc=0 dw0=1 at Abort 1" in name for name in failed)
    assert not [case.name for case in refused if attempt(BENCH, case.stricken, case.effects, recovers=True).failures]


@pytest.mark.parametrize(("name", "strike"), [("reset/asked", "ready-drops at Identify 11")])
def test_what_a_sweep_has_found_in_the_reference_driver_stays_mended(name: str, strike: str) -> None:
    actions = drivers.adapter(BENCH.driver, BENCH.toolchain).actions
    asked = prepared(find_scenario(name, 0), actions)
    seen = places(attempt(BENCH, asked, events=True).events, "nv0")
    (case,) = (case for case in singles(asked, seen) if case.strikes[0].words == strike)
    tried = attempt(BENCH, case.stricken, case.effects, recovers=True, events=True)
    assert (tried.failures, tried.error, tried.struck) == ((), "", 1)


def test_a_driver_that_does_not_come_back_is_noticed(scenario: Scenario, found: list[Place]) -> None:
    """The device stays away, which is no driver's fault: so the question is asked of `removed` here, and nowhere else."""
    (case,) = (case for case in singles(scenario, found, ["removed"]) if case.strikes[0].place.words == "Read 1")
    assert case.lasts
    tried = attempt(BENCH, case.stricken, case.effects, recovers=True)
    assert [failure.check for failure in tried.failures] == [RECOVERS]


def test_failures_of_one_kind_are_one_group() -> None:
    def entry(number: int, *checks: str) -> Entry:
        shown = [Failure(check, "FAIL", "an answer", f"CID {number} of SQ 1") for check in checks]
        return Entry(case=f"case {number}", failures=shown, where=f"Read {number}", seconds=1)

    groups = grouped([entry(1, "read/exact", "read/mbr"), entry(22, "read/exact"), entry(3, "every/panic"), entry(4)])
    assert [(group.check, group.cases, group.also) for group in groups] == [
        ("read/exact", ["case 1", "case 22"], ["read/mbr"]),
        ("every/panic", ["case 3"], []),
    ]


def test_a_journal_that_was_cut_off_goes_on(tmp_path: Path) -> None:
    with SweepJournal(tmp_path) as journal:
        journal.add(Entry(case="one", seconds=1))
        journal.add(Entry(case="two", failures=[Failure("every/panic", "FAIL")], seconds=1))
    with (tmp_path / FILE).open("a") as file:
        file.write('{"case": "thr')
    with SweepJournal(tmp_path) as journal:
        assert (journal.done, journal.count) == ({"one", "two"}, 2)
        assert [entry.case for entry in journal.bad] == ["two"]
        journal.add(Entry(case="three", seconds=1))
    with SweepJournal(tmp_path) as journal:
        assert journal.count == 3
    (tmp_path / FILE).write_text('{"caze": 1}\n')
    with pytest.raises(UsageError, match=r"journal.jsonl:1: not an entry of a journal: case: this key is required"):
        SweepJournal(tmp_path)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "conformance.cli", "sweep", *arguments]


ENVIRONMENT = {**os.environ, "NO_COLOR": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
SILENT = ("--defect", "reset/stall:silent", "--scenario", "read/basic", "--behaviour", "drop", "--jobs", "1", "--limit", "9")


def nvme_lab(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)


def test_a_sweep_finds_a_defect_and_keeps_scenario_and_evidence(tmp_path: Path) -> None:
    done = nvme_lab(tmp_path, *SILENT, "--out", "out")
    assert done.returncode == 1, done.stdout + done.stderr
    report = read_report(tmp_path / "out")
    assert (report.done, report.errors, report.unfinished) == (report.total, {}, "")
    assert {"read/exact", "read/owned-memory"} & {group.check for group in report.groups}
    for group in report.groups:
        assert (group.confirmed, group.counts) == (True, True)
        assert (tmp_path / "out" / group.evidence / "end.json").is_file()
        assert load_scenario(tmp_path / "out" / group.scenario).faults[0].behaviour == "drop"
        assert f"FAIL  {group.check}" in done.stdout
    with pytest.raises(LabError, match="is no report of a sweep"):
        read_report(tmp_path)


def test_a_sweep_that_was_killed_goes_on_and_has_lost_nothing(tmp_path: Path) -> None:
    sweep = subprocess.Popen(command(*SILENT, "--out", "out"), cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    journal = tmp_path / "out" / FILE
    assert sweep.stdout is not None
    assert "9 faults" in sweep.stdout.readline()
    while not (journal.exists() and journal.read_bytes().count(b"\n") >= 3):
        assert sweep.poll() is None
    sweep.kill()
    sweep.wait()
    before = journal.read_text().splitlines()[:3]
    assert json.loads((tmp_path / "out" / REPORT).read_text())["request"]["defect"] == "reset/stall:silent"
    done = nvme_lab(tmp_path, "--resume", "out")
    assert done.returncode == 1, done.stdout + done.stderr
    assert journal.read_text().splitlines()[:3] == before
    report = read_report(tmp_path / "out")
    assert report.done == report.total == 9
    assert all(group.confirmed for group in report.groups)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "A sweep needs a folder"),
        (("--out", "x", "--behaviour", "dropp"), "the behaviour 'dropp' is unknown; did you mean 'drop'"),
        (("--out", "x", "--behaviour", "hold"), "the behaviour 'hold' is not used: without a release it is drop"),
        (("--out", "x", "--device", "qemu"), "QEMU's own device serves no faults"),
        (("--out", "x", "--shard", "3/2"), "there is no shard '3/2'"),
        (("--resume", "x"), "x holds no sweep"),
    ],
)
def test_wrong_usage_is_named(
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(["sweep", "--driver", "reference", *arguments]) == 4
    assert message in capsys.readouterr().err


def test_groups_that_came_to_the_same_function_are_one() -> None:
    def group(where: str, function: str, *cases: str, actual: str = "timeout") -> Group:
        return Group(
            check="every/answer", outcome="FAIL", expected="an answer", actual=actual, where=where, cases=list(cases),
            also=[f"also/{cases[0]}"], function=function,
        )  # fmt: skip

    found = joined([
        group("read of CAP", "nvme_timeout [nvme.ko]", "a", "b"),
        group("no Read", "nvme_timeout [nvme.ko]", "c"),
        group("no Read", "nvme_timeout [nvme.ko]", "d", actual="an error"),
        group("no Write", "nvme_remove [nvme.ko]", "e"),
        group("no Flush", "", "f"),
        group("no Flush", "", "g"),
    ])  # fmt: skip
    assert sorted(one.cases for one in found) == [["a", "b", "c"], ["d"], ["e"], ["f"], ["g"]]
    assert found[0].also == ["also/a", "also/c"]
