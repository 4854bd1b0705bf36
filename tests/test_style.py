"""Strict types, one style and one format, over everything that is ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = {"types": ["mypy"], "style": ["ruff", "check", "."], "format": ["ruff", "format", "--check", "."]}


@pytest.mark.parametrize("tool", TOOLS.values(), ids=TOOLS.keys())
def test_the_project_is_clean(tool: list[str]) -> None:
    ran = subprocess.run([sys.executable, "-m", *tool], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_archives_are_extracted_in_one_place() -> None:
    """Python 3.11.2, which Debian 12 has, refuses the argument by which others extract safely."""
    files = [file for folder in ("conformance", "images", "lab", "tests") for file in (ROOT / folder).rglob("*.py")]
    assert {file for file in files if "extractall" in file.read_text()} == {ROOT / "tests/files.py", Path(__file__)}
