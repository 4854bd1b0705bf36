"""``nvme-lab test``: the project's own tests, as CI runs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

from lab.errors import UsageError

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
    return subprocess.run([sys.executable, "-m", "pytest", "-n", "2", *arguments], cwd=ROOT, check=False).returncode
