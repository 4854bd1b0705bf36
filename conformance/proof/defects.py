"""The campaign of seeded defects: can the suite fail? Each defect must be caught by its own check, and nothing by itself.

The unmodified driver goes through every scenario: whatever fails there is a false alarm. So does the liar, who says what is
right and does nothing: no check of what the device or the disk saw may pass on it. Each defect goes through the scenarios where
its check is judged, one after the other until the check has caught it. All of it happens in process, on the programmable
controller, with every check judging.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from types import FrameType
from typing import Any

import lab.recording.guest
from conformance.judging.judge import Verdict, judge
from conformance.suite.check import Outcome
from conformance.suite.selection import SCENARIOS, select
from lab import drivers
from lab.data.evidence import Evidence
from lab.defects import DEFECTS, LIAR, Defect, find
from lab.drivers.watchdog import Hung
from lab.errors import UsageError
from lab.guest.folder import SHARED_MEMORY, run_folder, shared_root
from lab.toolchain import Toolchain

DRIVER = "reference"
CAUGHT = (Outcome.FAIL, Outcome.WARN)
SECONDS = 20
"""Wall-clock time for one scenario: a driver that spins without a step ends with a time-out as its answer."""


@dataclass(frozen=True)
class Alarm:
    """A verdict that should not be: a failure of the unmodified driver, a lie believed, or what the lab could not judge."""

    scenario: str
    check: str
    outcome: str
    finding: str


@dataclass(frozen=True)
class Examined:
    """What came of one defect."""

    defect: str
    caught: str  # the scenario where its check failed; "" if none
    also: tuple[str, ...]  # other checks that failed up to there
    errors: tuple[Alarm, ...]  # what the lab could not judge

    def to_json(self) -> dict[str, Any]:
        defect = DEFECTS[self.defect]
        return {
            "id": self.defect,
            "check": defect.check,
            "summary": defect.summary,
            "source": defect.source,
            "caught": bool(self.caught),
            "scenario": self.caught,
            "also": list(self.also),
        }


@dataclass(frozen=True)
class Outcomes:
    """What came of a campaign."""

    examined: tuple[Examined, ...]
    false_alarms: tuple[Alarm, ...]
    believed: tuple[Alarm, ...]  # checks that passed on the liar

    @property
    def caught(self) -> int:
        return sum(bool(one.caught) for one in self.examined)

    @property
    def good(self) -> bool:
        """Everything is caught, and nothing else is wrong."""
        return self.caught == len(self.examined) and not (self.false_alarms or self.believed or self.errors)

    @property
    def errors(self) -> tuple[Alarm, ...]:
        """What the lab could not judge."""
        return tuple(alarm for one in self.examined for alarm in one.errors)

    def to_json(self) -> dict[str, Any]:
        """As ``nvme-lab defects --json`` prints it (cli.md)."""
        return {
            "defects": [one.to_json() for one in self.examined],
            "caught": self.caught,
            "total": len(self.examined),
            "false_alarms": [vars(alarm) for alarm in self.false_alarms],
            "believed": [vars(alarm) for alarm in self.believed],
            "errors": [vars(alarm) for alarm in self.errors],
        }


def chosen(checks: Sequence[str] = (), ids: Sequence[str] = ()) -> list[Defect]:
    """The defects of these checks and these ids, all if none is named. UsageError for unknown ones."""
    for check in checks:
        if not any(defect.check == check for defect in DEFECTS.values()):
            raise UsageError(f"no defect is seeded for a check {check!r}", remedy="nvme-lab defects lists what there is")
    for id in ids:
        find(id)
    return [one for one in DEFECTS.values() if (not checks and not ids) or one.check in checks or one.id in ids]


def campaign(
    defects: Iterable[Defect], *, seed: int = 0, jobs: int | None = None, on_done: Callable[[Examined], None] | None = None
) -> Outcomes:
    """Runs these defects, ``jobs`` at once (None: one a processor), and the driver without any in the same scenarios.

    Where all defects are run, that one goes through all scenarios.
    """
    ids = [defect.id for defect in defects]
    scenarios = SCENARIOS if set(ids) == set(DEFECTS) else dict.fromkeys(s for id in ids for s in scenarios_of(DEFECTS[id]))
    with ProcessPoolExecutor(jobs or len(os.sched_getaffinity(0)), mp_context=get_context("spawn")) as pool:
        try:
            golden = [pool.submit(false_alarms, scenario, seed) for scenario in scenarios]
            lies = [pool.submit(lies_believed, scenario, seed) for scenario in scenarios]
            seeded = [pool.submit(examine, id, seed) for id in ids]
            examined = []
            for future in seeded:
                examined.append(future.result())
                if on_done:
                    on_done(examined[-1])
            wrong, believed = (tuple(alarm for future in futures for alarm in future.result()) for futures in (golden, lies))
            return Outcomes(tuple(examined), wrong, believed)
        finally:
            pool.shutdown(cancel_futures=True)  # who interrupts waits for nothing that has not begun


def false_alarms(scenario: str, seed: int) -> list[Alarm]:
    """What fails in a scenario although the driver makes no mistake."""
    return [_alarm(verdict) for verdict in _verdicts(scenario, seed) if verdict.outcome in (*CAUGHT, Outcome.ERROR)]


def lies_believed(scenario: str, seed: int) -> list[Alarm]:
    """What passes in a scenario although the device saw nothing, by checks that do not go by the answers alone."""
    verdicts = [verdict for verdict in _verdicts(scenario, seed, LIAR) if verdict.check.witnesses != ("out",)]
    return [_alarm(verdict) for verdict in verdicts if verdict.outcome in (Outcome.PASS, Outcome.ERROR)]


def examine(id: str, seed: int) -> Examined:
    """One defect in the scenarios where its check is judged, until that has caught it."""
    defect = DEFECTS[id]
    failed, errors = set[str](), list[Alarm]()
    for scenario in scenarios_of(defect):
        verdicts = _verdicts(scenario, seed, id)
        failed |= {verdict.check.id for verdict in verdicts if verdict.outcome in CAUGHT}
        errors += [_alarm(verdict) for verdict in verdicts if verdict.outcome is Outcome.ERROR]
        if defect.check in failed:
            return Examined(id, scenario, tuple(sorted(failed - {defect.check})), tuple(errors))
    return Examined(id, "", tuple(sorted(failed)), tuple(errors))


def scenarios_of(defect: Defect) -> list[str]:
    """Where a defect can show: its own scenarios, else those where its check is judged."""
    return list(defect.scenarios) or [template.id for template in select(checks=[defect.check]).scenarios]


def record(scenario: str, seed: int, folder: Path, defect: str = "") -> Evidence:
    """Records the driver, with a defect if one is named, in a scenario."""
    manifest = drivers.find(DRIVER)
    if defect:
        manifest = manifest.model_copy(update={"variables": {**manifest.variables, "defect": defect}})
    with _deadline(SECONDS):
        lab.recording.guest.record(manifest, SCENARIOS[scenario].resolve(seed), "lab", folder, toolchain=Toolchain(None, None))
    return Evidence(folder)


def _verdicts(scenario: str, seed: int, defect: str = "") -> list[Verdict]:
    with run_folder(shared_root() if SHARED_MEMORY.is_dir() else None) as folder:
        return judge(record(scenario, seed, folder / "evidence", defect), select().checks_of(scenario))


def _alarm(verdict: Verdict) -> Alarm:
    broken = next((finding for finding in verdict.findings if not finding.ok), None)
    finding = f"expected {broken.expected}, actual {broken.actual}" if broken else verdict.reason
    return Alarm(verdict.scenario, verdict.check.id, str(verdict.outcome), finding)


@contextmanager
def _deadline(seconds: int) -> Iterator[None]:
    """The driver hangs when the time is over; in a process's main thread only."""

    def over(number: int, frame: FrameType | None) -> None:
        raise Hung

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
