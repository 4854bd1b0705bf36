"""``nvme-lab test``: the project's own tests, as CI runs them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from lab.errors import LabError, UsageError

NEEDED: Mapping[str, str] = {
    "gcc": "gcc",
    "objcopy": "binutils",
    "make": "make",
    "ssh-keygen": "openssh-client",
    "git": "git",
}
"""Programs that the tests need and a run does not: Debian's package of each."""
HEADERS = Path("usr/include/stdio.h")
"""Of libc6-dev, without which gcc compiles nothing."""

ROOT = Path(__file__).resolve().parents[2]


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def test(arguments: tuple[str, ...]) -> int:
    """Run the project's own tests; further arguments go to pytest.

    \b
    nvme-lab test
    nvme-lab test tests/run -k exit
    """
    if not (ROOT / "tests").is_dir() or not (ROOT / "pyproject.toml").is_file():
        raise UsageError(
            f"{ROOT} is an installed nvme-lab, and its own tests are only in a clone of the repository.",
            remedy="clone the repository and run ./nvme-lab test in it",
        )
    check_prerequisites()
    return subprocess.run([sys.executable, "-m", "pytest", "-n", "2", *arguments], cwd=ROOT, check=False).returncode


def check_prerequisites(root: Path = Path("/")) -> None:
    """Raise a LabError that names everything that the tests need and this machine lacks."""
    missing = [package for program, package in NEEDED.items() if not shutil.which(program)]
    if not (root / HEADERS).is_file():
        missing.append("libc6-dev")
    if missing:
        raise LabError(
            f"The tests need what this machine does not have: {', '.join(missing)}.",
            remedy=f"apt-get install {' '.join(missing)}",
        )
