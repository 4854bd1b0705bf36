"""Guests that are stopped at an event, for a look at where their driver is."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.run.scenario_run import stop_judge
from conformance.suite.selection import SCENARIOS
from lab.data.backtrace import Backtrace, read_backtraces
from lab.data.evidence import Evidence
from lab.drivers import find
from lab.recording.record import record
from lab.toolchain import Toolchain


def stopped(toolchain: Toolchain, folder: Path, driver: str, scenario: str, stop_at: str) -> tuple[Backtrace, ...]:
    judge = stop_judge(stop_at)
    resolved = SCENARIOS[scenario].resolve(0)
    record(find(driver), resolved, "lab", folder, toolchain=toolchain, stop_at=stop_at, stop_when=judge)
    evidence = Evidence(folder)
    assert evidence.end is not None
    assert evidence.end.outcome == "complete"
    evidence.check()
    assert not (folder / "coverage.json").exists()
    return read_backtraces(folder)


def test_a_guest_is_stopped_at_a_fault(toolchain: Toolchain, tmp_path: Path) -> None:
    (stop, *_) = stopped(toolchain, tmp_path / "e", "edk2", "reset/stall", "fault")
    assert stop.event == "fault late, drop"
    (processor,) = stop.processors
    assert "NvmExpressPassThru" in [frame.function for frame in processor.frames]


def test_a_guest_is_stopped_at_the_first_violation_of_a_check(toolchain: Toolchain, tmp_path: Path) -> None:
    (stop,) = stopped(toolchain, tmp_path / "e", "u-boot", "read/odd-buffer", "read/odd-buffer")
    assert stop.event.startswith("read/odd-buffer: expected a multiple of 4")
    assert [one.number for one in stop.processors] == [0]


def test_without_the_event_nothing_is_stopped(toolchain: Toolchain, tmp_path: Path) -> None:
    assert stopped(toolchain, tmp_path / "e", "u-boot", "read/basic", "timeout") == ()


@pytest.mark.parametrize("stop_at", ["", "fault", "panic", "timeout"])
def test_events_of_the_recording_need_no_judge(stop_at: str) -> None:
    assert stop_judge(stop_at) is None
