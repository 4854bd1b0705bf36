"""What a result means: fold, rows, exit status, stale entries, merging; and its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import conformance
from conformance.judging import files, models, summary
from conformance.suite.check import Outcome
from lab.errors import UsageError

CITE = models.Cite(revision="practice", section="-", title="sound practice")


def verdict(outcome: Outcome, check: str = "read/nlb", scenario: str = "read/basic", **more: Any) -> models.VerdictEntry:
    values: dict[str, Any] = {"driver": "toy", "device": "qemu", "level": "M", "cite": CITE, **more}
    return models.VerdictEntry(check=check, stage=check.partition("/")[0], scenario=scenario, outcome=outcome, **values)


def result(*verdicts: models.VerdictEntry, asked: tuple[str, ...] = ("read",), **more: Any) -> models.Results:
    known = more.pop("known", [])
    runs = [
        models.RunEntry(
            driver=d, device=e, scenario=s, stage=s.partition("/")[0], evidence=f"evidence/{d}/{e}/{s}", seconds=1.5
        )
        for d, e, s in dict.fromkeys(v.key[:3] for v in verdicts)
    ]
    drivers = {"toy": models.DriverEntry(stages=list(asked), asked=list(asked), known=known)}
    return models.Results(drivers=drivers, runs=runs, verdicts=list(verdicts), **more)


PASS = verdict(Outcome.PASS, "read/exact")


@pytest.mark.parametrize(
    ("verdicts", "more", "status"),
    [
        ([PASS], {}, 0),
        ([verdict(Outcome.FAIL)], {}, 1),
        ([PASS, verdict(Outcome.FAIL)], {}, 1),
        ([PASS, verdict(Outcome.FAIL, known="always so")], {}, 0),
        ([verdict(Outcome.FAIL, known="always so"), verdict(Outcome.FAIL, scenario="read/more")], {}, 1),
        ([PASS, verdict(Outcome.WARN, level="R")], {}, 0),
        ([PASS, verdict(Outcome.WARN, level="R")], {"strict": True}, 1),
        ([PASS, verdict(Outcome.INCONCLUSIVE)], {}, 0),
        ([PASS, verdict(Outcome.INCONCLUSIVE)], {"strict": True}, 1),
        ([PASS, verdict(Outcome.INCONCLUSIVE, level="R")], {"strict": True}, 0),
        ([PASS, verdict(Outcome.INCONCLUSIVE, "write/fua")], {"strict": True}, 0),
        ([PASS, verdict(Outcome.UNSUPPORTED)], {"strict": True}, 0),
        ([verdict(Outcome.FAIL), verdict(Outcome.ERROR, scenario="read/more")], {}, 2),
        ([PASS], {"unfinished": "interrupted"}, 2),
        ([verdict(Outcome.INCONCLUSIVE), verdict(Outcome.UNSUPPORTED, "read/exact")], {}, 3),
        ([PASS], {"asked": ("read", "write")}, 3),
        ([verdict(Outcome.FAIL)], {"asked": ("read", "write")}, 1),
        ([], {}, 3),
    ],
)
def test_exit_status(verdicts: list[models.VerdictEntry], more: dict[str, Any], status: int) -> None:
    assert summary.exit_status(result(*verdicts, **more)) == status


def test_bisect_skips_errors_of_the_lab_and_missing_verdicts() -> None:
    assert summary.exit_status(result(verdict(Outcome.ERROR)), bisect=True) == 125
    assert summary.exit_status(result(), bisect=True) == 125
    assert summary.exit_status(result(verdict(Outcome.FAIL)), bisect=True) == 1
    assert summary.exit_status(result(PASS), bisect=True) == 0


def test_the_worst_scenario_speaks_for_a_check_and_an_unknown_failure_before_a_known_one() -> None:
    known = verdict(Outcome.FAIL, known="always so")
    fresh = verdict(Outcome.FAIL, scenario="read/more")
    best = summary.worst_per_device([verdict(Outcome.PASS, scenario="read/mdts"), known, fresh])
    assert best["toy", "qemu", "read/nlb"] is fresh


def test_what_one_device_cannot_show_another_may() -> None:
    unseen = verdict(Outcome.INCONCLUSIVE)
    seen = verdict(Outcome.PASS, device="lab")
    assert summary.disqualified(result(unseen, seen), "toy") == []
    assert summary.exit_status(result(unseen, seen, strict=True)) == 0
    assert summary.exit_status(result(unseen, PASS, strict=True)) == 1


def test_a_check_that_fails_on_both_devices_is_one_failure_and_a_pass_elsewhere_excuses_none() -> None:
    broken = verdict(Outcome.FAIL)
    both = result(broken, broken.model_copy(update={"device": "lab"}))
    assert len(summary.disqualified(both, "toy")) == 1
    assert [number for _, number in summary.worst_with_outcome(both, Outcome.FAIL)] == [2]
    assert summary.exit_status(result(broken, verdict(Outcome.PASS, device="lab"))) == 1
    known = verdict(Outcome.FAIL, known="on QEMU's device only")
    assert summary.exit_status(result(known, verdict(Outcome.FAIL, device="lab"))) == 1


def test_rows_count_checks_and_not_scenarios() -> None:
    found = summary.rows(
        result(
            PASS,
            PASS.model_copy(update={"scenario": "read/more"}),
            verdict(Outcome.FAIL, known="always so"),
            verdict(Outcome.PASS, "every/load"),
            verdict(Outcome.PASS, "detect/cap"),
        )
    )
    assert [(row.stage, row.counts[Outcome.PASS], row.known, row.word) for row in found] == [
        ("read", 1, 1, "known failure"),
        ("others", 1, 0, "passes"),
        ("every", 1, 0, "passes"),
    ]


def test_a_known_failure_that_passes_is_stale_but_not_in_a_selection() -> None:
    known = [models.KnownEntry(check="read/exact", reason="it was so once", devices=["qemu", "lab"])]
    assert [(d, v, e.check) for d, v, e in summary.stale(result(PASS, known=known))] == [("toy", "qemu", "read/exact")]
    assert not summary.stale(result(PASS, known=known, narrowed=True))
    assert not summary.stale(result(verdict(Outcome.INCONCLUSIVE, "read/exact"), known=known))
    fails_elsewhere = result(PASS, verdict(Outcome.FAIL, "read/exact", "read/more", known="so"), known=known)
    assert not summary.stale(fails_elsewhere)
    known[0].scenarios = ["read/b*"]
    assert [(d, v) for d, v, _ in summary.stale(fails_elsewhere)] == [("toy", "qemu")]
    known[0].scenarios = ["read/m*"]
    assert not summary.stale(fails_elsewhere)


def test_merging_shards_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    one = result(PASS, verdict(Outcome.PASS, "every/load"))
    other = result(verdict(Outcome.FAIL, "every/load"), verdict(Outcome.PASS, "write/fua", "write/fua"), asked=("write",))
    merged = files.merge([(tmp_path / "1", one), (tmp_path / "2", other)], tmp_path)
    assert sorted((v.check, v.scenario, v.outcome) for v in merged.verdicts) == [
        ("every/load", "read/basic", Outcome.FAIL),
        ("read/exact", "read/basic", Outcome.PASS),
        ("write/fua", "write/fua", Outcome.PASS),
    ]
    assert {run.scenario: run.evidence for run in merged.runs} == {
        "read/basic": "2/evidence/toy/qemu/read/basic",
        "write/fua": "2/evidence/toy/qemu/write/fua",
    }
    assert merged.drivers["toy"].asked == ["read", "write"]
    again = files.merge([(tmp_path, merged), (tmp_path, merged)], tmp_path)
    assert again.verdicts == merged.verdicts
    assert again.runs == merged.runs
    assert summary.exit_status(merged) == 1


def test_a_shard_that_recorded_a_scenario_ends_its_being_left_out(tmp_path: Path) -> None:
    left = models.LeftOut(driver="toy", device="qemu", scenario="read/basic", reason="too old a QEMU")
    merged = files.merge([(tmp_path, result(left_out=[left])), (tmp_path, result(PASS))], tmp_path)
    assert not merged.left_out
    assert files.merge([(tmp_path, result(left_out=[left]))] * 2, tmp_path).left_out == [left]


def test_the_published_schema_is_what_is_written(tmp_path: Path) -> None:
    published = json.loads((Path(conformance.__file__).parent / "schema" / "results.schema.json").read_text())
    assert published == files.schema()
    finding = models.FindingEntry(ok=False, event=7, expected="this", actual="that")
    path = files.write(result(verdict(Outcome.FAIL, findings=[finding])), tmp_path)
    data = json.loads(path.read_text())
    jsonschema.validate(data, published)
    assert data["schema"] == 1
    data["verdicts"][0]["outcome"] = "MAYBE"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, published)


def test_results_survive_the_file(tmp_path: Path) -> None:
    written = result(PASS, verdict(Outcome.FAIL), unfinished="interrupted", strict=True)
    files.write(written, tmp_path)
    assert files.read(tmp_path) == files.read(tmp_path / models.FILE) == written


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ('{"schema": 9}', "schema 9"),
        ('{"schema": 1, "verdicts": [{"driver": "toy"}]}', "verdicts.0.device"),
    ],
)
def test_what_is_no_result_is_named(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / models.FILE).write_text(text)
    with pytest.raises(UsageError, match=says):
        files.read(tmp_path)


def test_a_missing_result_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no results"):
        files.read(tmp_path / "nowhere")


def test_evidence_is_named_with_the_line_of_the_violation() -> None:
    findings = [
        models.FindingEntry(ok=ok, event=line, place=f"events.jsonl:{line}", expected="", actual="")
        for ok, line in ((True, 1), (False, 7))
    ]
    entry = verdict(Outcome.FAIL, findings=findings)
    assert summary.evidence_of(result(entry), entry) == "evidence/toy/qemu/read/basic/events.jsonl:7"
    assert summary.evidence_of(models.Results(), entry) == ""
