"""A driver's history: what each version did with each check, and between which versions that changed. Pure.

One scenario is compared with the same scenario of the next version that says anything about it. A version that does not come
so far says nothing: what is bad in the next one is *uncovered*, not introduced, and what was bad before is *hidden*, not fixed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import Any

from conformance.judging.models import DriverEntry, KnownEntry, Results, VerdictEntry
from conformance.judging.summary import SEVERITY, stage_index
from conformance.judging.summary import stale as stale_entries
from conformance.suite.check import Outcome
from lab.data import versions
from lab.data.manifest import is_among
from lab.errors import UsageError, nearest

BAD = frozenset({Outcome.FAIL, Outcome.WARN})
GOOD = frozenset({Outcome.PASS})


class Kind(StrEnum):
    """What changed from one version to a later one, in the order in which it is shown."""

    INTRODUCED = "introduced"
    UNCOVERED = "uncovered"
    FLAKY = "flaky"
    HIDDEN = "hidden"
    FIXED = "fixed"


ALWAYS, NEVER = "always", "never"
"""Words for a check that is violated in all versions that say anything, and in none."""


@dataclass(frozen=True, order=True)
class Release:
    """One version of a driver; ``key`` sorts it among the others."""

    driver: str
    key: tuple[Any, ...] = field(repr=False)
    version: str
    package: str = field(default="", compare=False)
    builds: tuple[str, ...] = field(default=(), compare=False)
    """What the driver says of itself: more than one where the results are of different builds."""


@dataclass(frozen=True)
class Side:
    """What a version did in one scenario, and where that is to be seen."""

    version: str
    outcome: str
    evidence: str = ""
    """The folder of its evidence; "" where it is not known."""
    event: int | None = None
    """Of the first finding that violates the rule (`conformance.judging.models.FindingEntry.event`)."""
    place: str = ""
    reason: str = ""
    expected: str = ""
    actual: str = ""


@dataclass(frozen=True)
class Transition:
    """One check that changed between two versions, in these scenarios (DEVICE/SCENARIO) alike. Both sides are of the first."""

    driver: str
    check: str
    kind: Kind
    before: Side
    after: Side
    scenarios: tuple[str, ...]

    @property
    def bad(self) -> Side:
        """Return the side that violates the rule."""
        return self.before if self.kind in (Kind.FIXED, Kind.HIDDEN) else self.after


@dataclass(frozen=True)
class Cell:
    """One check in one version: the worst outcome, and in how many of the scenarios that say anything the rule was violated."""

    outcome: str = ""
    bad: int = 0
    judged: int = 0


@dataclass(frozen=True)
class Row:
    """One check of a driver in all versions."""

    driver: str
    check: str
    level: str
    cells: Mapping[str, Cell]
    words: tuple[str, ...]
    """Kinds of its transitions; or `ALWAYS` or `NEVER`."""


@dataclass(frozen=True)
class KnownRange:
    """A known failure: in which versions its manifest expects it, where it was seen, and where it is stale."""

    driver: str
    check: str
    reason: str
    versions: str
    first: str = ""
    last: str = ""
    stale: tuple[str, ...] = ()


@dataclass(frozen=True)
class Point:
    """One result of a version, for the trend: what share of the judged checks passed, of the code was executed, and seconds."""

    version: str
    result: str
    passed: int
    judged: int
    seconds: float
    covered: float | None = None

    @property
    def rate(self) -> float:
        """Return the share of the judged checks that passed."""
        return self.passed / self.judged if self.judged else 0.0


@dataclass(frozen=True)
class History:
    """What was found of one or several drivers."""

    releases: tuple[Release, ...]
    rows: tuple[Row, ...]
    transitions: tuple[Transition, ...]
    known: tuple[KnownRange, ...]
    trend: Mapping[str, tuple[Point, ...]]

    def releases_of(self, driver: str) -> list[Release]:
        """Return the versions of a driver, the oldest first."""
        return [release for release in self.releases if release.driver == driver]

    @property
    def drivers(self) -> list[str]:
        """Return the names of the drivers, without versions."""
        return list(dict.fromkeys(release.driver for release in self.releases))

    def to_json(self) -> dict[str, Any]:
        """Return the history as `nvme-lab history --json` prints it."""
        data = asdict(self)
        for release in data["releases"]:
            del release["key"]
        return data


@dataclass(frozen=True)
class Input:
    """One result: its name, and the folder that its evidence is relative to."""

    name: str
    folder: Path
    results: Results


@dataclass(frozen=True)
class _Seen:
    """One verdict of a version, with the folder of its evidence."""

    verdict: VerdictEntry
    evidence: str


_Place = tuple[str, str, str]
"""A device, a scenario and a check."""


def history(inputs: Sequence[Input], drivers: Sequence[str] = (), checks: Sequence[str] = ()) -> History:
    """Return the history of the drivers in these results. UsageError where nothing has two versions."""
    seen: dict[Release, dict[_Place, list[_Seen]]] = {}
    releases = _releases(inputs)
    named = {release.driver for release in releases.values()}
    for name in drivers:
        if name not in named:
            raise UsageError(f"No result is of the driver {name!r}{nearest(name, named)}")
    for one in inputs:
        paths = {run.key: str(one.folder / run.evidence) for run in one.results.runs}
        for verdict in one.results.verdicts:
            release = releases[one.name, verdict.driver]
            if (drivers and release.driver not in drivers) or (checks and verdict.check not in checks):
                continue
            place = verdict.device, verdict.scenario, verdict.check
            evidence = paths.get(verdict.key[:3], "")
            seen.setdefault(release, {}).setdefault(place, []).append(_Seen(verdict, evidence))
    ordered = sorted(seen)
    if not ordered:
        judged = {verdict.check for one in inputs for verdict in one.results.verdicts}
        unknown = [f"{check}{nearest(check, judged)}" for check in checks if check not in judged]
        why = f": {'; '.join(unknown)}" if unknown else "."
        raise UsageError(f"None of the results judges what was selected{why}", remedy="select other checks or drivers, or none")
    transitions: list[Transition] = []
    rows: list[Row] = []
    for _, group in groupby(ordered, key=lambda release: release.driver):
        own = list(group)
        found = list(_transitions(own, seen))
        transitions += found
        rows += _rows(own, seen, found)
    return History(
        releases=tuple(ordered),
        rows=tuple(rows),
        transitions=tuple(transitions),
        known=tuple(_known(inputs, releases, ordered, seen, checks)),
        trend=_trend(inputs, releases, ordered),
    )


def versioned(results: Results) -> list[str]:
    """Return the drivers of which one result holds several versions."""
    found: dict[str, set[str]] = {}
    for name, entry in results.drivers.items():
        driver, version = _named(name, entry)
        if version:
            found.setdefault(driver, set()).add(version)
    return [driver for driver, known in found.items() if len(known) > 1]


# -- versions -------------------------------------------------------------------------------------------------------


def _releases(inputs: Sequence[Input]) -> dict[tuple[str, str], Release]:
    """Return (result, driver of the result) → the version of which driver that is."""
    merged: dict[tuple[str, str], Release] = {}
    found: dict[tuple[str, str], Release] = {}
    for number, one in enumerate(inputs):
        for name, entry in one.results.drivers.items():
            driver, version = _named(name, entry)
            builds = {run.build for run in one.results.runs if run.driver == name and run.build}
            key = (1, *versions.order(version)) if version else (0, number)
            known = merged.get((driver, version or one.name))
            release = Release(
                driver=driver,
                key=key,
                version=version or one.name,
                package=entry.package or (known.package if known else ""),
                builds=tuple(sorted(builds | set(known.builds if known else ()))),
            )
            merged[driver, release.version] = release
            found[one.name, name] = release
    return {place: merged[release.driver, release.version] for place, release in found.items()}


def _named(name: str, entry: DriverEntry) -> tuple[str, str]:
    """Return a driver's name and its version; results of an older lab have both in the name only."""
    driver, version = versions.split(name)
    return entry.base or driver, entry.release or version


