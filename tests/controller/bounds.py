"""What one step of a hostile party may cost the device: processor time of the device's thread, and memory of the process."""

from __future__ import annotations

import resource
import threading
import time

SECOND = 1.0
"""Processor time that one step may take. The load of the machine does not count."""
MEBIBYTE = 1 << 20
GROWTH = 64 * MEBIBYTE
"""Bytes that the process may grow by after the first tenth of the steps."""


class Bounds:
    """Counts steps of a thread, by default this one, and keeps the slowest."""

    def __init__(self, what: str, steps: int, thread: threading.Thread | None = None) -> None:
        """Expect so many ``steps``, which ``what`` names."""
        ident = (thread or threading.current_thread()).ident
        assert ident is not None
        self._clock = time.pthread_getcpuclockid(ident)
        self._what, self._warm = what, steps // 10
        self._steps = self._before = 0
        self._began = self._last = time.clock_gettime(self._clock)
        self._slowest = 0.0

    def step(self) -> None:
        """Count a step that has ended just now."""
        now = time.clock_gettime(self._clock)
        self._slowest, self._last = max(self._slowest, now - self._last), now
        if self._steps == self._warm:
            self._before = _memory()
        self._steps += 1

    def check(self, more: str = "") -> None:
        """Print what it was, with ``more`` about the steps, and assert that it is within the bounds."""
        grown = _memory() - self._before
        total = self._last - self._began
        steps = f"{self._steps} {self._what}" + (f", {more}" if more else "")
        slowest = f"the slowest took {self._slowest * 1000:.0f} ms of processor time, all {total:.0f} s"
        print(f"{steps}: {slowest}; the process grew by {grown / MEBIBYTE:.1f} MiB after the first {self._warm}")
        assert self._slowest < SECOND
        assert grown < GROWTH


def _memory() -> int:
    """Return the most memory that the process has held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
