"""Whether a guest still does something: it prints, changes its screen, reads its disk, or at least goes on in its program."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from lab.errors import LabError
from lab.guest import screen
from lab.guest.console import plain
from lab.guest.machine import Machine

LEAST_SHARE = 0.1
"""Of one processor: a system that waits for its timer uses less, one that spins or works uses more."""
LOOK_SECONDS = 0.5
IDLE_SECONDS = 6.0
"""A guest that shows nothing and uses no processor for so long waits for something that does not come."""
SPIN_SECONDS, LOOP_SECONDS = 20.0, 3.0
"""Of processor time, in which nothing was shown: then it is taken to spin. Sooner in a short loop."""
PROMPT_SECONDS = 2.0
"""At a prompt: of processor time without anything shown, or of doing nothing at all."""
LOOP_BYTES, LOOP_LOOKS, LOOP_STEP = 64, 6, 0.25
"""A short loop: so many looks, one after the other, have found the processor within so many bytes.

Between two of them it has run for so many seconds: where the host is busy a processor may stand still for several looks.
"""
AT_PROMPT = "it waits at a prompt"
PROMPT_ENDS = tuple(">#$%:]")
_COUNTER = re.compile(r"\b(?:[RE]IP|PC)=\s*([0-9a-f]+)|^ *pc +([0-9a-f]+)", re.IGNORECASE | re.MULTILINE)
"""The program counter in QEMU's "info registers": of x86 and arm64, and of riscv64."""


class IdleWatch:
    """Watches one guest from its making on; ask for `why` again and again."""

    def __init__(self, machine: Machine) -> None:
        """Begin now."""
        self._machine = machine
        self._since = self._looked = time.monotonic()
        self._shown = self._progress()
        self._used = self._used_at_change = machine.process.processor_seconds()
        self._counters: list[int] = []
        self._used_at_counter = 0.0

    @property
    def why(self) -> str:
        """Why nothing more is to be expected of it; "" while it may still come to something."""
        now = time.monotonic()
        if now - self._looked >= LOOK_SECONDS:
            self._look(now)
        spun = self._used - self._used_at_change
        idle = now - self._since
        if max(spun, idle) >= PROMPT_SECONDS and self._prompts:
            return AT_PROMPT
        if idle >= IDLE_SECONDS:
            return f"it was idle for the last {idle:.0f} s"
        if spun >= LOOP_SECONDS and self._loops:
            return f"its processor runs in a loop of a few instructions, at {self._counters[-1]:#x}"
        if spun >= SPIN_SECONDS:
            return f"it used the processor for {spun:.0f} s and showed nothing new"
        return ""

    def _look(self, now: float) -> None:
        used, shown = self._machine.process.processor_seconds(), self._progress()
        changed = shown != self._shown
        if changed or used - self._used > LEAST_SHARE * (now - self._looked):
            self._since = now
        if changed:
            self._used_at_change = used
        self._shown, self._used, self._looked = shown, used, now
        if used - self._used_at_counter < LOOP_STEP:
            return
        self._used_at_counter = used
        with suppress(LabError):
            text = str(self._machine.qmp("human-monitor-command", {"command-line": "info registers"}))
            found = _COUNTER.search(text)
            self._counters = [*self._counters[1 - LOOP_LOOKS :], int(found[1] or found[2], 16)] if found else []

    @property
    def _loops(self) -> bool:
        counters = self._counters
        return len(counters) >= LOOP_LOOKS and max(counters) - min(counters) <= LOOP_BYTES

    @property
    def _prompts(self) -> bool:
        return any(prompts(_text(path)) for path in self._outputs())

    def _outputs(self) -> Iterator[Path]:
        yield self._machine.console.log
        yield from self._machine.outputs.values()

    def _progress(self) -> tuple[int, str, int]:
        """Return what changes when it gets on: bytes printed, the text on its screen, bytes read from its disks."""
        printed = read = 0
        for path in self._outputs():
            with suppress(OSError):
                printed += path.stat().st_size
        with suppress(LabError):
            read = sum(device["stats"]["rd_bytes"] for device in self._machine.qmp("query-blockstats"))
        return printed, screen.text_of(self._machine), read


def prompts(text: str) -> bool:
    """Return whether the text ends as a prompt does, with the cursor behind it."""
    return not text.endswith("\n") and text.rstrip().endswith(PROMPT_ENDS)


def _text(path: Path) -> str:
    try:
        return plain(path.read_bytes().decode(errors="replace"))
    except OSError:
        return ""
