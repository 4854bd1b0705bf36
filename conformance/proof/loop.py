"""Benchmark of the inner loop: what a developer types, by this version of the lab and by another one, in turns.

A whole process is measured, from its start to its end, by the clock and by the processor's time of it and all that it started.
Where the versions differ in a verdict, which a changed rule may do, that is reported: then they have not done the same work.

Beside that the reference driver's reads in process are counted, as `lab.bench.reference` counts them: driver and device
together, with the full record.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from conformance.judging.models import FILE
from lab.bench.figures import Figure, numbered_rounds
from lab.errors import LabError, UsageError

SCENARIO, STAGE = "read/basic", "read"
REPEATED = "5"
GOOD = (0, 1, 3)
"""Exit statuses of a run that has judged: a driver may fail, and a stage may have nothing to judge."""
PYTHON = Path(".venv/bin/python")
READS_IN_PROCESS = """
import json, sys
from lab.bench.reference import DEPTHS, _in_process
with _in_process(float(sys.argv[1])) as measure:
    print(json.dumps(dict(zip(DEPTHS, measure().rates))))
"""
"""What either version runs; the names in it are those that other versions have."""
READ_SECONDS = 1.0
Verdicts = dict[tuple[str, ...], str]


@dataclass(frozen=True)
class Case:
    """What is typed."""

    name: str
    arguments: tuple[str, ...]
    records: bool = True
    """Whether it takes a folder for results."""


def cases(drivers: Sequence[str], *, whole: bool = False) -> Iterator[Case]:
    """Yield what is measured: the command line alone, then for each driver a scenario, once and again, and a stage."""
    yield Case("--version", ("--version",), records=False)
    yield Case("--help", ("--help",), records=False)
    for driver in drivers:
        one = ("run", "--driver", driver, "--scenario", SCENARIO)
        yield Case(f"{driver}: {SCENARIO}", one)
        yield Case(f"{driver}: {SCENARIO} --repeat {REPEATED}", (*one, "--repeat", REPEATED))
        yield Case(f"{driver}: --stage {STAGE}", ("run", "--driver", driver, "--stage", STAGE))
        if whole:
            yield Case(f"{driver}: all", ("run", "--driver", driver))


@dataclass(frozen=True)
class Took:
    """What one process took, and what it found."""

    seconds: float
    processor: float
    verdicts: Verdicts


def loop(
    before: Path, drivers: Sequence[str], folder: Path, say: Callable[[str], None], *, rounds: int, whole: bool = False
) -> list[Figure]:
    """Measure this version against the one in the checkout ``before``; each case is run once beforehand by both."""
    pythons = (Path(sys.executable), _python_of(before))
    figures = []
    for number, case in enumerate(cases(drivers, whole=whole)):
        place = folder / f"{number}"
        warm = [_run(python, case, place / f"warm-{side}") for side, python in enumerate(pythons)]
        if difference := _difference(*(took.verdicts for took in warm)):
            say(f"{case.name}: {difference}")
        taken: list[list[Took]] = [[], []]
        for turn in numbered_rounds(rounds, case.name, say):
            for side, python in enumerate(pythons):
                taken[side].append(_run(python, case, place / f"{turn}-{side}"))
        for what, of in (("s", "seconds"), ("s of processors", "processor")):
            mine, theirs = (statistics.median(getattr(took, of) for took in side) for side in taken)
            figures.append(Figure(case.name, mine, what, str(before), theirs))
    return figures


def reads(
    before: Path, folder: Path, say: Callable[[str], None], *, rounds: int, seconds: float = READ_SECONDS
) -> list[Figure]:
    """Measure reads a second in process by this version and by that in the checkout ``before``, at each depth."""
    folder.mkdir()
    pythons = (Path(sys.executable), _python_of(before))
    rates: list[dict[str, list[float]]] = [{}, {}]
    for _ in numbered_rounds(rounds, "reading in process", say):
        for side, python in enumerate(pythons):
            for depth, rate in _rates(python, folder, seconds).items():
                rates[side].setdefault(depth, []).append(rate)
    return [
        Figure(
            f"reads in process, QD{depth}", statistics.median(mine), "per s", str(before), statistics.median(rates[1][depth]),
            more_is_better=True,
        )
        for depth, mine in rates[0].items()
    ]  # fmt: skip


def _rates(python: Path, folder: Path, seconds: float) -> dict[str, float]:
    """Return a version's reads a second, by depth."""
    arguments = [str(python), "-c", READS_IN_PROCESS, str(seconds)]
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        raise LabError(f"reads in process: {python} ended with {done.returncode}: {last}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _python_of(checkout: Path) -> Path:
    """Return the Python of another checkout; UsageError if it was never set up."""
    python = checkout.absolute() / PYTHON
    if not python.exists():
        raise UsageError(f"{checkout} has no {PYTHON}.", remedy="name a checkout where ./nvme-lab has run once")
    return python


def _run(python: Path, case: Case, folder: Path) -> Took:
    """Run a case by one version in a new folder; LabError where it does not end in order."""
    folder.mkdir(parents=True)
    out = ("--out", str(folder / "out")) if case.records else ()
    began = time.perf_counter()
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(
            [str(python), "-m", "conformance.cli", *case.arguments, *out], cwd=folder, stdout=said, stderr=said
        )
        try:
            _, state, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.terminate()
            process.wait()
            raise
    process.returncode = status = os.waitstatus_to_exitcode(state)
    took = time.perf_counter() - began
    if status not in GOOD:
        last = (folder / "said").read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        raise LabError(f"{case.name}: {python} ended with {status}: {' '.join(last)}")
    return Took(took, usage.ru_utime + usage.ru_stime, _verdicts(folder / "out" / FILE) if case.records else {})


def _verdicts(results: Path) -> Verdicts:
    """Return the outcomes of results of any version of the lab, by what each is of."""
    found = json.loads(results.read_text(encoding="utf-8"))["verdicts"]
    return {tuple(one[key] for key in ("driver", "device", "scenario", "check")): str(one["outcome"]) for one in found}


def _difference(mine: Verdicts, theirs: Verdicts) -> str:
    """Return in which verdicts of both the versions differ; "" if in none."""
    differing = [key for key in mine.keys() & theirs.keys() if mine[key] != theirs[key]]
    if not differing:
        return ""
    key = min(differing)
    return f"{len(differing)} verdicts differ, {'/'.join(key)} among them: {mine[key]}, was {theirs[key]}"
