"""One recording of the reference driver in process, judged by every check: what all halves of the proof are made of.

It is judged at once by the process that has made it, and thrown away: no digests of its files are taken.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields
from functools import cache, cached_property, lru_cache
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

import lab.recording.record
from conformance.judging.judge import Verdict, judge_record
from conformance.record.record import Record
from conformance.record.words import PYTHON
from conformance.suite.check import Check, Outcome
from conformance.suite.selection import SCENARIOS, select
from lab import drivers
from lab.data.events import (
    Barrier,
    ConfigWrite,
    DmaMap,
    Doorbell,
    Event,
    MemoryRead,
    MemoryWrite,
    MsixWrite,
    RegisterRead,
    RegisterWrite,
    Submitted,
)
from lab.data.evidence import Evidence
from lab.data.manifest import DriverManifest
from lab.drivers.watchdog import Hung
from lab.guest.folder import SHARED_MEMORY, run_folder, shared_root
from lab.toolchain import Toolchain

DRIVER = "reference"
FAILED = (Outcome.FAIL, Outcome.WARN)
SECONDS = 20
"""Processor time for one scenario: a driver that spins without a step ends with a time-out as its answer. A busy machine takes
none of it away."""


DRIVERS_DOING: Mapping[type[Event], Callable[[Event], object]] = {
    kind: attrgetter(*(one.name for one in fields(kind) if one.name not in ("t", "line")))
    for kind in (RegisterRead, RegisterWrite, Doorbell, ConfigWrite, Submitted, DmaMap, MemoryRead, MemoryWrite, Barrier,
                 MsixWrite)
}  # fmt: skip
"""Events that the driver causes, and what they are apart from their time."""
KEPT = 4
"""Recordings of the unmodified driver of which is kept what is wanted again: a process stays at one scenario for long."""

_place: ContextVar[Path | None] = ContextVar("place", default=None)
"""The folder of this process for its recordings, where it has one for many (`one_place`)."""


@dataclass(frozen=True)
class Alarm:
    """A verdict that should not be: a failure of a legal driver, a false pass, or what the lab could not judge."""

    scenario: str
    check: str
    outcome: str
    finding: str


@cache
def _manifest() -> DriverManifest:
    return drivers.find(DRIVER)


@cache
def checks_of(scenario: str) -> tuple[Check, ...]:
    """Return all checks that judge a scenario of the suite."""
    return tuple(select().checks_of(scenario))


def record(scenario: str, seed: int, folder: Path, defect: str = "", variant: str = "", *, sealed: bool = True) -> Evidence:
    """Record the driver in a scenario, with a defect or with legal variants (joined by "+") if any are named."""
    manifest = _manifest()
    seeds = {name: id for name, id in (("defect", defect), ("variant", variant)) if id}
    if seeds:
        manifest = manifest.model_copy(update={"variables": {**manifest.variables, **seeds}})
    with processor_deadline(SECONDS):
        lab.recording.record.record(
            manifest, SCENARIOS[scenario].resolve(seed), "lab", folder, toolchain=Toolchain(None, None), sealed=sealed
        )
    return Evidence(folder)


@contextmanager
def one_place() -> Iterator[None]:
    """Keep one folder in memory for all recordings that are made inside."""
    with run_folder(shared_root() if SHARED_MEMORY.is_dir() else None) as folder:
        before = _place.set(folder)
        try:
            yield
        finally:
            _place.reset(before)


@contextmanager
def recorded(scenario: str, seed: int, defect: str = "", variant: str = "") -> Iterator[Record]:
    """Record as `record` does, into a folder that is gone afterwards."""
    with ExitStack() as cleanup:
        if _place.get() is None:
            cleanup.enter_context(one_place())
        folder = Path(cleanup.enter_context(TemporaryDirectory(dir=_place.get())))
        yield Record(record(scenario, seed, folder / "evidence", defect, variant, sealed=False))


def verdicts(
    scenario: str, seed: int, defect: str = "", variant: str = "", *, checks: Iterable[Check] | None = None
) -> list[Verdict]:
    """Record the driver in a scenario and judge it by these checks of that scenario, by default by all."""
    with recorded(scenario, seed, defect, variant) as record:
        return judge_record(record, checks_of(scenario) if checks is None else checks, explain=False)


@dataclass(frozen=True)
class Doing:
    """What the driver did, whenever that was, and how long it took by the device's clock."""

    steps: tuple[tuple[type[Event], object], ...]
    seconds: float

    @classmethod
    def of(cls, events: Iterable[Event]) -> Doing:
        """Take it from the events of a record."""
        caused = [event for event in events if type(event) in DRIVERS_DOING]
        steps = tuple((type(event), DRIVERS_DOING[type(event)](event)) for event in caused)
        return cls(steps, caused[-1].t - caused[0].t if caused else 0.0)


@dataclass(frozen=True)
class Golden:
    """What came of the unmodified driver in a scenario."""

    verdicts: tuple[Verdict, ...]
    events: tuple[Event, ...]

    @cached_property
    def doing(self) -> Doing:
        """What the driver did."""
        return Doing.of(self.events)


@lru_cache(KEPT)
def golden(scenario: str, seed: int) -> Golden:
    """Record the unmodified driver in a scenario, and judge it; once for all that it is compared with."""
    with recorded(scenario, seed) as record:
        return Golden(tuple(judge_record(record, checks_of(scenario), explain=False)), record.events)


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
