"""What a result means: the worst verdict of each check, the table of stages, the exit status."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from conformance.judging.models import KnownEntry, Results, VerdictEntry
from conformance.suite.check import EVERY, MANDATORY, Outcome
from lab.data.manifest import PARTS, is_among

DRIVER_FAILED, LAB_FAILED, NOTHING_JUDGED = 1, 2, 3
UNTESTABLE = 125
"""What `git bisect run` takes as "this commit cannot be tested"."""

OTHERS = "others"
"""In the summary: rules of stages that were not selected."""
JUDGED = frozenset({Outcome.PASS, Outcome.FAIL, Outcome.FLAKY, Outcome.WARN})
"""Outcomes that say something about the driver."""
STRICT = "--strict: "
"""How a reason begins that fails a run only by that option."""
SEVERITY = tuple(Outcome)
"""The worst outcome first."""
_RANKS = {outcome: rank for rank, outcome in enumerate(SEVERITY)}

Key = TypeVar("Key", bound=tuple[str, ...])


def severity(verdict: VerdictEntry) -> tuple[int, bool]:
    """Return a sort key, the worst verdict first; what is known, or about what was never used, comes behind its like."""
    return _RANKS[verdict.outcome], verdict.known is not None or verdict.unused


def worst_per_device(verdicts: Iterable[VerdictEntry]) -> dict[tuple[str, str, str], VerdictEntry]:
    """Return (driver, device, check) → the worst verdict over all scenarios."""
    return _worst(((verdict.driver, verdict.device, verdict.check), verdict) for verdict in verdicts)


def worst_overall(verdicts: Iterable[VerdictEntry]) -> dict[tuple[str, str], VerdictEntry]:
    """Return (driver, check) → the worst verdict over all scenarios and devices."""
    return _worst(((verdict.driver, verdict.check), verdict) for verdict in worst_per_device(verdicts).values())


def _worst(verdicts: Iterable[tuple[Key, VerdictEntry]]) -> dict[Key, VerdictEntry]:
    """Return key → the first of its worst verdicts."""
    ranks: dict[Key, tuple[int, bool]] = {}
    worst: dict[Key, VerdictEntry] = {}
    for key, verdict in verdicts:
        rank = severity(verdict)
        if key not in worst or rank < ranks[key]:
            ranks[key], worst[key] = rank, verdict
    return worst


@dataclass(frozen=True)
class SummaryRow:
    """One stage of one driver on one device. ``counts`` are checks by outcome; known failures count apart."""

    driver: str
    device: str
    stage: str
    counts: Mapping[Outcome, int]
    known: int
    fails_strict: bool = False
    """A check in it fails the run by --strict."""
    partial: bool = False
    """The run has ended early: what is not there may fail yet."""

    @property
    def word(self) -> str:
        """Return the verdict in a word."""
        if self.counts[Outcome.FAIL]:
            return "fails"
        if self.counts[Outcome.ERROR]:
            return "lab error"
        if self.fails_strict:
            return "fails --strict"
        if self.known:
            return "known failure"
        if self.counts[Outcome.FLAKY]:
            return "flaky"
        if not self.counts[Outcome.PASS] and not self.counts[Outcome.WARN]:
            return "nothing judged"
        return "partial" if self.partial else "passes"


def rows(results: Results) -> list[SummaryRow]:
    """Return the summary, one row per stage: drivers and devices as in the run, stages in the order of building a driver."""
    counts: dict[tuple[str, str, str], Counter[Outcome]] = {}
    known: Counter[tuple[str, str, str]] = Counter()
    for verdict in worst_per_device(results.verdicts).values():
        key = verdict.driver, verdict.device, verdict.stage if asked_for(results, verdict) else OTHERS
        counted = counts.setdefault(key, Counter())
        if verdict.known is None:
            counted[verdict.outcome] += 1
        else:
            known[key] += 1
    machines = list(dict.fromkeys((v.driver, v.device) for v in results.verdicts))
    order = sorted(counts, key=lambda key: (machines.index(key[:2]), stage_index(key[2])))
    strict = {(v.driver, v.device, v.stage if asked_for(results, v) else OTHERS) for v, _ in gate_failures(results)}
    return [SummaryRow(*key, counts[key], known[key], key in strict, bool(results.unfinished)) for key in order]


def stage_index(stage: str) -> int:
    """Return the position of a stage among the steps of building a driver; profiles follow, rules of every stage come last.

    The stage of a scenario that is none of the suite's stands with the others.
    """
    order = (*PARTS, OTHERS, EVERY)
    return order.index(stage if stage in order else OTHERS)


def asked_for(results: Results, verdict: VerdictEntry) -> bool:
    """Return whether the verdict belongs to a selected stage or to all stages."""
    return verdict.stage == EVERY or verdict.stage in results.drivers[verdict.driver].asked


def unjudged(results: Results) -> list[tuple[str, str]]:
    """Return each selected (driver, stage) without any verdict about the driver; none for a shard alone."""
    if results.missing_shards:
        return []
    judged = {(v.driver, v.stage) for v in results.verdicts if v.outcome in JUDGED}
    asked = ((name, stage) for name, driver in results.drivers.items() for stage in driver.asked)
    return [pair for pair in asked if pair not in judged]


def stale(results: Results) -> list[tuple[str, str, KnownEntry]]:
    """Return (driver, device, entry) of known failures that pass now; none for a partial run.

    A check that only follows from another failure in one of the scenarios is violated still.
    """
    if not results.is_complete:
        return []
    found: dict[tuple[str, str, str], list[VerdictEntry]] = {}
    for verdict in results.verdicts:
        found.setdefault((verdict.driver, verdict.device, verdict.check), []).append(verdict)
    return [
        (name, device, entry)
        for name, driver in results.drivers.items()
        if {*driver.stages, *driver.profiles} <= set(driver.asked)
        for entry in driver.known
        for device in entry.devices
        if (about := [one for one in found.get((name, device, entry.check), ()) if is_among(one.scenario, entry.scenarios)])
        and min(about, key=severity).outcome is Outcome.PASS
        and not any(verdict.because for verdict in about)
        and asked_for(results, about[0])
    ]


def disqualified(results: Results, driver: str) -> list[VerdictEntry]:
    """Return the mandatory checks of the selected stages that did not pass; a driver without any qualifies.

    Checks that need a look into the driver's own memory do not count where that cannot be done, and rules about what every
    driver is free to leave out do not count where this one never used it.
    """
    return [
        verdict
        for verdict in worst_overall(v for v in results.verdicts if v.driver == driver).values()
        if verdict.level == MANDATORY
        and (asked_for(results, verdict) or verdict.outcome is Outcome.FAIL)
        and verdict.outcome is not Outcome.PASS
        and not verdict.unused
        and not (verdict.outcome is Outcome.UNSUPPORTED and "memory" in verdict.witnesses)
    ]


def lab_failures(results: Results) -> dict[str, list[str]]:
    """Return reason → scenarios (driver/device/scenario) in which the lab failed for that reason."""
    found: dict[str, dict[str, None]] = {}
    for verdict in results.verdicts:
        if verdict.outcome is Outcome.ERROR:
            found.setdefault(verdict.reason, {})["/".join(verdict.key[:3])] = None
    return {reason: list(scenarios) for reason, scenarios in found.items()}


def exit_status(results: Results, *, bisect: bool = False) -> int:
    """Return 0: nothing new failed · 1: a driver failed · 2: the lab failed (outranks 1) · 3: a selected stage unjudged."""
    status = 0
    if results.unfinished or any(v.outcome is Outcome.ERROR for v in results.verdicts):
        status = LAB_FAILED
    elif any(fails(results, verdict) for verdict in worst_overall(results.verdicts).values()):
        status = DRIVER_FAILED
    elif unjudged(results):
        status = NOTHING_JUDGED
    return UNTESTABLE if bisect and status in (LAB_FAILED, NOTHING_JUDGED) else status


def gate_failures(results: Results) -> list[tuple[VerdictEntry, str]]:
    """Return each check that fails the run (`exit_status` 1), worst first, with the reason."""
    failing = [verdict for verdict in worst_overall(results.verdicts).values() if fails(results, verdict)]
    failing.sort(key=lambda verdict: (severity(verdict), stage_index(verdict.stage)))
    return [(verdict, _gate_reason(verdict)) for verdict in failing]


def _gate_reason(verdict: VerdictEntry) -> str:
    match verdict.outcome:
        case Outcome.FAIL:
            return "new failure"
        case Outcome.WARN:
            return f"{STRICT}a recommended rule is not met"
        case Outcome.FLAKY:
            return f"{STRICT}flaky: {verdict.reason}"
        case _:
            return f"{STRICT}mandatory and not proven: {verdict.reason}"


def unproven(results: Results) -> list[VerdictEntry]:
    """Return the mandatory checks of the selected stages that nothing observed, in the order of stages."""
    found = [verdict for verdict in worst_overall(results.verdicts).values() if _is_unproven(results, verdict)]
    return sorted(found, key=lambda verdict: stage_index(verdict.stage))


def _is_unproven(results: Results, verdict: VerdictEntry) -> bool:
    unclear = verdict.outcome is Outcome.INCONCLUSIVE and verdict.level == MANDATORY and not verdict.unused
    return unclear and asked_for(results, verdict)


def fails(results: Results, verdict: VerdictEntry) -> bool:
    """Return whether this verdict, as the worst of its check, fails the run."""
    if verdict.outcome is Outcome.FAIL:
        return verdict.known is None
    return results.strict and (_is_unproven(results, verdict) or verdict.outcome in (Outcome.WARN, Outcome.FLAKY))


def evidence_of(results: Results, verdict: VerdictEntry) -> str:
    """Return the place of a verdict's first violation: ``FOLDER/events.jsonl:LINE``; "" without a recording."""
    run = results.run_of(verdict)
    if run is None:
        return ""
    finding = verdict.violation
    return f"{run.evidence}/{finding.place}" if finding and finding.place else run.evidence


def worst_with_outcome(results: Results, *outcomes: Outcome) -> Iterator[tuple[VerdictEntry, int]]:
    """Yield the worst verdicts that have one of these outcomes, by stage, each with its number of recordings."""
    same = Counter((v.driver, v.check, v.outcome, v.known) for v in results.verdicts)
    for verdict in sorted(worst_overall(results.verdicts).values(), key=lambda v: stage_index(v.stage)):
        if verdict.outcome in outcomes:
            yield verdict, same[verdict.driver, verdict.check, verdict.outcome, verdict.known]