# -- what changed ---------------------------------------------------------------------------------------------------


def _state(entries: Sequence[_Seen]) -> str:
    """Return the outcome of one check in one scenario over all results of a version; FLAKY where they contradict each other."""
    outcomes = {entry.verdict.outcome for entry in entries}
    if Outcome.FLAKY in outcomes or (outcomes & BAD and outcomes & GOOD):
        return str(Outcome.FLAKY)
    return (
        str(min(outcomes, key=SEVERITY.index))
        if not outcomes & (BAD | GOOD)
        else str(min(outcomes & (BAD | GOOD), key=SEVERITY.index))
    )


def _transitions(releases: Sequence[Release], seen: Mapping[Release, Mapping[_Place, list[_Seen]]]) -> Iterator[Transition]:
    """Yield the transitions of one driver, by check and in the order of versions."""
    places = dict.fromkeys(place for release in releases for place in seen[release])
    grouped: dict[tuple[Any, ...], list[tuple[_Place, Side, Side]]] = {}
    for place in places:
        for kind, before, after in _changes(place, releases, seen):
            key = place[2], kind, before.version, after.version, before.outcome, after.outcome
            grouped.setdefault(key, []).append((place, before, after))
    order = list(Kind)
    for key, members in sorted(
        grouped.items(), key=lambda item: (stage_index(item[0][0].partition("/")[0]), item[0][0], order.index(item[0][1]))
    ):
        check, kind = key[0], key[1]
        members.sort(key=lambda member: (not member[1].evidence, not member[2].evidence))
        yield Transition(
            driver=releases[0].driver,
            check=check,
            kind=kind,
            before=members[0][1],
            after=members[0][2],
            scenarios=tuple(f"{device}/{scenario}" for (device, scenario, _), _, _ in members),
        )


