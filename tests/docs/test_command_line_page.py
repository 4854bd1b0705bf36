"""The page about the command line names all commands and settings."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from conformance.commands import nvme_lab
from lab.settings import keys

PAGE = (Path(__file__).parents[2] / "docs" / "commands.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", nvme_lab.list_commands(click.Context(nvme_lab)))
def test_every_command_is_named(name: str) -> None:
    assert f"| `{name}" in PAGE


@pytest.mark.parametrize("key", keys())
def test_every_setting_is_named(key: str) -> None:
    assert f"| `{key}` | `NVME_LAB_{key.upper()}` |" in PAGE
