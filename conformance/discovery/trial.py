"""One trial: a case is recorded in a scratch folder and judged; its evidence is kept only where that is asked for."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import lab.recording.record
from conformance.discovery.behaviours import Effect
from conformance.discovery.oracles import Failure, failures, judging
from conformance.proof.recording import processor_deadline
from conformance.suite.check import Check
from conformance.wire.decode import timeline
from conformance.wire.diff import diff, joined, parting
from lab import drivers
from lab.data.coverage import RecordingCoverage, read_coverage
from lab.data.events import Event, FaultInjected, Submitted
from lab.data.evidence import Evidence
from lab.data.manifest import DriverManifest
from lab.data.plan import DeviceKind, Scenario
from lab.errors import LabError
from lab.guest.folder import SHARED_MEMORY, run_folder, shared_root
from lab.toolchain import Toolchain

REFERENCE = "reference"
SECONDS = 20
"""Processor time of a driver in this process for one trial: one that spins ends with a time-out as its answer."""


@dataclass(frozen=True)
class Bench:
    """What all trials share: the driver, the device in front of it, and what they need of this machine."""

    driver: DriverManifest
    device: DeviceKind
    toolchain: Toolchain

    @property
    def in_process(self) -> bool:
        """Return whether the driver runs in the lab's own process."""
        return not drivers.in_qemu(self.driver)


@dataclass(frozen=True)
class Tried:
    """What came of one trial."""

    failures: tuple[Failure, ...] = ()
    struck: int = 0
    """How often faults have struck."""
    where: str = ""
    """Where the recording first parts from the calm one; only for failures."""
    error: str = ""
    """Why the lab could not judge."""
    seconds: float = 0.0
    events: tuple[Event, ...] = field(default=(), compare=False)
    """The record, where it was asked for."""
    coverage: RecordingCoverage | None = field(default=None, compare=False)
    """What was executed of a driver in a guest, where it was asked for."""

    @property
    def function(self) -> str:
        """Return how far the driver came; "" where that was not asked for, or is not known."""
        return self.coverage.last if self.coverage else ""


def attempt(
    bench: Bench,
    scenario: Scenario,
    effects: Collection[Effect] = frozenset(),
    *,
    checks: Sequence[Check] | None = None,
    recovers: bool = False,
    keep: Path | None = None,
    calm: tuple[Scenario, tuple[Event, ...]] | None = None,
    events: bool = False,
    alone: bool = False,
    watch: AbstractContextManager[None] | None = None,
    cover: bool = False,
) -> Tried:
    """Record a scenario, and judge it by what ``effects`` leave to be judged, or by these ``checks``.

    ``keep`` is the new folder for the evidence; without one nothing is left of it.
    ``calm`` is the scenario without faults and its record, for `Tried.where`; ``events`` asks for the record.
    ``alone`` waits until no other recording runs on this machine; ``watch`` is entered for the recording only; ``cover`` asks
    for the coverage of a driver in a guest.
    """
    began = time.monotonic()
    try:
        with _folder(keep) as folder:
            with watch or nullcontext():
                covered = cover and not bench.in_process
                evidence = record(bench, scenario, folder, alone=alone, cover=covered, sealed=keep is not None)
            if evidence.end is None or evidence.end.outcome == "lab-error":
                return Tried(error=evidence.end.reason if evidence.end else "cut short", seconds=time.monotonic() - began)
            found, errors = failures(evidence, judging(scenario, effects) if checks is None else checks, recovers=recovers)
            seen = tuple(evidence.events()) if events or found else ()
            return Tried(
                failures=tuple(found),
                struck=sum(isinstance(event, FaultInjected) for event in seen),
                where=_parting(calm, scenario, seen) if found and calm else "",
                error=errors[0] if errors else "",
                seconds=time.monotonic() - began,
                events=seen if events else (),
                coverage=read_coverage(folder) if cover else None,
            )
    except LabError as error:
        return Tried(error=str(error), seconds=time.monotonic() - began)


def record(
    bench: Bench, scenario: Scenario, folder: Path, *, alone: bool = False, cover: bool = False, sealed: bool = True
) -> Evidence:
    """Record a scenario into a new folder; not ``sealed``, no digests are taken of what nobody keeps."""
    with processor_deadline(SECONDS) if bench.in_process else nullcontext():
        lab.recording.record.record(
            bench.driver,
            scenario,
            bench.device,
            folder,
            toolchain=bench.toolchain,
            alone=alone,
            coverage=cover,
            sealed=sealed,
        )
    return Evidence(folder)


def reference_bench() -> Bench:
    """Return the bench of the unmodified reference driver in this process: the control of a finding."""
    return Bench(drivers.find(REFERENCE), "lab", Toolchain(None, None))


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """Yield a folder to record into: ``keep``, or one in memory that is gone afterwards."""
    if keep is not None:
        shutil.rmtree(keep, ignore_errors=True)
        keep.parent.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with run_folder(shared_root() if SHARED_MEMORY.is_dir() else None) as scratch:
        yield scratch / "evidence"


def _parting(calm: tuple[Scenario, tuple[Event, ...]], scenario: Scenario, events: tuple[Event, ...]) -> str:
    """Return the first step in which a recording differs from the calm one, in words; "" where none does."""
    before, after = (timeline(one, joined(seen)) for one, seen in ((calm[0], calm[1]), (scenario, events)))
    found = parting(diff(before, after))
    if found is None:
        return ""
    step = found.right or found.left
    if step is None:
        return ""
    ended = step.words.rpartition(" → ")[2]
    words = f"{step.row.name} → {ended}" if isinstance(step.row.event, Submitted) else step.words
    return words if found.right else f"no {words}"