def _changes(
    place: _Place, releases: Sequence[Release], seen: Mapping[Release, Mapping[_Place, list[_Seen]]]
) -> Iterator[tuple[Kind, Side, Side]]:
    """Yield how one check in one scenario changed from version to version."""
    sides = [_side(release, seen[release][place]) for release in releases if place in seen[release]]
    last: Side | None = None  # the last that says something
    for at, side in enumerate(sides):
        if side.outcome == Outcome.FLAKY:
            yield Kind.FLAKY, sides[at - 1] if at else side, side
            last = None
            continue
        if side.outcome in BAD:
            if last is None and at and sides[at - 1].outcome not in (*BAD, Outcome.FLAKY):
                yield Kind.UNCOVERED, sides[at - 1], side
            elif last is not None and last.outcome in GOOD:
                yield Kind.INTRODUCED, last, side
            last = side
        elif side.outcome in GOOD:
            if last is not None and last.outcome in BAD:
                yield Kind.FIXED, last, side
            last = side
        elif last is not None and last.outcome in BAD and not any(later.outcome in BAD | GOOD for later in sides[at:]):
            yield Kind.HIDDEN, last, side
            last = None


def _side(release: Release, entries: Sequence[_Seen]) -> Side:
    outcome = _state(entries)
    worst = min(entries, key=lambda entry: SEVERITY.index(entry.verdict.outcome))
    matching = next((entry for entry in entries if entry.verdict.outcome == outcome), worst)
    violation = matching.verdict.violation
    return Side(
        version=release.version,
        outcome=outcome,
        evidence=matching.evidence,
        event=violation.event if violation else None,
        place=violation.place if violation else "",
        reason=matching.verdict.reason,
        expected=violation.expected if violation else "",
        actual=violation.actual if violation else "",
    )


def _rows(
    releases: Sequence[Release], seen: Mapping[Release, Mapping[_Place, list[_Seen]]], transitions: Sequence[Transition]
) -> Iterator[Row]:
    kinds: dict[str, set[Kind]] = {}
    for transition in transitions:
        kinds.setdefault(transition.check, set()).add(transition.kind)
    by_check: dict[str, dict[str, list[str]]] = {}
    level: dict[str, str] = {}
    for release in releases:
        for (_, _, check), entries in seen[release].items():
            by_check.setdefault(check, {}).setdefault(release.version, []).append(_state(entries))
            level[check] = entries[0].verdict.level
    for check in sorted(by_check, key=lambda check: (stage_index(check.partition("/")[0]), check)):
        cells = {version: _cell(states) for version, states in by_check[check].items()}
        bad = any(cell.bad for cell in cells.values())
        words = tuple(str(kind) for kind in Kind if kind in kinds.get(check, ())) or (ALWAYS if bad else NEVER,)
        yield Row(releases[0].driver, check, level[check], cells, words)


