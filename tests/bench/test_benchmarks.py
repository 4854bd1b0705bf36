"""The benchmarks of runs: what they measure is really done, and what differs is no figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conformance.proof import benchmarks
from conformance.run.identity import new_results
from conformance.run.plan import Campaign
from conformance.suite.check import Outcome
from lab.data.evidence import Evidence, evidence_folders
from lab.errors import LabError
from lab.settings import Settings
from lab.toolchain import Toolchain


def test_judging_takes_longer_than_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarks, "JUDGED", 3)
    said: list[str] = []
    (figure,) = benchmarks.judging(Settings(), tmp_path, said.append, rounds=1)
    assert figure.unit == "per s"
    assert figure.more_is_better
    assert 0 < figure.ratio < 1
    assert said[-2].startswith("3 recordings, ")
    assert said[-1] == "judging and reading: round 1 of 1"


def test_scaling_records_with_one_worker_and_with_two(toolchain: Toolchain, tmp_path: Path) -> None:
    said: list[str] = []
    (figure,) = benchmarks.scaling(Settings(), tmp_path, said.append, scenarios=4)
    assert figure.ratio > 0
    assert figure.value > 0
    assert said[-3:] == [
        "4 scenarios on 2 workers, for nothing", "4 scenarios on 1 worker", "4 scenarios on 2 workers"
    ]  # fmt: skip
    for turn in ("0", "1", "2"):
        ends = [Evidence(folder).end for folder in evidence_folders(tmp_path / turn)]
        assert [end.outcome for end in ends if end] == ["complete"] * 4


def test_verdicts_that_depend_on_workers_are_no_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def recorded(campaign: Campaign, out: Path, workers: int) -> benchmarks.Verdicts:
        return {("linux", "qemu", "read/x", "read/nlb"): Outcome.PASS if workers == 1 else Outcome.FAIL}

    monkeypatch.setattr(benchmarks, "_recorded", recorded)
    monkeypatch.setattr(benchmarks, "prepare_campaign", lambda campaign, settings, say: campaign)
    with pytest.raises(LabError, match="1 verdicts depend on the number of workers: linux/qemu/read/x/read/nlb"):
        benchmarks.scaling(Settings(), tmp_path, lambda text: None)


def test_the_labs_own_failure_is_no_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(campaign: Campaign, *others: Any) -> Any:
        return new_results(campaign).model_copy(update={"unfinished": "interrupted"})

    monkeypatch.setattr(benchmarks, "record_and_judge", failing)
    with pytest.raises(LabError, match="failed in its own benchmark: interrupted"):
        benchmarks.judging(Settings(), tmp_path, lambda text: None, rounds=1)
