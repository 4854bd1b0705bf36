"""A set-up that fails is one failure; missing tools of the tests are reported at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.commands import project
from lab.errors import LabError

ROOT = Path(__file__).parents[1]
GUESTS = "tests/reference/test_reference_transports.py"
NO_GUESTS = "tests/toolchain/test_mirrors.py"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_toolchain_that_cannot_be_fetched_is_one_failure(tmp_path: Path, workers: int) -> None:
    """One test says why, with the remedy; the others that need it are skipped; those that need none run."""
    environment = {**os.environ, "NVME_LAB_OFFLINE": "1", "NVME_LAB_CACHE": str(tmp_path / "empty")}
    environment.pop("PYTEST_XDIST_WORKER", None)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", str(workers), GUESTS, NO_GUESTS]
    ran = subprocess.run(
        [*command, f"--basetemp={tmp_path / 'base'}"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    last = ran.stdout.splitlines()[-1]
    assert ran.returncode == 1, ran.stdout
    assert " 1 error" in last, ran.stdout
    assert " failed" not in last, ran.stdout
    assert " skipped" in last, ran.stdout
    assert "toolchain cannot be set up, so no test that needs it runs. --offline" in ran.stdout
    assert "remedy: run nvme-lab fetch" in ran.stdout
    assert "test_reference_transports.py::" in ran.stdout


def test_all_that_the_tests_lack_is_named_with_one_line_that_brings_it(
    tmp_path: Path, program_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for present in ("gcc", "git"):
        (program_folder / present).touch(0o755)
    monkeypatch.setenv("PATH", str(program_folder))
    with pytest.raises(LabError) as caught:
        project.check_prerequisites(tmp_path)
    assert caught.value.remedy == "apt-get install binutils make openssh-client libc6-dev"


def test_what_the_readme_names_is_all_that_the_tests_need() -> None:
    """Compare the two lists; the package gcc brings binutils."""
    readme = (ROOT / "README.md").read_text()
    lines = [line.partition("#")[0].split() for line in readme.splitlines() if line.startswith("    apt-get install ")]
    named = {package for line in lines for package in line[2:]}
    assert {*project.NEEDED.values(), "libc6-dev"} - {"binutils"} <= named
