"""A cover: few scenarios that judge and find all that an earlier result did, and whatever that does not hold."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from conformance.judging.history import Input, history
from conformance.judging.models import Cite, DriverEntry, FindingEntry, Results, RunEntry, VerdictEntry
from conformance.judging.summary import JUDGED
from conformance.run.cover import Key, cover, key_of
from conformance.suite.check import Outcome
from tests.toy.toy_lab import Lab

PASS, FAIL, WARN, SILENT, ERROR = Outcome.PASS, Outcome.FAIL, Outcome.WARN, Outcome.INCONCLUSIVE, Outcome.ERROR
CITE = Cite(revision="", section="-", title="")
Outcomes = Mapping[str, Mapping[str, Outcome]]
"""Scenario → check → outcome."""


def violated(actual: str) -> list[FindingEntry]:
    return [FindingEntry(ok=False, event=7, expected="8 blocks", actual=actual)]


def results(versions: Mapping[str, Outcomes], seconds: Mapping[str, float], device: str = "lab") -> Results:
    """Return a result of a driver's versions."""
    runs, verdicts = [], []
    for version, outcomes in versions.items():
        driver = f"toy@{version}"
        for scenario, checks in outcomes.items():
            runs.append(
                RunEntry(driver=driver, device=device, scenario=scenario, stage="read", evidence="", seconds=seconds[scenario])
            )
            verdicts += [
                VerdictEntry(
                    driver=driver, device=device, scenario=scenario, stage="read", check=check, level="M", outcome=outcome,
                    cite=CITE,
                )
                for check, outcome in checks.items()
            ]  # fmt: skip
    drivers = {f"toy@{version}": DriverEntry(base="toy", release=version) for version in versions}
    return Results(drivers=drivers, runs=runs, verdicts=verdicts)


def chosen(earlier: Results, wanted: Mapping[str, tuple[str, ...]]) -> set[str]:
    """Return the scenarios of the cover on one device."""
    found = cover(earlier, {("toy", "lab", scenario): checks for scenario, checks in wanted.items()})
    return {scenario for _, _, scenario in found}


def test_few_cheap_scenarios_judge_each_check_again() -> None:
    outcomes = {"a": {"x": PASS}, "b": {"y": PASS}, "both": {"x": PASS, "y": PASS}, "dear": {"x": PASS, "y": PASS, "z": SILENT}}
    wanted = dict.fromkeys(outcomes, ("x", "y", "z"))
    assert chosen(results({"1": outcomes}, {"a": 1, "b": 1, "both": 1.5, "dear": 9}), wanted) == {"both"}
    assert chosen(results({"1": outcomes}, {"a": 1, "b": 1, "both": 9, "dear": 9}), wanted) == {"a", "b"}


def test_what_later_choices_made_needless_goes() -> None:
    outcomes = {"first": dict.fromkeys("abcd", PASS), "left": dict.fromkeys("abe", PASS), "right": dict.fromkeys("cdf", PASS)}
    wanted = {name: tuple("abcdef") for name in outcomes}
    assert chosen(results({"1": outcomes}, {"first": 1, "left": 1, "right": 1}), wanted) == {"left", "right"}


@pytest.mark.parametrize("outcome", [ERROR, Outcome.FLAKY])
def test_what_was_not_certain_is_recorded_again(outcome: Outcome) -> None:
    old = {"a": {"x": PASS}, "b": {"x": outcome}, "c": {"x": outcome}}
    new = {"a": {"x": PASS}, "b": {"x": PASS}, "c": {"x": PASS}}
    seconds = {"a": 9, "b": 1, "c": 1}
    wanted = dict.fromkeys(new, ("x",))
    assert {"b", "c"} <= chosen(results({"1": old, "2": new}, seconds), wanted)
    assert chosen(results({"2": new}, seconds), wanted) == {"b"}


@pytest.mark.parametrize("outcome", [FAIL, WARN])
def test_each_way_of_a_violation_is_shown_once_and_before_every_version(outcome: Outcome) -> None:
    old = {name: {"x": outcome} for name in ("few", "fewer", "other")} | {"good": {"x": PASS}}
    earlier = results({"1": old, "2": {name: {"x": PASS} for name in old}}, {"few": 3, "fewer": 2, "other": 9, "good": 1})
    for verdict, actual in zip(earlier.verdicts, ("7 blocks", "0x1f blocks", "no answer"), strict=False):
        verdict.findings = violated(actual)
    assert chosen(earlier, dict.fromkeys(old, ("x",))) == {"fewer", "other", "good"}


def test_each_version_is_judged_by_what_it_was_judged_by() -> None:
    old, new = {"a": {"x": PASS}, "b": {"x": SILENT}}, {"a": {"x": SILENT}, "b": {"x": PASS}}
    assert chosen(results({"1": old, "2": new}, {"a": 1, "b": 1}), {"a": ("x",), "b": ("x",)}) == {"a", "b"}
    assert chosen(results({"1": old}, {"a": 1, "b": 1}), {"a": ("x",), "b": ("x",)}) == {"a"}


