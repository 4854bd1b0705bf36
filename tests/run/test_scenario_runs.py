"""A scenario file is recorded, judged, judged again and replayed as any scenario is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FILE = """
from = "read/basic"
[[fault]]
name = "wrong"
behaviour = "corrupt"
queue = "io"
nth = 1
"""
"""Wrong bytes with a status of success, which no driver can know of: `read/exact` fails."""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "wrong.toml"
    path.write_text(FILE)
    return path


def nvme_lab(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "conformance.cli", *arguments]
    environment = {**os.environ, "NO_COLOR": "1", "CI": "0", "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_a_scenario_file_is_recorded_and_judged_again(scenario: Path, tmp_path: Path) -> None:
    first = nvme_lab(tmp_path, "run", "--driver", "reference", "--scenario", "wrong.toml", "--out", "out")
    assert first.returncode == 1, first.stdout + first.stderr
    assert "FAIL  read/exact  reference on lab, file/wrong" in first.stdout
    runs = json.loads((tmp_path / "out/results.json").read_text())["runs"]
    assert [(run["scenario"], run["stage"]) for run in runs] == [("file/wrong", "read")]
    scenario.unlink()
    assert nvme_lab(tmp_path, "judge", "out").returncode == 1
    replayed = nvme_lab(tmp_path, "replay", "out", "--out", "again")
    assert replayed.returncode == 1, replayed.stdout + replayed.stderr
    assert "verdicts are the same" in replayed.stdout


@pytest.mark.usefixtures("scenario")
def test_what_failed_in_a_file_is_recorded_once_more(tmp_path: Path) -> None:
    selected = ("--scenario", "wrong.toml", "--scenario", "read/sizes", "--check", "read/exact")
    assert nvme_lab(tmp_path, "run", "--driver", "reference", *selected, "--out", "out").returncode == 1
    again = nvme_lab(tmp_path, "run", "--last-failed", "out", "--out", "again")
    assert again.returncode == 1, again.stdout + again.stderr
    assert "1 scenario · what failed before" in again.stdout
