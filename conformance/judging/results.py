"""The result of a run: results.json, the summary of its stages, and the exit status that follows.

The models are the format (cli.md); `schema/results.schema.json` is generated from them. A result knows enough to be judged
without the suite that made it: what was selected, what the drivers claim, and which failures they know.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from conformance.suite.check import FOLD, MANDATORY, Outcome
from conformance.suite.measure import measurements
from lab.data.evidence import Evidence
from lab.data.manifest import STAGES
from lab.errors import LabError, UsageError

FILE = "results.json"
SCHEMA: Literal[1] = 1

DRIVER_FAILED, LAB_FAILED, NOTHING_JUDGED, WRONG_USAGE = 1, 2, 3, 4
UNTESTABLE = 125
"""What `git bisect run` takes as "this commit cannot be tested"."""

EVERY, OTHERS = "every", "others"
"""What holds in every stage; and, in the summary, the rules of stages that were not asked for, which hold here too."""
JUDGED = frozenset({Outcome.PASS, Outcome.FAIL, Outcome.WARN})
"""Outcomes that say something about the driver."""


class _Model(BaseModel):
    model_config = ConfigDict(populate_by_name=True)


class Cite(_Model):
    """Where the rule stands."""

    revision: str
    section: str
    title: str

    def __str__(self) -> str:
        return self.title if self.section == "-" else f"{self.revision}, {self.section} “{self.title}”"


class FindingEntry(_Model):
    """One thing that was looked at. ``event`` is its line in the evidence's events.jsonl, or minus its number in the device's
    own record; ``place`` says that in words."""

    ok: bool
    event: int | None
    place: str = ""
    expected: str
    actual: str


class VerdictEntry(_Model):
    """What one check says of one driver on one device in one scenario."""

    driver: str
    device: str
    scenario: str
    stage: str
    check: str
    level: Literal["M", "R", "O"]
    statement: str = ""
    outcome: Outcome
    reason: str = ""
    known: str | None = None
    witnesses: list[str] = []
    cite: Cite
    judged: int = 0
    findings: list[FindingEntry] = []

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.driver, self.device, self.scenario, self.check

    @property
    def violation(self) -> FindingEntry | None:
        """The first finding that was not as it must be."""
        return next((finding for finding in self.findings if not finding.ok), None)


class PointEntry(_Model):
    """A value ``y`` at ``x``; in a histogram ``y`` of them from ``x`` up to ``to`` (exclusive)."""

    x: float
    y: float
    to: float | None = None


class SeriesEntry(_Model):
    """Points that belong together, in the order of x."""

    name: str
    points: list[PointEntry]


class AxisEntry(_Model):
    """What is measured along an axis, and in which unit."""

    name: str
    unit: str


class MeasurementEntry(_Model):
    """Figures for people to look at; they never decide a verdict."""

    id: str
    title: str
    kind: Literal["line", "histogram"]
    x: AxisEntry
    y: AxisEntry
    series: list[SeriesEntry]


class RunEntry(_Model):
    """One scenario that was recorded. ``evidence`` is relative to the folder of results.json."""

    driver: str
    device: str
    scenario: str
    stage: str
    evidence: str
    seconds: float
    again: str = ""  # why the lab failed at the first attempt, where this is the second
    measurements: list[MeasurementEntry] = []

    @property
    def key(self) -> tuple[str, str, str]:
        return self.driver, self.device, self.scenario


def measured(evidence: Evidence) -> list[MeasurementEntry]:
    """What was measured in a recording."""
    return [MeasurementEntry.model_validate(asdict(found)) for found in measurements(evidence)]


class LeftOut(_Model):
    """A scenario that was selected but not recorded, and why."""

    driver: str
    device: str
    scenario: str
    reason: str


class KnownEntry(_Model):
    """A failure that a driver's manifest knows."""

    check: str
    reason: str
    devices: list[str]


class DriverEntry(_Model):
    """What a driver claims. ``asked`` are the stages that must not stay without a verdict."""

    stages: list[str] = []
    asked: list[str] = []
    known: list[KnownEntry] = []


class ShardEntry(_Model):
    """One of several runs that share a campaign. ``split`` is the same for those whose scenarios fit together."""

    number: int
    of: int
    split: str


