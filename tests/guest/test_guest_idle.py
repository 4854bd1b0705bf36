"""When nothing more is to be expected of a guest."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lab.guest import idle
from lab.guest.idle import IdleWatch, prompts


class Guest:
    """What the watch looks at, and a clock that the test moves."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "console.log"
        self.log.write_text("")
        self.now, self.used, self.counter, self.read = 0.0, 0.0, 0, 0
        self.console, self.outputs = SimpleNamespace(log=self.log), dict[str, Path]()
        self.spec = SimpleNamespace(screen=False)
        self.process = SimpleNamespace(processor_seconds=lambda: self.used)

    def qmp(self, command: str, _: Any = None) -> Any:
        if command == "query-blockstats":
            return [{"stats": {"rd_bytes": self.read}}]
        return f"RAX=0 RIP={self.counter:016x} RFL=0"

    def watch(self, watch: IdleWatch, seconds: int, *, used: float = 1.0, step: int = 4096) -> str:
        """Let seconds pass in which it uses this share of a processor and goes on by so many bytes a look."""
        for _ in range(seconds):
            self.now, self.used, self.counter = self.now + 1, self.used + used, (self.counter + step) % (1 << 40)
            if watch.why:
                return watch.why
        return ""


@pytest.fixture
def guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Guest:
    made = Guest(tmp_path)
    monkeypatch.setattr(idle, "time", SimpleNamespace(monotonic=lambda: made.now))
    return made


def test_a_guest_that_halts_is_idle(guest: Guest) -> None:
    assert guest.watch(IdleWatch(guest), 30, used=0.0).startswith("it was idle")  # type: ignore[arg-type]
    assert guest.now == 6


def test_a_short_loop_is_seen_soon_and_one_that_wanders_late(guest: Guest) -> None:
    assert "loop of a few instructions" in guest.watch(IdleWatch(guest), 30, step=0)  # type: ignore[arg-type]
    assert guest.now <= 7
    began = guest.now
    assert "showed nothing new" in guest.watch(IdleWatch(guest), 30)  # type: ignore[arg-type]
    assert guest.now - began == idle.SPIN_SECONDS


def test_a_guest_that_reads_its_disk_or_gets_little_processor_is_waited_for(guest: Guest) -> None:
    watch = IdleWatch(guest)  # type: ignore[arg-type]
    for _ in range(10):
        guest.read += 512
        assert guest.watch(watch, 5) == ""
    assert guest.watch(IdleWatch(guest), 60, used=0.2) == ""  # type: ignore[arg-type]  # 12 s in all


@pytest.mark.parametrize("used", [0.0, 1.0], ids=["it-halts", "it-polls"])
def test_a_prompt_ends_the_wait(guest: Guest, used: float) -> None:
    watch = IdleWatch(guest)  # type: ignore[arg-type]
    guest.log.write_text("U-Boot\r\n=> ")
    assert guest.watch(watch, 30, used=used) == "it waits at a prompt"
    assert guest.now <= 4


@pytest.mark.parametrize(
    ("text", "is_prompt"),
    [("=> ", True), ("login: ", True), ("done\n", False), ("> \n", False), ("wait 3", False)],
)
def test_prompts(text: str, is_prompt: bool) -> None:
    assert prompts(text) == is_prompt
