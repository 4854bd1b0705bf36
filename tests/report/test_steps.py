"""What is shown of long work: lines on a pipe; on a terminal a changing line, above which stays what is done."""

from __future__ import annotations

import io
import re
import time
from pathlib import Path

import pytest
from rich.console import Console

from conformance.report.steps import Steps
from lab.bench.figures import numbered_rounds
from lab.toolchain import apt

NEWS = ("qemu: downloading 9 packages", "qemu: 1.0 of 2.0 MB", "qemu: unpacking", "u-boot: unpacking")


def shown(terminal: bool) -> str:
    out = io.StringIO()
    with Steps(Console(file=out, force_terminal=terminal, width=100, color_system=None, legacy_windows=False)) as steps:
        for text in NEWS:
            steps.say(text)
    return out.getvalue()


def test_a_pipe_gets_a_line_a_step() -> None:
    assert shown(terminal=False).splitlines() == list(NEWS)


def test_a_terminal_keeps_the_last_news_of_each_thing() -> None:
    text = shown(terminal=True)
    kept = [line.rpartition("\x1b[2K")[2].strip() for line in text.splitlines()]  # what stands behind the last erasure
    assert [line for line in kept if line in NEWS] == ["qemu: unpacking", "u-boot: unpacking"]
    assert "\x1b[?25h" in text, "the cursor is back"


def test_counted_steps_are_numbered() -> None:
    out = io.StringIO()
    with Steps(Console(file=out, width=100), 10, "defects") as steps:
        steps.done("[green]caught[/] one")
        steps.done("caught two")
    assert out.getvalue().splitlines() == ["[ 1/10] caught one", "[ 2/10] caught two"]


def test_rounds_show_the_remaining_time() -> None:
    said: list[str] = []
    assert list(numbered_rounds(3, "reading", said.append)) == [0, 1, 2]
    assert said[0] == "reading: round 1 of 3"
    assert re.fullmatch(r"reading: round 3 of 3, about \d+ s left", said[2])


def test_a_download_is_watched_as_it_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt, "LOOK", 0.01)
    sizes: list[int] = []
    with apt._watched(tmp_path, sizes.append):
        for size in (10, 20):
            (tmp_path / "a.deb").write_bytes(bytes(size))
            until = time.monotonic() + 30
            while size not in sizes:
                assert time.monotonic() < until, f"{size} was never shown; last: {sizes[-1:]}"
                time.sleep(0.01)
    assert sizes == sorted(sizes)
