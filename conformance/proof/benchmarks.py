"""Benchmarks of what runs consist of: how they gain by workers, and how fast evidence is judged. See `lab.bench`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from conformance.judging.judge import judge
from conformance.run.plan import Campaign, RunRequest, plan
from conformance.run.prepare import prepare_campaign
from conformance.run.runner import record_and_judge
from conformance.suite.check import Outcome
from conformance.suite.selection import CHECKS
from lab.bench.figures import Figure, numbered_rounds
from lab.data.evidence import Evidence, evidence_folders
from lab.errors import LabError
from lab.settings import Settings

SCENARIOS = 50
JUDGED = 20
"""Recordings of the reference driver that are judged."""
Verdicts = dict[tuple[str, str, str, str], Outcome]


def scaling(settings: Settings, folder: Path, say: Callable[[str], None], *, scenarios: int = SCENARIOS) -> list[Figure]:
    """Linux's scenarios, evenly chosen among all, recorded and judged by one worker and by two, which take the same verdicts.

    They are recorded once beforehand, so that templates are there and files are in memory.
    """
    campaign = _evenly(prepare_campaign(plan(RunRequest(drivers=("linux",))), settings, say), scenarios)
    seconds: dict[int, float] = {}
    verdicts: dict[int, Verdicts] = {}
    for turn, workers in enumerate((2, 1, 2)):
        say(f"{len(campaign.jobs)} scenarios on {workers} worker{'s' * (workers > 1)}{'' if turn else ', for nothing'}")
        began = time.perf_counter()
        verdicts[workers] = _recorded(campaign, folder / f"{turn}", workers)
        seconds[workers] = time.perf_counter() - began
    if differing := [name for name, outcome in verdicts[1].items() if verdicts[2][name] is not outcome]:
        raise LabError(f"{len(differing)} verdicts depend on the number of workers: {'/'.join(differing[0])} is one of them.")
    rates = {workers: len(campaign.jobs) / taken for workers, taken in seconds.items()}
    return [Figure("scenarios with 2 workers", rates[2], "per s", "with 1 worker", rates[1], more_is_better=True)]


def judging(settings: Settings, folder: Path, say: Callable[[str], None], *, rounds: int) -> list[Figure]:
    """Every check of the suite over recordings of the reference driver, against only reading their events."""
    campaign = _evenly(prepare_campaign(plan(RunRequest(drivers=("reference",))), settings, say), JUDGED)
    _recorded(campaign, folder / "recorded", 1)
    recordings = evidence_folders(folder / "recorded")
    events = sum(1 for recording in recordings for _ in Evidence(recording).events())
    say(f"{len(recordings)} recordings, {events} events, {len(CHECKS)} checks")

    def read() -> None:
        for recording in recordings:
            for _ in Evidence(recording).events():
                pass

    def judged() -> None:
        for recording in recordings:
            judge(Evidence(recording), CHECKS.values())

    taken = [(_seconds(judged), _seconds(read)) for _ in numbered_rounds(rounds, "judging and reading", say)]
    rates = [events / statistics.median(times) for times in zip(*taken, strict=True)]
    return [Figure("events judged by all checks", rates[0], "per s", "events only read", rates[1], more_is_better=True)]


def _evenly(campaign: Campaign, number: int) -> Campaign:
    """So many of its jobs, from all stages and devices."""
    jobs = campaign.jobs
    count = min(number, len(jobs))
    return replace(campaign, jobs=tuple(jobs[place * len(jobs) // count] for place in range(count)))


def _recorded(campaign: Campaign, out: Path, workers: int) -> Verdicts:
    out.mkdir()
    results = record_and_judge(replace(campaign, out=out), [f"{workers}*popen"], [])
    verdicts = {verdict.key: verdict.outcome for verdict in results.verdicts}
    if results.unfinished or Outcome.ERROR in verdicts.values():
        raise LabError(f"The lab failed in its own benchmark{f': {results.unfinished}' if results.unfinished else ''}.")
    return verdicts


def _seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
