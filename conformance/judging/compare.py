"""Two results, and what has changed between them: pure, verdict by verdict, grouped by check for people.

A *regression* is a verdict that is worse than it was and that the manifest does not know. What was judged once and is no
longer is *lost*: it is neither better nor worse, and it is not a success.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from conformance.judging.coverage import lost_functions
from conformance.judging.models import Results, VerdictEntry
from conformance.judging.summary import evidence_of, stage_index
from conformance.suite.check import Outcome
from lab.data import versions
from lab.errors import UsageError

KNOWN = "known"
"""The word for a failure that the manifest knows."""
WORSE = {str(Outcome.PASS): 0, str(Outcome.WARN): 1, KNOWN: 1, str(Outcome.FAIL): 2}
"""How bad an outcome is; those that say nothing about the driver are not comparable."""
ABSENT = "-"
"""The word for a verdict that a result does not hold."""
Kind = Literal["regressions", "fixes", "excused", "new", "lost"]
HEADINGS: dict[Kind, str] = {
    "fixes": "Fixes",
    "new": "New",
    "excused": "Failures that the manifest knows now",
    "lost": "Lost: judged before, and not now",
    "regressions": "Regressions",
}
"""What matters most stands last."""
SLOWER_RATIO, SLOWER_SECONDS = 1.5, 1.0
"""A scenario is slower if it takes more than this many times as long, and more than this many seconds longer."""


@dataclass(frozen=True)
class Change:
    """One check of one driver on one device that changed in the same way in these scenarios.

    ``old`` and ``new`` are outcomes, ``known`` or ``-``. The rest is of the first scenario, and what speaks now: why, or what
    was expected and found, and where in the evidence of the new result.
    """

    driver: str
    device: str
    check: str
    level: str
    old: str
    new: str
    scenarios: tuple[str, ...]
    reason: str = ""
    expected: str = ""
    actual: str = ""
    evidence: str = ""


@dataclass(frozen=True)
class Slower:
    """A scenario that takes longer; ``old`` and ``new`` in seconds."""

    driver: str
    device: str
    scenario: str
    old: float
    new: float


@dataclass(frozen=True)
class Unreached:
    """Functions of an object that were entered before and no longer are; see docs/coverage-of-drivers.md."""

    driver: str
    device: str
    object: str
    functions: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """What changed. ``compared`` counts the verdicts that both results hold and that say something in both."""

    compared: int
    regressions: list[Change] = field(default_factory=list)
    fixes: list[Change] = field(default_factory=list)
    excused: list[Change] = field(default_factory=list)  # failures that the new manifest knows, and the old result did not
    new: list[Change] = field(default_factory=list)  # judged now, and not before
    lost: list[Change] = field(default_factory=list)  # judged before, and not now
    slower: list[Slower] = field(default_factory=list)
    unreached: list[Unreached] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as `nvme-lab compare --json` prints it."""
        return asdict(self)


def baseline(old: Results, new: Results, driver: str = "") -> tuple[Results, dict[str, str]]:
    """Return ``old`` with its drivers called as in ``new``, and which one stands for which: driver of ``new`` → of ``old``.

    A driver that both have under one name stands for itself. Else the newest version of the same driver in ``old`` does that is
    not newer than the one in ``new``. ``driver`` names it, without a version, where it is called otherwise. UsageError if
    there is no version of that.
    """
    chosen: dict[str, str] = {}
    for name, entry in new.drivers.items():
        base, version = driver or entry.base or versions.split(name)[0], entry.release or versions.split(name)[1]
        if name in old.drivers and not driver:
            chosen[name] = name
            continue
        releases = [
            (versions.order(other.release), older)
            for older, other in old.drivers.items()
            if base in (other.base, older)
            and (driver or not version or versions.order(other.release) <= versions.order(version))
        ]
        if releases:
            chosen[name] = max(releases)[1]
        elif driver:
            raise UsageError(f"The baseline has no version of {driver!r}.", remedy="name a driver of it, without a version")
    return _renamed(old, chosen), {name: older for name, older in chosen.items() if name != older}