class Results(_Model):
    """All that a run found."""

    schema_: Literal[1] = Field(default=SCHEMA, alias="schema")
    lab: dict[str, Any] = {}  # version, seed, versions and hashes of the toolchain, host
    drivers: dict[str, DriverEntry] = {}
    narrowed: bool = False  # single checks or scenarios were selected
    strict: bool = False
    unfinished: str = ""  # why the run ended early; "" if it did not
    shards: list[ShardEntry] = []  # which parts of the campaign these are; [] if it was never split
    runs: list[RunEntry] = []
    left_out: list[LeftOut] = []
    verdicts: list[VerdictEntry] = []

    def run_of(self, verdict: VerdictEntry) -> RunEntry | None:
        """The recording that a verdict judges."""
        return next((run for run in self.runs if run.key == verdict.key[:3]), None)

    @property
    def missing_shards(self) -> list[int]:
        """The numbers of the shards that are not in here."""
        have = {shard.number for shard in self.shards}
        return [number for number in range(1, self.shards[0].of + 1) if number not in have] if self.shards else []

    @property
    def whole(self) -> bool:
        """Is this all that the drivers' claims are judged by, or only a selection, a shard, the begin of a run?"""
        return not (self.narrowed or self.unfinished or self.missing_shards)


# -- what a result means --------------------------------------------------------------------------------------------


def rank(verdict: VerdictEntry) -> tuple[int, bool]:
    """The smaller speaks: the fold's order, and among failures one that is not known."""
    return FOLD.index(verdict.outcome), verdict.known is not None


def spoken(verdicts: Iterable[VerdictEntry]) -> dict[tuple[str, str, str], VerdictEntry]:
    """(driver, device, check) → the verdict that speaks for all scenarios."""
    best: dict[tuple[str, str, str], VerdictEntry] = {}
    for verdict in verdicts:
        key = verdict.driver, verdict.device, verdict.check
        if key not in best or rank(verdict) < rank(best[key]):
            best[key] = verdict
    return best


def folded(verdicts: Iterable[VerdictEntry]) -> dict[tuple[str, str], VerdictEntry]:
    """(driver, check) → the verdict that speaks for all scenarios and devices: what one device cannot show, another may."""
    best: dict[tuple[str, str], VerdictEntry] = {}
    for verdict in spoken(verdicts).values():
        key = verdict.driver, verdict.check
        if key not in best or rank(verdict) < rank(best[key]):
            best[key] = verdict
    return best


@dataclass(frozen=True)
class Row:
    """One stage of one driver on one device. ``counts`` are checks by outcome; known failures count apart."""

    driver: str
    device: str
    stage: str
    counts: Mapping[Outcome, int]
    known: int

    @property
    def word(self) -> str:
        """The verdict in a word."""
        if self.counts[Outcome.FAIL]:
            return "fails"
        if self.counts[Outcome.ERROR]:
            return "lab error"
        if self.known:
            return "known failure"
        return "passes" if self.counts[Outcome.PASS] or self.counts[Outcome.WARN] else "nothing judged"


def rows(results: Results) -> list[Row]:
    """The summary, a row a stage: drivers and devices in the order of the run, stages in the order of building a driver."""
    counts: dict[tuple[str, str, str], Counter[Outcome]] = {}
    known: Counter[tuple[str, str, str]] = Counter()
    for verdict in spoken(results.verdicts).values():
        key = verdict.driver, verdict.device, verdict.stage if asked_for(results, verdict) else OTHERS
        counted = counts.setdefault(key, Counter())
        if verdict.known is None:
            counted[verdict.outcome] += 1
        else:
            known[key] += 1
    machines = list(dict.fromkeys((v.driver, v.device) for v in results.verdicts))
    order = sorted(counts, key=lambda key: (machines.index(key[:2]), stage_index(key[2])))
    return [Row(*key, counts[key], known[key]) for key in order]


def stage_index(stage: str) -> int:
    """Its place among the steps of building a driver; what holds in every stage comes last."""
    return (*STAGES, OTHERS, EVERY).index(stage)


def asked_for(results: Results, verdict: VerdictEntry) -> bool:
    """Is the verdict about a stage that was asked for, or about all of them?"""
    return verdict.stage == EVERY or verdict.stage in results.drivers[verdict.driver].asked


