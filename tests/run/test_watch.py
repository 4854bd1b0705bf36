"""`run --watch`: what a manifest names is watched, and a change runs what failed."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from conformance.commands import watching
from conformance.commands.run import NEWEST
from lab.errors import UsageError

MANIFEST = """
name = "mine"
adapter = "generic-serial"
[boot]
kernel = "build/kernel.elf"
ready = "^> "
[actions.load]
command = "load"
"""
OPTIONS: Mapping[str, Any] = {**watching.EXCLUDED, "drivers": ("my.toml",), "watch": True}


class Ended(Exception):  # noqa: N818
    """The test has seen enough."""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(watching, "POLL_SECONDS", 0.01)
    (tmp_path / "my.toml").write_text(MANIFEST)
    (tmp_path / "build").mkdir()
    (tmp_path / "build/kernel.elf").write_bytes(b"one")
    return tmp_path


def test_the_manifest_and_what_it_names_are_watched(project: Path) -> None:
    assert watching.stamps(["my.toml"]).keys() == {Path("my.toml"), Path("build/kernel.elf")}
    (project / "my.toml").write_text("broken")
    assert watching.stamps(["my.toml"]).keys() == {Path("my.toml")}


def test_a_change_runs_what_failed_and_then_everything(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = iter([True, False])
    monkeypatch.setattr(watching, "_has_failures", lambda: next(failures))
    runs: list[Any] = []

    def run(options: Mapping[str, Any]) -> int:
        runs.append(options["last_failed"])
        if len(runs) == 3:
            raise Ended
        build = threading.Timer(0.05, (project / "build/kernel.elf").write_bytes, [b"x" * (10 + len(runs))])
        build.start()
        return 1

    with pytest.raises(Ended):
        watching.watch(OPTIONS, run, Console(quiet=True))
    assert runs == [None, NEWEST, None]


def test_what_does_not_go_with_it_is_refused(project: Path) -> None:
    with pytest.raises(UsageError, match="--watch does not go with --json"):
        watching.watch({**OPTIONS, "as_json": True}, lambda _: 0, Console(quiet=True))
    with pytest.raises(UsageError, match="none of these drivers has files"):
        watching.watch({**OPTIONS, "drivers": ("linux",)}, lambda _: 0, Console(quiet=True))
