"""What tests need to have downloaded: each set-up is made once per run, before the first test, and fails once.

The workers of a run wait for the one that makes it: no test begins before all have collected, and collecting ends with the
set-ups. If one cannot be made, one test says why, and the others that need it are skipped.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from images import recipe
from lab import settings
from lab.bench import fio
from lab.errors import LabError
from lab.toolchain import WANTS, prepare
from lab.toolchain.cache import Cache
from lab.toolchain.closures import Closures, Fetched, Progress
from tests.report import browser


def closure(name: str, progress: Progress, of: str = "") -> Fetched:
    """Fetch a closure of the recipe ``of``, or of the one that has its name."""
    chosen = settings.load()
    return Closures(chosen, Cache(chosen.open_cache()), progress).fetch(name, recipe.load(of or name).closures[name])


SETUPS: Mapping[str, Callable[[Progress], Any]] = {
    "toolchain": lambda progress: prepare(settings.load(), WANTS, progress),
    "chromium": lambda progress: browser.program(lambda: closure("chromium", progress).root),
    "filesystem_tools": lambda progress: closure("filesystems", progress),
    "libnvme": lambda progress: closure("libnvme", progress),
    "headers": lambda progress: {
        name: closure(name, progress, of="headers").root for name in ("linux-headers", "mingw-headers")
    },
    "sshd_files": lambda progress: closure("sshd", progress),
    "fio_files": lambda progress: fio.fetch(settings.load(), progress),
}
"""By the name of the fixture that gives it to a test. Whatever uses one of these fixtures is marked ``slow``."""


class Setups:
    """The set-ups of one process of a run; ``folder`` is shared by all processes of the run and by no other."""

    def __init__(self, folder: Path, say: Progress) -> None:
        self.made: dict[str, Any] = {}
        self._folder = folder
        self._say = say

    def make(self, name: str) -> None:
        """Make a set-up, unless a process of this run has found that it cannot be made."""
        with FileLock(self._folder / f"{name}.lock"):
            failed = self._failed(name)
            if name in self.made or failed.exists():
                return
            try:
                self.made[name] = SETUPS[name](self._say)
            except LabError as error:
                failed.write_text(str(error))

    def require(self, name: str) -> None:
        """Fail the first test of the run that needs a set-up which cannot be made; skip the others."""
        if name in self.made:
            return
        first = self._folder / f"{name}.first"
        try:
            with first.open("x") as file:
                file.write(os.environ.get("PYTEST_CURRENT_TEST", "").partition(" ")[0])
        except FileExistsError:
            pytest.skip(f"{name} could not be set up: the test {first.read_text()} says why")
        pytest.fail(f"{name} cannot be set up, so no test that needs it runs. {self._failed(name).read_text()}", pytrace=False)

    def _failed(self, name: str) -> Path:
        return self._folder / f"{name}.failed"


def shown(config: pytest.Config) -> Progress:
    """Return a function that shows a line on the terminal of the test run, also from a worker."""
    capture = config.pluginmanager.getplugin("capturemanager")

    def say(line: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"set-up: {line}", file=sys.stderr, flush=True)

    return say
