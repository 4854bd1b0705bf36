"""One recording of the reference driver in process, judged by every check: what all halves of the proof are made of."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType

import lab.recording.record
from conformance.judging.judge import Verdict, judge
from conformance.record.words import PYTHON
from conformance.suite.check import Outcome
from conformance.suite.selection import SCENARIOS, select
from lab import drivers
from lab.data.evidence import Evidence
from lab.drivers.watchdog import Hung
from lab.guest.folder import SHARED_MEMORY, run_folder, shared_root
from lab.toolchain import Toolchain

DRIVER = "reference"
FAILED = (Outcome.FAIL, Outcome.WARN)
SECONDS = 20
"""Processor time for one scenario: a driver that spins without a step ends with a time-out as its answer. A busy machine takes
none of it away."""


@dataclass(frozen=True)
class Alarm:
    """A verdict that should not be: a failure of a legal driver, a false pass, or what the lab could not judge."""

    scenario: str
    check: str
    outcome: str
    finding: str


def record(scenario: str, seed: int, folder: Path, defect: str = "", variant: str = "") -> Evidence:
    """Record the driver in a scenario, with a defect or with legal variants (joined by "+") if any are named."""
    manifest = drivers.find(DRIVER)
    seeds = {name: id for name, id in (("defect", defect), ("variant", variant)) if id}
    if seeds:
        manifest = manifest.model_copy(update={"variables": {**manifest.variables, **seeds}})
    with processor_deadline(SECONDS):
        lab.recording.record.record(manifest, SCENARIOS[scenario].resolve(seed), "lab", folder, toolchain=Toolchain(None, None))
    return Evidence(folder)


def verdicts(scenario: str, seed: int, defect: str = "", variant: str = "") -> list[Verdict]:
    """Record the driver in a scenario and judge it by all checks of that scenario."""
    with run_folder(shared_root() if SHARED_MEMORY.is_dir() else None) as folder:
        evidence = record(scenario, seed, folder / "evidence", defect, variant)
        return judge(evidence, select().checks_of(scenario), explain=False)


@cache
def golden(scenario: str, seed: int) -> tuple[Verdict, ...]:
    """Return the verdicts on the unmodified driver; each process records a scenario once."""
    return tuple(verdicts(scenario, seed))


def alarm(verdict: Verdict) -> Alarm:
    """Return a verdict as one that should not be."""
    broken = next((finding for finding in verdict.findings if not finding.ok), None)
    finding = f"expected {broken.expected}, actual {broken.actual}" if broken else verdict.reason
    return Alarm(verdict.scenario, verdict.check.id, str(verdict.outcome), finding)


def unworded(found: Iterable[Verdict]) -> list[Alarm]:
    """Return the verdicts whose findings or reasons show values as Python prints them."""
    return [
        Alarm(verdict.scenario, verdict.check.id, "Python", text)
        for verdict in found
        for text in (verdict.reason, *(str(side) for one in verdict.findings for side in (one.expected, one.actual)))
        if PYTHON.search(text)
    ]


@contextmanager
def processor_deadline(seconds: int) -> Iterator[None]:
    """Make the driver hang when the time is over; in a process's main thread only."""

    def over(_number: int, _frame: FrameType | None) -> None:
        raise Hung

    before = signal.signal(signal.SIGPROF, over)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