def test_what_the_earlier_result_does_not_hold_is_recorded() -> None:
    earlier = results({"1": {"a": {"x": PASS}, "b": {"x": PASS}}}, {"a": 1, "b": 2})
    assert chosen(earlier, {"a": ("x",), "b": ("x",), "new": ("x",)}) == {"a", "new"}
    wanted = {("toy", "qemu", "a"): ("x",), ("other", "lab", "a"): ("x",)}
    assert cover(earlier, wanted) == set(wanted)


def test_checks_that_are_not_selected_need_no_scenario() -> None:
    earlier = results({"1": {"a": {"x": PASS}, "b": {"y": FAIL}}}, {"a": 1, "b": 1})
    assert chosen(earlier, {"a": ("x",), "b": ("x",)}) == {"a"}


def test_a_cover_loses_no_judged_check_and_no_violation() -> None:
    draw = random.Random(5)
    names, checks = [f"s{n}" for n in range(60)], tuple(f"c{n}" for n in range(40))
    versions = {
        version: {name: {check: draw.choices([SILENT, PASS, FAIL], [80, 19.9, 0.1])[0] for check in checks} for name in names}
        for version in ("1", "2", "3")
    }
    earlier = results(versions, {name: draw.uniform(0.5, 20) for name in names})
    wanted: dict[Key, tuple[str, ...]] = {("toy", "lab", name): checks for name in names}
    found = cover(earlier, wanted)
    assert len(found) < len(names) / 2

    def seen(keys: set[Key]) -> set[tuple[str, str, Outcome]]:
        return {(v.driver, v.check, v.outcome) for v in earlier.verdicts if key_of(*v.key[:3]) in keys and v.outcome in JUDGED}

    assert seen(set(found)) == seen(set(wanted))
    assert cover(earlier, dict(reversed(wanted.items()))) == found


def test_a_cover_shows_each_transition_between_versions() -> None:
    draw = random.Random(8)
    names, checks = [f"s{n}" for n in range(40)], tuple(f"read/c{n}" for n in range(12))
    weights = {"read/c0": [0, 50, 50], "read/c1": [50, 40, 10]}
    earlier = results(
        {
            version: {
                name: {check: draw.choices([SILENT, PASS, FAIL], weights.get(check, [30, 69, 1]))[0] for check in checks}
                for name in names
            }
            for version in ("1", "2", "3")
        },
        dict.fromkeys(names, 1),
    )
    found = cover(earlier, {("toy", "lab", name): checks for name in names})
    assert len(found) < len(names)
    few = earlier.model_copy(
        update={
            "verdicts": [verdict for verdict in earlier.verdicts if key_of(*verdict.key[:3]) in found],
            "runs": [run for run in earlier.runs if key_of(*run.key) in found],
        }
    )

    def changes(one: Results) -> set[tuple[str, str, str, str]]:
        transitions = history([Input("all", Path(), one)]).transitions
        return {(found.check, str(found.kind), found.before.version, found.after.version) for found in transitions}

    assert changes(few) == changes(earlier)
    assert {"fixed", "introduced", "uncovered", "hidden"} <= {kind for _, kind, _, _ in changes(earlier)}


def test_a_run_of_a_cover_says_so_finds_the_same_and_goes_on_after_a_kill(lab: Lab) -> None:
    whole = lab.run("--jobs", "1", "--out", "whole")
    done = lab.run("--jobs", "1", "--cover", "whole", "--out", "few")
    assert done.returncode == whole.returncode == 1
    before, after = lab.results("whole"), lab.results("few")
    assert {run["scenario"] for run in after["runs"]} == {"read/basic", "read/more", "write/basic"}
    assert {(v["check"], v["outcome"]) for v in after["verdicts"]} == {(v["check"], v["outcome"]) for v in before["verdicts"]}
    assert after["cover"] == [{"result": "whole", "scenarios": 3, "of": 5}]
    assert after["narrowed"]
    assert not before["cover"]
    words = "A cover: 3 of 5 scenarios"
    assert words in done.stdout
    assert words in (lab.folder / "few/summary.md").read_text()
    page = lab.start("report", "few", "--format", "html")
    assert words in page.communicate(timeout=120)[0]
    journal = lab.folder / "few/journal.jsonl"
    journal.write_text(journal.read_text().splitlines(keepends=True)[0])
    lab.start("run", "--resume", "few").communicate(timeout=120)
    resumed = lab.results("few")
    assert sorted(run["scenario"] for run in resumed["runs"]) == sorted(run["scenario"] for run in after["runs"])
    assert resumed["cover"] == after["cover"]


def test_shards_of_a_cover_are_the_cover(lab: Lab) -> None:
    lab.run("--jobs", "1", "--out", "whole")
    for number in (1, 2):
        lab.run("--jobs", "1", "--cover", "whole", "--shard", f"{number}/2", "--out", f"shard-{number}")
    merged = lab.start("report", "shard-1", "shard-2", "--format", "json")
    found = json.loads(merged.communicate(timeout=120)[0])
    assert sorted(run["scenario"] for run in found["runs"]) == ["read/basic", "read/more", "write/basic"]
    assert found["cover"] == [{"result": "whole", "scenarios": 3, "of": 5}]


def test_no_results_make_no_cover(lab: Lab, tmp_path: Path) -> None:
    done = lab.run("--cover", str(tmp_path / "none"))
    assert done.returncode == 4
    assert "There are no results" in done.stderr