def _cell(states: Sequence[str]) -> Cell:
    telling = [state for state in states if state in (*BAD, *GOOD, Outcome.FLAKY)]
    outcome = min(telling or states, key=lambda state: SEVERITY.index(Outcome(state)))
    return Cell(outcome, sum(state in (*BAD, Outcome.FLAKY) for state in telling), len(telling))


# -- known failures and trends --------------------------------------------------------------------------------------


def _known(
    inputs: Sequence[Input],
    releases: Mapping[tuple[str, str], Release],
    ordered: Sequence[Release],
    seen: Mapping[Release, Mapping[_Place, list[_Seen]]],
    checks: Sequence[str],
) -> Iterator[KnownRange]:
    """Yield each known failure of the manifests, with the versions in which it was seen, and in which it is stale.

    A few scenarios make no entry stale: the failure may be in others (`conformance.judging.summary.stale`).
    """
    claimed: dict[tuple[str, ...], tuple[KnownEntry, dict[str, Release]]] = {}
    for one in inputs:
        passing = {(name, entry.check, *entry.scenarios) for name, _, entry in stale_entries(one.results)}
        for name, entry in one.results.drivers.items():
            release = releases[one.name, name]
            for known in entry.known if release in seen else ():
                if not checks or known.check in checks:
                    key = release.driver, known.check, known.versions, *known.scenarios
                    where = claimed.setdefault(key, (known, {}))[1]
                    if (name, known.check, *known.scenarios) in passing:
                        where[release.version] = release
    for (driver, check, *_), (known, where) in claimed.items():
        own = [release for release in ordered if release.driver == driver]
        states = {release.version: list(_states(seen[release], known)) for release in own}
        failing = [version for version, found in states.items() if Outcome.FAIL in found]
        stale = [
            version for version in where
            if Outcome.PASS in states[version] and not {Outcome.FAIL, Outcome.FLAKY} & set(states[version])
        ]  # fmt: skip
        first, last = (failing[0], failing[-1]) if failing else ("", "")
        yield KnownRange(driver, check, known.reason, known.versions, first, last, tuple(stale))


def _states(seen: Mapping[_Place, list[_Seen]], known: KnownEntry) -> Iterator[str]:
    for (device, scenario, check), entries in seen.items():
        if check == known.check and device in known.devices and is_among(scenario, known.scenarios):
            yield _state(entries)


def _trend(
    inputs: Sequence[Input], releases: Mapping[tuple[str, str], Release], ordered: Sequence[Release]
) -> dict[str, tuple[Point, ...]]:
    """Return each driver's results in the order of versions, and of time within a version."""
    found: dict[str, list[tuple[Any, Point]]] = {}
    for number, one in enumerate(inputs):
        for name in one.results.drivers:
            release = releases[one.name, name]
            if release not in ordered:
                continue
            own = [verdict for verdict in one.results.verdicts if verdict.driver == name]
            told = [verdict for verdict in own if verdict.outcome in (*BAD, *GOOD, Outcome.FLAKY)]
            covered = [entry for entry in one.results.coverage if entry.driver == name and entry.device == "all"]
            total = sum(entry.instructions for entry in covered)
            point = Point(
                version=release.version,
                result=one.name,
                passed=sum(verdict.outcome in GOOD for verdict in told),
                judged=len(told),
                seconds=sum(run.seconds for run in one.results.runs if run.driver == name),
                covered=sum(entry.executed for entry in covered) / total if total else None,
            )
            started = str(one.results.lab.get("started", ""))
            found.setdefault(release.driver, []).append(((release.key, started, number), point))
    return {driver: tuple(point for _, point in sorted(points, key=lambda one: one[0])) for driver, points in found.items()}
