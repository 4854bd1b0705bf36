"""The machine as a witness: how promptly the host has run a QEMU, and the lab beside it.

A driver's time-outs run on the guest's clock, which goes on while the host lets QEMU or the device wait. So a driver that gave
up may be right: what it waited for came late because of the machine. The kernel knows how long each thread was ready to run and
did not (Documentation/scheduler/sched-stats.rst, /proc/PID/schedstat); this module keeps the longest of these times.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from lab.data.machine import WINDOW, MachineReport

SAMPLE_SECONDS = 0.05
STOPPED = frozenset("Tt")
"""States of a process that a signal has stopped (proc_pid_stat(5))."""
OWN = Path("/proc/self")


class _Waits(NamedTuple):
    """What the kernel counts of a thread."""

    waited: int  # ns that it was ready to run and did not
    slices: int  # times that it was run


class MachineWitness:
    """Watches one QEMU from the inside of a ``with`` block, by a thread that looks every SAMPLE_SECONDS.

    ``lost`` grows by the time in which QEMU or the lab was not run although it wanted to be, or was stopped.
    """

    def __init__(self, pid: int, bound: float) -> None:
        """Create the witness. ``pid`` is QEMU's; ``bound`` are the seconds of one stall that the driver's time-outs allow."""
        self.lost = 0.0
        self._bound = bound
        self._processes = (Path(f"/proc/{pid}"), OWN)
        self._before: dict[Path, _Waits] = {}
        self._longest_stall = self._longest_stop = self._stopped = self._most_waited = 0.0
        self._recent: deque[tuple[float, float]] = deque()  # seconds of a sample, and what QEMU waited of them
        self._steal = _steal()
        self._offset = time.time() - time.monotonic()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="machine witness", daemon=True)

    def __enter__(self) -> MachineWitness:
        """Take a first sample, and start the thread that takes the others."""
        self._sample(0.0)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Stop watching; the thread has ended afterwards."""
        self._end.set()
        self._thread.join()

    def report(self) -> MachineReport:
        """Return what was seen so far."""
        return MachineReport(
            bound=self._bound,
            longest_stall=round(self._longest_stall, 3),
            longest_stop=round(self._longest_stop, 3),
            steal=round(_steal() - self._steal, 3),
            most_waited=round(self._most_waited, 3),
            clock_jump=round(time.time() - time.monotonic() - self._offset, 3),
        )

    def _watch(self) -> None:
        last = time.monotonic()
        while not self._end.wait(SAMPLE_SECONDS):
            now = time.monotonic()
            self._sample(now - last)
            last = now

    def _sample(self, elapsed: float) -> None:
        """Look once; ``elapsed`` is the time since the last look, which is late where the lab itself was not run."""
        late = max(0.0, elapsed - SAMPLE_SECONDS)
        stall, lost, waited = late, late, 0.0
        for process, waits, slices in self._delays():
            stall, lost = max(stall, waits / max(slices, 1)), max(lost, waits)
            waited = max(waited, waits if process != OWN else 0.0)
        self._add_waited(elapsed, waited)
        if _state(self._processes[0]) in STOPPED:
            self._stopped += elapsed
            self._longest_stop = max(self._longest_stop, self._stopped)
            lost = elapsed
        else:
            self._stopped = 0.0
        self._longest_stall = max(self._longest_stall, stall)
        self.lost += min(lost, elapsed)

    def _add_waited(self, elapsed: float, waited: float) -> None:
        """Add up what QEMU has waited in the last `WINDOW` seconds."""
        self._recent.append((elapsed, waited))
        while sum(seconds for seconds, _ in self._recent) > WINDOW and len(self._recent) > 1:
            self._recent.popleft()
        self._most_waited = max(self._most_waited, sum(waits for _, waits in self._recent))

    def _delays(self) -> Iterator[tuple[Path, float, int]]:
        """Yield (process, seconds waited for a processor since the last look, times that it ran) of each thread."""
        after: dict[Path, _Waits] = {}
        for process in self._processes:
            for task in process.glob("task/*/schedstat"):
                try:
                    _, waited, slices = map(int, task.read_text().split())
                except (OSError, ValueError):  # the thread has ended
                    continue
                after[task] = _Waits(waited, slices)
                if before := self._before.get(task):
                    yield process, (waited - before.waited) / 1e9, slices - before.slices
        self._before = after


def _state(process: Path) -> str:
    """Return the state of a process as a letter; "" if it has ended."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def _steal() -> float:
    """Return the seconds that the hypervisor has taken from this machine's processors since its start (proc_stat(5))."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return int(fields[8]) / 100 if len(fields) > 8 else 0.0
