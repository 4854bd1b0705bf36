"""What has changed between two results: each kind of change, how it is shown, and the exit status that follows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from conformance.commands import nvme_lab, run_command
from conformance.judging.compare import Comparison, compare
from conformance.judging.files import write
from conformance.judging.models import CoverEntry, Results, RunEntry, VerdictEntry
from conformance.suite.check import Outcome
from tests.report.test_report import result, verdict

KNOWN = "the vendor knows"
PASS, FAIL, WARN = Outcome.PASS, Outcome.FAIL, Outcome.WARN
SILENT = Outcome.INCONCLUSIVE


def one(outcome: Outcome | None, known: str | None = None) -> list[VerdictEntry]:
    """Another check's verdict that never changes, and one of this outcome; None leaves it out."""
    return [verdict(PASS, "read/exact"), *([] if outcome is None else [verdict(outcome, known=known)])]


def changed(old: list[VerdictEntry], new: list[VerdictEntry]) -> Comparison:
    return compare(result(*old), result(*new))


def kinds(found: Comparison) -> set[str]:
    return {kind for kind, members in found.to_json().items() if kind != "compared" and members}


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        (one(PASS), one(FAIL), "regressions"),
        (one(PASS), one(WARN), "regressions"),
        (one(WARN), one(FAIL), "regressions"),
        (one(SILENT), one(FAIL), "regressions"),
        (one(FAIL, KNOWN), one(FAIL), "regressions"),
        (one(FAIL), one(PASS), "fixes"),
        (one(FAIL, KNOWN), one(PASS), "fixes"),
        (one(FAIL), one(WARN), "fixes"),
        (one(PASS), one(FAIL, KNOWN), "excused"),
        (one(FAIL), one(FAIL, KNOWN), "excused"),
        (one(None), one(PASS), "new"),
        (one(None), one(FAIL), "new"),
        (one(SILENT), one(PASS), "new"),
        (one(PASS), one(None), "lost"),
        (one(FAIL), one(SILENT), "lost"),
        (one(PASS), one(Outcome.ERROR), "lost"),
    ],
)
def test_each_change_is_of_one_kind(old: list[VerdictEntry], new: list[VerdictEntry], kind: str) -> None:
    assert kinds(changed(old, new)) == {kind}


def test_what_a_cover_leaves_out_is_not_lost() -> None:
    elsewhere = verdict(PASS, scenario="read/more")
    cover = [CoverEntry(result="all", scenarios=1, of=2)]
    assert not kinds(compare(result(*one(PASS), elsewhere), result(*one(PASS), cover=cover)))
    assert kinds(compare(result(*one(PASS), elsewhere), result(*one(None), cover=cover))) == {"lost"}
    assert kinds(compare(result(*one(PASS), elsewhere), result(*one(PASS)))) == {"lost"}


@pytest.mark.parametrize("both", [one(PASS), one(FAIL), one(WARN), one(FAIL, KNOWN), one(SILENT), one(None)])
def test_what_is_the_same_is_no_change(both: list[VerdictEntry]) -> None:
    assert kinds(changed(both, both)) == set()


def test_scenarios_of_a_check_are_listed_together_and_apart_from_those_that_failed_before() -> None:
    scenarios = ("read/basic", "read/sizes", "read/mdts")
    old = [verdict(PASS, scenario=name) for name in scenarios[:2]] + [verdict(FAIL, scenario=scenarios[2])]
    (change,) = changed(old, [verdict(FAIL, scenario=name) for name in scenarios]).regressions
    assert change.scenarios == scenarios[:2]
    assert (change.old, change.new, change.expected) == ("PASS", "FAIL", "8 blocks")
    assert change.evidence == "evidence/r/events.jsonl:7"


@pytest.mark.parametrize(("old", "new", "is_slower"), [(2, 4, True), (2, 2.9, False), (0.1, 0.9, False), (10, 12, False)])
def test_slower_is_much_longer_and_by_more_than_a_second(old: float, new: float, is_slower: bool) -> None:
    def taking(seconds: float) -> Results:
        entry = RunEntry(driver="toy", device="qemu", scenario="read/basic", stage="read", evidence="e", seconds=seconds)
        return result(*one(PASS)).model_copy(update={"runs": [entry]})

    found = compare(taking(old), taking(new)).slower
    assert bool(found) is is_slower


# -- the command ----------------------------------------------------------------------------------------------------


def run(folder: Path, old: Results, new: Results, *options: str) -> Result:
    for name, results in (("old", old), ("new", new)):
        (folder / name).mkdir()
        write(results, folder / name)
    return CliRunner().invoke(nvme_lab, ["compare", str(folder / "old"), str(folder / "new"), *options])


def test_a_regression_is_explained(tmp_path: Path) -> None:
    shown = run(tmp_path, result(*one(PASS)), result(*one(FAIL))).output
    assert "Regressions" in shown
    assert "PASS → FAIL  read/nlb  toy on qemu, read/basic" in shown
    assert "8 blocks" in shown
    assert "7 <blocks> & [red]more[/]" in shown
    assert "0 lost, 1 regressions" in shown
    assert "2 verdicts compared." in shown


@pytest.mark.parametrize(("new", "status"), [(FAIL, 1), (PASS, 0), (SILENT, 0)])
def test_the_exit_status_shows_a_regression(new: Outcome, status: int, tmp_path: Path) -> None:
    run(tmp_path, result(*one(PASS)), result(*one(new)))
    assert run_command(["compare", str(tmp_path / "old"), str(tmp_path / "new" / "results.json")]) == status


def test_json(tmp_path: Path) -> None:
    found = json.loads(run(tmp_path, result(*one(PASS)), result(*one(FAIL)), "--json").output)
    assert [change["check"] for change in found["regressions"]] == ["read/nlb"]
    assert found["compared"] == 2


def test_results_without_anything_in_common_are_not_called_equal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, result(verdict(PASS)), result(verdict(PASS, "read/exact")))
    assert run_command(["compare", str(tmp_path / "old"), str(tmp_path / "new")]) == 4
    assert "have no verdict in common" in capsys.readouterr().err
