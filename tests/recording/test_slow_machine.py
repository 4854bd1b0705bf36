"""What the machine does to a guest is noticed, and is no failure of its driver (docs/judging.md)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from conformance.judging.judge import judge
from conformance.suite.check import Outcome
from conformance.suite.selection import SCENARIOS, select
from lab.data.evidence import Evidence
from lab.drivers import find
from lab.guest.machine import Machine
from lab.recording import guest
from lab.recording.record import record
from lab.toolchain import Toolchain

pytestmark = pytest.mark.slow

SCENARIO = "io-queues/small"
STOP_SECONDS = 2.5
"""More than half of U-Boot's time-out of 3 s (limits.shortest_timeout)."""


def failures(folder: Path, toolchain: Toolchain) -> tuple[Evidence, set[str]]:
    """Return the recording, and the checks that it fails."""
    recorded = record(find("u-boot"), SCENARIOS[SCENARIO].resolve(1), "lab", folder, toolchain=toolchain)
    evidence = Evidence(recorded)
    verdicts = judge(evidence, select(scenarios=[SCENARIO]).checks_of(SCENARIO))
    return evidence, {verdict.check.id for verdict in verdicts if verdict.outcome in (Outcome.FAIL, Outcome.WARN)}


@contextmanager
def busy(loops: int) -> Iterator[None]:
    """Load the machine by so many endless loops."""
    with ExitStack() as ends:
        for _ in range(loops):
            loop = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            ends.callback(loop.wait)
            ends.callback(loop.kill)
        yield


def test_a_qemu_that_was_stopped_fails_nothing(toolchain: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timers = []

    class Stopped(Machine):
        def __enter__(self) -> Machine:
            machine = super().__enter__()
            timers.append(threading.Timer(STOP_SECONDS, os.kill, (machine.process.pid, signal.SIGCONT)))
            os.kill(machine.process.pid, signal.SIGSTOP)
            timers[-1].start()
            return machine

    monkeypatch.setattr(guest, "Machine", Stopped)
    evidence, failed = failures(tmp_path / "stopped", toolchain)
    for timer in timers:
        timer.join()
    assert evidence.end is not None
    assert evidence.end.machine is not None
    assert evidence.end.machine.longest_stop > evidence.end.machine.bound
    assert failed == set()


def test_a_busy_machine_fails_nothing_that_a_calm_one_passes(toolchain: Toolchain, tmp_path: Path) -> None:
    with busy(3 * len(os.sched_getaffinity(0))):
        evidence, failed = failures(tmp_path / "busy", toolchain)
    assert evidence.end is not None
    assert evidence.end.machine is not None
    _, calm = failures(tmp_path / "calm", toolchain)
    assert failed <= calm if evidence.end.machine.trouble == "" else failed == set()
