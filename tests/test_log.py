"""The lab's log: silent unless it is asked for."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import log
from lab.files import write_atomically
from lab.toolchain.cache import Cache


@pytest.fixture(autouse=True)
def _restored_loggers() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in log.PACKAGES]
    before = [(logger, list(logger.handlers), logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, handlers, level, propagate in before:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.mark.parametrize(("value", "shown"), [("1", True), ("", False)])
def test_the_log_is_shown_once_and_only_on_request(
    value: str, shown: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(log.DEBUG, value)
    log.show()
    log.show()
    logging.getLogger("lab.guest.process").debug("process 7 started")
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition("] ")[2] for line in lines] == ["lab.guest.process: process 7 started"] * shown


def test_damage_in_the_cache_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = Cache(tmp_path)
    caplog.set_level(logging.INFO, "lab")
    entry = cache.entry("images", "abc", lambda folder: write_atomically(folder / "content", "right"))
    (entry / "content").write_bytes(b"wrong")
    cache.heal([entry / "content"])
    messages = [record.getMessage() for record in caplog.records if record.name == "lab.toolchain.cache"]
    assert messages[0] == "build images/abc"
    assert messages[-1] == f"remove {entry}, to be built again: {entry}/content has other content than was built"


def test_debug_shows_the_traceback_of_an_error(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "conformance.cli", "--debug", "judge", str(tmp_path / "missing")]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.stderr.startswith("Traceback")
    assert "nvme-lab: " in ran.stderr