def _renamed(old: Results, chosen: dict[str, str]) -> Results:
    """Return results with drivers under other names; those that stand for none are as they were."""
    if all(name == older for name, older in chosen.items()):
        return old
    update: dict[str, Any] = {"drivers": {name: old.drivers[older] for name, older in chosen.items()}}
    for key in ("verdicts", "runs", "coverage"):
        entries = getattr(old, key)
        update[key] = [
            entry.model_copy(update={"driver": name})
            for name, older in chosen.items()
            for entry in entries
            if entry.driver == older
        ]
    return old.model_copy(update=update)


def compare(old: Results, new: Results) -> Comparison:
    """Return what changed from ``old`` to ``new``; what a cover leaves out on purpose is not lost."""
    if new.cover:
        old = _recorded_in(new, old)
    before = {verdict.key: verdict for verdict in old.verdicts}
    after = {verdict.key: verdict for verdict in new.verdicts}
    pairs = [_Pair(before.get(key), after.get(key)) for key in dict.fromkeys([*before, *after])]
    found: dict[Kind, list[_Pair]] = {kind: [] for kind in get_args(Kind)}
    for pair in pairs:
        if kind := _kind(pair.was, pair.now):
            found[kind].append(pair)
    return Comparison(
        compared=sum(pair.was in WORSE and pair.now in WORSE for pair in pairs),
        slower=list(_slower(old, new)),
        unreached=[Unreached(*key, tuple(names)) for key, names in lost_functions(old.coverage, new.coverage).items()],
        **{kind: list(_changes(new, members)) for kind, members in found.items()},
    )


def _recorded_in(new: Results, old: Results) -> Results:
    """Return ``old`` with the scenarios that ``new`` has recorded only, and without coverage, which is that of all."""
    recorded = {run.key for run in new.runs}
    kept = [verdict for verdict in old.verdicts if verdict.key[:3] in recorded]
    return old.model_copy(update={"verdicts": kept, "coverage": []})


@dataclass(frozen=True)
class _Pair:
    """The verdicts of both results about the same; at least one is there."""

    old: VerdictEntry | None
    new: VerdictEntry | None

    @property
    def some(self) -> VerdictEntry:
        verdict = self.new or self.old
        assert verdict is not None
        return verdict

    @property
    def was(self) -> str:
        return _word(self.old)

    @property
    def now(self) -> str:
        return _word(self.new)


def _word(verdict: VerdictEntry | None) -> str:
    if verdict is None:
        return ABSENT
    return KNOWN if verdict.known is not None else str(verdict.outcome)


def _kind(was: str, now: str) -> Kind | None:
    """Return the kind of a change from one word to another; None for no change."""
    if now not in WORSE:
        return "lost" if was in WORSE else None
    if was == ABSENT:  # the check is new: it proves no change of the driver
        return "new"
    if now == KNOWN:
        return None if was == KNOWN else "excused"
    if was not in WORSE:  # nothing was known of it before
        return "regressions" if now == Outcome.FAIL else "new"
    if WORSE[now] == WORSE[was]:
        return None
    return "regressions" if WORSE[now] > WORSE[was] else "fixes"


def _changes(new: Results, pairs: Iterable[_Pair]) -> Iterator[Change]:
    """Yield one change for all pairs of a check that changed alike, stages in the order of building a driver."""
    groups: dict[tuple[str, ...], list[_Pair]] = {}
    for pair in sorted(pairs, key=lambda pair: (pair.some.driver, pair.some.device, stage_index(pair.some.stage))):
        groups.setdefault((pair.some.driver, pair.some.device, pair.some.check, pair.was, pair.now), []).append(pair)
    for (driver, device, check, was, now), members in groups.items():
        verdict = members[0].new
        violation = verdict.violation if verdict else None
        yield Change(
            driver=driver,
            device=device,
            check=check,
            level=members[0].some.level,
            old=was,
            new=now,
            scenarios=tuple(pair.some.scenario for pair in members),
            reason=(verdict.known or verdict.reason) if verdict else "",
            expected=violation.expected if violation else "",
            actual=violation.actual if violation else "",
            evidence=evidence_of(new, verdict) if verdict else "",
        )


def _slower(old: Results, new: Results) -> Iterator[Slower]:
    before = {run.key: run.seconds for run in old.runs}
    for run in new.runs:
        was = before.get(run.key)
        if was is not None and run.seconds > was * SLOWER_RATIO and run.seconds - was > SLOWER_SECONDS:
            yield Slower(*run.key, was, run.seconds)
