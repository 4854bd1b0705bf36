"""The witness of the machine: what the host did not run, and what a signal stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lab.data.machine import WINDOW, MachineReport
from lab.guest.witness import SAMPLE_SECONDS, MachineWitness

SPIN = "while True: pass"


@contextmanager
def running(program: str, *affinity: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program of Python on these processors; it has ended afterwards."""
    process = subprocess.Popen([sys.executable, "-c", program])
    try:
        if affinity:
            os.sched_setaffinity(process.pid, affinity)
        yield process
    finally:
        process.kill()
        process.wait()


def until(condition: object, seconds: float = 20.0) -> None:
    """Wait until the callable holds."""
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(SAMPLE_SECONDS / 5)


def test_a_stop_is_measured_and_lost_time_grows_with_it() -> None:
    with running("import time; time.sleep(60)") as process, MachineWitness(process.pid, bound=0.3) as witness:
        os.kill(process.pid, signal.SIGSTOP)
        until(lambda: witness.report().longest_stop > 0.5)
        os.kill(process.pid, signal.SIGCONT)
        assert witness.lost >= 0.5
        assert witness.report().trouble.startswith("this machine was too slow: QEMU was stopped for ")


def test_what_waits_for_a_processor_is_measured() -> None:
    """Two that spin on one processor share it: each waits about half of the time."""
    processor = min(os.sched_getaffinity(0))
    with running(SPIN, processor), running(SPIN, processor) as process, MachineWitness(process.pid, bound=10.0) as witness:
        until(lambda: witness.lost > 0.3)
        report = witness.report()
    assert 0 < report.longest_stall
    assert report.longest_stop == 0
    assert 0.2 < report.most_waited <= WINDOW


def test_a_stall_below_the_bound_is_no_trouble() -> None:
    report = MachineReport(bound=0.5, longest_stall=0.4, longest_stop=0.2)
    assert not report.trouble
    stalled = MachineReport(bound=0.5, longest_stall=0.6, longest_stop=0.0)
    assert stalled.trouble == "this machine was too slow: QEMU or the lab was not run for 0.6 s (allowed: 0.5 s)"


def test_a_process_that_has_ended_is_no_stall() -> None:
    with running("pass") as process, MachineWitness(process.pid, bound=0.3) as witness:
        process.wait()
        time.sleep(3 * SAMPLE_SECONDS)
        assert witness.report().longest_stop == 0


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_a_clock_that_is_set_is_the_machines_trouble(jump: float, monkeypatch: pytest.MonkeyPatch) -> None:
    with MachineWitness(os.getpid(), bound=600.0) as witness:
        assert not witness.report().trouble
        now = time.time
        monkeypatch.setattr(time, "time", lambda: now() + jump)
        report = witness.report()
    assert abs(report.clock_jump - jump) < 1
    assert f"its clock was set: by {jump:+.1f} s" in report.trouble


def test_many_short_waits_starve_a_guest_though_none_of_them_is_a_stall() -> None:
    report = MachineReport(bound=0.5, longest_stall=0.1, longest_stop=0.0, most_waited=2.0)
    assert not report.trouble
    assert report.starvation.startswith("this machine was too slow: a thread of QEMU was not run for 2.0 s of 5 s")
    assert not MachineReport(bound=0.5, longest_stall=0.1, longest_stop=0.0, most_waited=0.5).starvation
