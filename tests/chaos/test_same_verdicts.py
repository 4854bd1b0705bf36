"""However a run is cut up, its verdicts are the same: one worker or four, in any order, and once more."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import pytest

from conformance.judging.files import read, write
from conformance.judging.models import Results
from conformance.suite.check import Outcome

Verdicts: TypeAlias = Mapping[tuple[str, str, str, str], tuple[Outcome, str | None]]
SAMPLE = ("--driver", "linux", "--stage", "identify")


def recorded(out: Path, *arguments: str) -> Results:
    command = [sys.executable, "-m", "conformance.cli", "run", "--out", str(out), *arguments]
    done = subprocess.run(command, cwd=out.parent, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = read(out)
    assert not found.unfinished
    return found


def verdicts(found: Results) -> Verdicts:
    return {verdict.key: (verdict.outcome, verdict.known) for verdict in found.verdicts}


def shuffled(found: Results, folder: Path) -> Path:
    """Results by whose times the scenarios begin in an arbitrary order."""
    draw = random.Random(5)
    runs = [run.model_copy(update={"seconds": draw.uniform(1, 9)}) for run in found.runs]
    folder.mkdir()
    write(found.model_copy(update={"runs": runs}), folder)
    return folder


def ways(folder: Path, *arguments: str) -> None:
    """Record it in all ways, and compare each verdict."""
    first = recorded(folder / "alone", "--jobs", "1", *arguments)
    others = {"of four": recorded(folder / "four", "--jobs", "4", *arguments)}
    times = shuffled(first, folder / "times")
    others["shuffled, of two"] = recorded(folder / "shuffled", "--jobs", "2", "--times", str(times), *arguments)
    expected = verdicts(first)
    assert len(expected) > 100
    for name, found in others.items():
        differing = {
            key: (expected.get(key), outcome) for key, outcome in verdicts(found).items() if expected.get(key) != outcome
        }
        assert not differing, name
        assert verdicts(found).keys() == expected.keys(), name


@pytest.mark.usefixtures("toolchain")
def test_a_stage_has_the_same_verdicts_in_any_order_and_with_any_workers(tmp_path: Path) -> None:
    ways(tmp_path, *SAMPLE)


@pytest.mark.soak
def test_everything_has_the_same_verdicts_in_any_order_and_with_any_workers(tmp_path: Path) -> None:
    ways(tmp_path, "--driver", "linux", "--driver", "u-boot", "--driver", "reference", "--driver", "reference-vfio")
