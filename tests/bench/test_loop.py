"""The benchmark of the inner loop: both versions do the same work, and what differs is no figure."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from conformance.commands import run_command
from conformance.proof import loop as module
from conformance.proof.loop import Case, cases, loop, reads
from lab.errors import LabError, UsageError
from tests.files import python_program

SCENARIO = Case("reference: detect/basic", ("run", "--driver", "reference", "--scenario", "detect/basic"))


@pytest.fixture
def before(program_folder: Path) -> Path:
    """Return a checkout that is this very version."""
    python = program_folder / "before" / module.PYTHON
    python.parent.mkdir(parents=True)
    python_program(python)
    return program_folder / "before"


def only(*given: Case) -> object:
    def chosen(_drivers: Sequence[str], *, whole: bool = False) -> Iterator[Case]:
        del whole
        return iter(given)

    return chosen


def test_two_versions_are_measured_by_the_clock_and_by_processor_time(
    before: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "cases", only(SCENARIO))
    said: list[str] = []
    figures = loop(before, ["reference"], tmp_path / "runs", said.append, rounds=1)
    assert [(figure.name, figure.unit) for figure in figures] == [(SCENARIO.name, "s"), (SCENARIO.name, "s of processors")]
    assert all(figure.value > 0 and figure.against_value > 0 and figure.against == str(before) for figure in figures)
    assert said == [f"{SCENARIO.name}: round 1 of 1"]
    assert (tmp_path / "runs/0/0-1/out/results.json").is_file()


def test_verdicts_that_differ_are_reported(before: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = before / module.PYTHON
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@" --defect detect/cap:mqes\n')
    monkeypatch.setattr(module, "cases", only(SCENARIO))
    said: list[str] = []
    loop(before, ["reference"], tmp_path / "runs", said.append, rounds=1)
    assert said[0].startswith(
        f"{SCENARIO.name}: 1 verdicts differ, reference/lab/detect/basic/detect/cap among them: PASS, was "
    )


def test_reads_in_process_are_counted_by_both_versions(before: Path, tmp_path: Path) -> None:
    figures = reads(before, tmp_path / "reads", lambda _: None, rounds=1, seconds=0.01)
    assert [figure.name for figure in figures] == ["reads in process, QD1", "reads in process, QD32"]
    assert all(figure.value > 0 and figure.against_value > 0 and figure.more_is_better for figure in figures)


def test_a_version_that_cannot_read_is_no_figure(before: Path, tmp_path: Path) -> None:
    (before / module.PYTHON).write_text("#!/bin/sh\necho it is broken >&2\nexit 2\n")
    with pytest.raises(LabError, match="ended with 2: it is broken"):
        reads(before, tmp_path / "reads", lambda _: None, rounds=1, seconds=0.01)


def test_a_version_that_fails_is_no_figure(before: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (before / module.PYTHON).write_text("#!/bin/sh\necho it is broken\nexit 2\n")
    monkeypatch.setattr(module, "cases", only(Case("--version", ("--version",), records=False)))
    with pytest.raises(LabError, match="ended with 2: it is broken"):
        loop(before, ["reference"], tmp_path / "runs", lambda _: None, rounds=1)


def test_a_folder_that_was_never_set_up_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match=r"has no \.venv/bin/python"):
        loop(tmp_path, ["reference"], tmp_path / "runs", lambda _: None, rounds=1)
    assert run_command(["bench", "loop", "--against", str(tmp_path)]) == 4
    assert "name a checkout where" in capsys.readouterr().err


def test_each_driver_has_a_scenario_a_repetition_and_a_stage() -> None:
    names = [case.name for case in cases(["reference", "linux"], whole=True)]
    assert names[:2] == ["--version", "--help"]
    assert names[2:6] == [
        "reference: read/basic", "reference: read/basic --repeat 5", "reference: --stage read", "reference: all"
    ]  # fmt: skip
    assert len(names) == 10
