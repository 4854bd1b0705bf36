"""Every command in the documentation is run: what a reader types must work.

A page's ``console`` blocks are one walk: their lines after ``$`` run in order, in one new folder. A line may end in
``# status N``; without it the command must succeed. ``EOF`` blocks write files, as in any shell. What else stands in a block
is output, and is not compared. Blocks after ``<!-- long -->`` take minutes and are run in the soak only; their options must
exist all the same.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from conformance.commands import nvme_lab

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"(?P<long><!-- long -->\n+)?^```console\n(?P<text>.*?)^```$", re.M | re.S)
STATUS = re.compile(r"\s+# status (\d+)$")
SECONDS = 300.0
"""For one command."""


@dataclass(frozen=True)
class Typed:
    """What a reader types: a command, with the file that it is fed, and how it must end."""

    text: str
    status: int
    long: bool


def typed(page: Path) -> Iterator[Typed]:
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        lines = iter(block["text"].splitlines())
        for line in lines:
            if not line.startswith("$ "):
                continue
            command = line[2:]
            if ends := re.search(r"<<\s*'?(\w+)'?", command):
                for more in lines:
                    command += f"\n{more}"
                    if more == ends[1]:
                        break
            status = STATUS.search(command)
            yield Typed(STATUS.sub("", command), int(status[1]) if status else 0, bool(block["long"]))


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def walks(long: bool) -> list[Path]:
    return [page for page in PAGES if any(command.long == long for command in typed(page))]


def walk(page: Path, folder: Path, *, long: bool) -> None:
    """Types a page's commands."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "NO_COLOR": "1"}
    (folder / "nvme-lab").symlink_to(ROOT / "nvme-lab")
    (folder / "examples").symlink_to(ROOT / "examples")
    for command in typed(page):
        if command.long and not long:
            continue
        done = subprocess.run(
            ["bash", "-c", command.text], cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS
        )  # fmt: skip
        assert done.returncode == command.status, f"$ {command.text}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"


@pytest.mark.parametrize("page", walks(long=False), ids=name)
@pytest.mark.usefixtures("toolchain")
def test_what_a_page_says_can_be_typed(page: Path, tmp_path: Path) -> None:
    walk(page, tmp_path, long=False)


@pytest.mark.soak
@pytest.mark.parametrize("page", walks(long=True), ids=name)
@pytest.mark.usefixtures("toolchain")
def test_what_takes_minutes_can_be_typed_too(page: Path, tmp_path: Path) -> None:
    walk(page, tmp_path, long=True)


INVOCATION = re.compile(r"^(?:\$ | {4})((?:\./)?nvme-lab [a-z].*)$|`((?:\./)?nvme-lab [a-z][^`]*)`", re.M)
"""In a block, or amid a sentence."""


def invocations() -> Iterator[tuple[str, list[str]]]:
    """Every command line of ours on any page, whether it is run by a test or not."""
    for page in PAGES:
        for found in INVOCATION.finditer(page.read_text(encoding="utf-8")):
            words = shlex.split(found[1] or found[2].replace("\n", " "), comments=True)
            ends = next((i for i, word in enumerate(words) if word in ("|", "&&", ";", ">")), len(words))
            yield name(page), words[1:ends]


@pytest.mark.parametrize(("page", "words"), sorted({(page, " ".join(words)) for page, words in invocations()}))
def test_every_option_on_a_page_exists(page: str, words: str) -> None:
    command: click.Command = nvme_lab
    rest = words.split()
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.get_command(click.Context(command), rest.pop(0))
        assert found is not None, f"{page}: {words}"
        command = found
    known = {"--help", *(option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts))}
    for word in rest if not command.context_settings.get("ignore_unknown_options") else ():  # nvme-lab test: pytest's own
        if word.startswith("-") and not word.lstrip("-").isdigit():
            assert word.partition("=")[0] in known, f"{page}: nvme-lab {words}: there is no {word}"