def unjudged(results: Results) -> list[tuple[str, str]]:
    """(driver, stage) that was asked for, and about which nothing was found out. Nothing is said of a shard alone."""
    if results.missing_shards:
        return []
    judged = {(v.driver, v.stage) for v in results.verdicts if v.outcome in JUDGED}
    asked = ((name, stage) for name, driver in results.drivers.items() for stage in driver.asked)
    return [pair for pair in asked if pair not in judged]


def stale(results: Results) -> list[tuple[str, str, KnownEntry]]:
    """(driver, device, entry): known failures that fail no more. Nothing is said of a run that judged only a selection."""
    if not results.whole:
        return []
    best = spoken(results.verdicts)
    return [
        (name, device, entry)
        for name, driver in results.drivers.items()
        if set(driver.stages) <= set(driver.asked)
        for entry in driver.known
        for device in entry.devices
        if (verdict := best.get((name, device, entry.check))) is not None
        and verdict.outcome is Outcome.PASS
        and asked_for(results, verdict)
    ]


def disqualified(results: Results, driver: str) -> list[VerdictEntry]:
    """The mandatory checks that did not pass, of the stages that were asked for: only without any the driver qualifies.

    What needs a look into the driver's own memory is not held against drivers that run where nobody can look.
    """
    return [
        verdict
        for verdict in folded(v for v in results.verdicts if v.driver == driver).values()
        if verdict.level == MANDATORY
        and (asked_for(results, verdict) or verdict.outcome is Outcome.FAIL)
        and verdict.outcome is not Outcome.PASS
        and not (verdict.outcome is Outcome.UNSUPPORTED and "memory" in verdict.witnesses)
    ]


def lab_failures(results: Results) -> dict[str, list[str]]:
    """Reason → scenarios (driver/device/scenario) in which the lab failed so: for all checks of a scenario it is the same."""
    found: dict[str, dict[str, None]] = {}
    for verdict in results.verdicts:
        if verdict.outcome is Outcome.ERROR:
            found.setdefault(verdict.reason, {})["/".join(verdict.key[:3])] = None
    return {reason: list(scenarios) for reason, scenarios in found.items()}


def exit_status(results: Results, *, bisect: bool = False) -> int:
    """0 all good · 1 a driver failed · 2 the lab failed, which outranks 1 · 3 an asked stage with nothing judged."""
    status = 0
    if results.unfinished or any(v.outcome is Outcome.ERROR for v in results.verdicts):
        status = LAB_FAILED
    elif any(fails(results, verdict) for verdict in folded(results.verdicts).values()):
        status = DRIVER_FAILED
    elif unjudged(results):
        status = NOTHING_JUDGED
    return UNTESTABLE if bisect and status in (LAB_FAILED, NOTHING_JUDGED) else status


def fails(results: Results, verdict: VerdictEntry) -> bool:
    """Does this verdict, if it speaks, fail the run?"""
    if verdict.outcome is Outcome.FAIL:
        return verdict.known is None
    unclear = verdict.outcome is Outcome.INCONCLUSIVE and verdict.level == MANDATORY and asked_for(results, verdict)
    return results.strict and (unclear or verdict.outcome is Outcome.WARN)


# -- files ----------------------------------------------------------------------------------------------------------


