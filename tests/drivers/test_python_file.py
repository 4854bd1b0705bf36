"""A manifest's own Python file brings an adapter, a scenario and a check; what is wrong with it is named."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lab.drivers import find
from lab.drivers.registry import adapter, devices
from lab.errors import UsageError
from lab.extensions import GROUPS
from lab.toolchain import Toolchain

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "packages.md").read_text(encoding="utf-8")
BEHIND = PAGE[PAGE.index("## A file instead") :]
MANIFEST, FILE = (re.search(rf"^```{kind}\n(.*?)^```$", BEHIND, re.M | re.S)[1] for kind in ("toml", "python"))  # type: ignore[index]


def write(folder: Path, *, manifest: str = MANIFEST, file: str = FILE) -> Path:
    (folder / "mine.py").write_text(file)
    path = folder / "mine.toml"
    path.write_text(manifest)
    return path


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_the_example_of_the_page_runs(tmp_path: Path, jobs: str) -> None:
    path = write(tmp_path)
    selected = ("--scenario", "read/mine", "--scenario", "read/basic", "--device", "lab", "--jobs", jobs, "--out", "out")
    done = subprocess.run(
        [sys.executable, "-m", "conformance.cli", "run", "--driver", str(path), *selected], cwd=tmp_path, capture_output=True,
        text=True, check=False, timeout=120, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "out/results.json").read_text())
    (verdict,) = [one for one in results["verdicts"] if one["check"] == "read/mine"]
    assert (verdict["outcome"], verdict["driver"]) == ("PASS", "mine")
    identity = json.loads(next(tmp_path.rglob("identity.json")).read_text())
    assert identity["driver"]["files"].keys() == {"python.file"}


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("import nothing_of_that_name", r"mine\.toml: python\.file: .*mine\.py cannot be imported: .*nothing_of_that_name"),
        ("raise SystemError('no')", r"cannot be imported: SystemError\('no'\)(.|\n)*remedy: correct that file"),
    ],
)
def test_a_file_that_cannot_be_imported_is_named(tmp_path: Path, file: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        find(str(write(tmp_path, file=file)))


def test_a_missing_file_or_adapter_is_named(tmp_path: Path) -> None:
    path = write(tmp_path)
    (tmp_path / "mine.py").unlink()
    with pytest.raises(UsageError, match=r"there is no Python file .*mine\.py(.|\n)*correct the path"):
        find(str(path))
    path = write(tmp_path, file="class Mien: ...\n")
    with pytest.raises(UsageError, match=r"python\.adapter: .*mine\.py has no 'Mine'; did you mean 'Mien'"):
        devices(find(str(path)))
    path = write(tmp_path, manifest='name = "mine"\nadapter = "python"\n')
    with pytest.raises(UsageError, match=r"python\.file: this key is required"):
        adapter(find(str(path)), Toolchain(None, None))


def test_the_page_lists_every_group_of_entry_points() -> None:
    assert set(re.findall(r"^\| `(nvme_lab\.\w+)` \|", PAGE, re.MULTILINE)) == set(GROUPS)