def schema() -> dict[str, Any]:
    """The JSON schema of results.json."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Results.model_json_schema(by_alias=True, mode="serialization"),
    }


def write(results: Results, folder: Path) -> Path:
    """Writes results.json, whole or not at all."""
    path = folder / FILE
    partial = path.with_suffix(".partial")
    try:
        partial.write_text(results.model_dump_json(by_alias=True, indent=1) + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise LabError(
            f"The results cannot be written to {path}: {error.strerror}.",
            remedy="free some space, or choose another folder with --out",
        ) from error
    return path


def read(path: Path) -> Results:
    """The results in a file, or in a folder that a run wrote; UsageError if there are none."""
    file = path / FILE if path.is_dir() else path
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(data, dict) and data.get("schema") != SCHEMA:
            raise UsageError(f"{file}: results of schema {data.get('schema')!r}; this lab reads {SCHEMA}.")
        return Results.model_validate(data)
    except OSError as error:
        raise UsageError(
            f"There are no results at {file}: {error.strerror}.", remedy="name the folder that nvme-lab run wrote"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"{file} holds no results: {where}: {first['msg']}.") from error
    except ValueError as error:
        raise UsageError(f"{file} is not JSON: {error}.") from error


def merge(parts: Sequence[tuple[Path, Results]], folder: Path) -> Results:
    """Several results (shards) as one, its evidence relative to ``folder``.

    No verdict is lost and none counts twice: where two judge the same, the one that speaks by the fold's order is kept.
    UsageError for shards that do not belong together.
    """
    if not parts:
        raise ValueError("nothing to merge")
    shards = _shards(parts)
    runs: dict[tuple[str, str, str], RunEntry] = {}
    verdicts: dict[tuple[str, str, str, str], VerdictEntry] = {}
    left_out: dict[tuple[str, str, str], LeftOut] = {}
    drivers: dict[str, DriverEntry] = {}
    for base, part in parts:
        moved = {run.key: run.model_copy(update={"evidence": _relative(base / run.evidence, folder)}) for run in part.runs}
        for verdict in part.verdicts:
            other = verdicts.get(verdict.key)
            if other is None or rank(verdict) < rank(other):
                verdicts[verdict.key] = verdict
                if (key := verdict.key[:3]) in moved:
                    runs[key] = moved[key]  # the evidence belongs to the verdict that speaks
        for key, run in moved.items():
            runs.setdefault(key, run)
        left_out |= {(entry.driver, entry.device, entry.scenario): entry for entry in part.left_out}
        for name, driver in part.drivers.items():
            drivers[name] = _joined(drivers[name], driver) if name in drivers else driver
    results = [part for _, part in parts]
    lab = results[0].lab if len(results) == 1 else {**results[0].lab, "merged": [part.lab for part in results]}
    return Results(
        lab=lab,
        drivers=drivers,
        narrowed=any(part.narrowed for part in results),
        strict=any(part.strict for part in results),
        unfinished="; ".join(dict.fromkeys(part.unfinished for part in results if part.unfinished)),
        shards=shards,
        runs=list(runs.values()),
        left_out=[entry for key, entry in left_out.items() if key not in runs],
        verdicts=list(verdicts.values()),
    )


def _shards(parts: Sequence[tuple[Path, Results]]) -> list[ShardEntry]:
    """All shards among the parts, each once."""
    found: dict[int, ShardEntry] = {}
    for path, part in parts:
        for shard in part.shards:
            first = next(iter(found.values()), shard)
            if (shard.of, shard.split) != (first.of, first.split):
                raise UsageError(
                    f"{path}: shard {shard.number}/{shard.of} is of another split than shard {first.number}/{first.of}.",
                    remedy="give every shard the same selection, seed, --times file, version of the lab and QEMU",
                )
            found[shard.number] = shard
    if found and not all(part.shards for _, part in parts):
        raise UsageError("Shards and whole results cannot be merged.", remedy="name only the shards of one campaign")
    return [found[number] for number in sorted(found)]


def _joined(one: DriverEntry, other: DriverEntry) -> DriverEntry:
    known = {(entry.check, entry.reason): entry for entry in (*one.known, *other.known)}
    return DriverEntry(
        stages=_union(one.stages, other.stages), asked=_union(one.asked, other.asked), known=list(known.values())
    )


def _union(*lists: Iterable[str]) -> list[str]:
    return sorted({name for names in lists for name in names}, key=stage_index)


def _relative(path: Path, folder: Path) -> str:
    return os.path.relpath(path.absolute(), folder.absolute())


def evidence_of(results: Results, verdict: VerdictEntry) -> str:
    """Where the verdict's evidence is, with the place of the finding that speaks: ``FOLDER/events.jsonl:LINE``."""
    run = results.run_of(verdict)
    if run is None:
        return ""
    finding = verdict.violation
    return f"{run.evidence}/{finding.place}" if finding and finding.place else run.evidence


def speaking(results: Results, *outcomes: Outcome) -> Iterator[tuple[VerdictEntry, int]]:
    """The verdicts that speak for a driver and end so, by stage, with the number of recordings that say the same."""
    same = Counter((v.driver, v.check, v.outcome, v.known) for v in results.verdicts)
    for verdict in sorted(folded(results.verdicts).values(), key=lambda v: stage_index(v.stage)):
        if verdict.outcome in outcomes:
            yield verdict, same[verdict.driver, verdict.check, verdict.outcome, verdict.known]
