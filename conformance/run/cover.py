"""The cover: the few scenarios of an earlier result that together judge, and find, all that it did. Pure.

One scenario judges dozens of checks, and most checks are judged in dozens of scenarios. A cover keeps

- a cheap choice of scenarios in which each version is judged again by each check that it was judged by, on that device and
  with that outcome;
- among them one for each way in which versions violated a check: what each version did there, and what was expected and found,
  but for numbers. So each transition between versions is seen again;
- every scenario in which the lab failed, or a verdict was not the same each time;
- every scenario that the earlier result does not hold, for nothing is known of it.

All versions of a driver get the same scenarios, so that `conformance.judging.history` can compare each with the next.
The choice is greedy: the scenario that adds most for its seconds comes first, and what later ones have made needless goes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from statistics import mean

from conformance.judging.models import Results, VerdictEntry
from conformance.judging.summary import JUDGED
from conformance.suite.check import Outcome
from lab.data import versions

Key = tuple[str, str, str]
"""A driver without its version, a device and a scenario."""
Gain = tuple[str, ...]
"""What a scenario adds: a check, and an outcome of one version, or what all versions did where one of them violated it."""

KEPT = frozenset({Outcome.FLAKY, Outcome.ERROR})
"""Outcomes for which a scenario stays in the cover whatever others show."""
LEAST_SECONDS = 0.1
"""No scenario counts as cheaper."""
NUMBERS = re.compile(r"\b(?:0x)?(?=[a-f]*\d)[0-9a-f]+h?\b(?:, (?:0x)?(?=[a-f]*\d)[0-9a-f]+h?\b)*", re.IGNORECASE)
"""Numbers, decimal or hexadecimal, and lists of them."""


def cover(results: Results, wanted: Mapping[Key, Collection[str]]) -> frozenset[Key]:
    """Return which of the wanted scenarios are recorded; ``wanted`` has the checks that are to judge each."""
    gains, kept = _gains(results, wanted)
    seconds = _seconds(results)
    chosen = {key for key in wanted if key in kept or key not in gains}
    for machine in dict.fromkeys(key[:2] for key in wanted):
        own = {key: found for key, found in gains.items() if key[:2] == machine}
        chosen |= _choose(own, {key for key in chosen if key in own}, seconds)
    return frozenset(chosen)


def key_of(driver: str, device: str, scenario: str) -> Key:
    """Return the key of a scenario of a driver, whatever its version."""
    return versions.split(driver)[0], device, scenario


def _gains(results: Results, wanted: Mapping[Key, Collection[str]]) -> tuple[dict[Key, set[Gain]], set[Key]]:
    """Return what each recorded scenario adds, and those that stay in any case."""
    gains: dict[Key, set[Gain]] = {key: set() for run in results.runs if (key := key_of(*run.key)) in wanted}
    kept: set[Key] = set()
    deeds_of: dict[tuple[Key, str], list[tuple[str, str, str]]] = {}
    for verdict in sorted(results.verdicts, key=lambda verdict: verdict.driver):
        key = key_of(*verdict.key[:3])
        if key not in gains or verdict.check not in wanted[key]:
            continue
        if verdict.outcome in KEPT:
            kept.add(key)
        if verdict.outcome in JUDGED:
            gains[key].add((verdict.check, verdict.driver, str(verdict.outcome)))
            deeds_of.setdefault((key, verdict.check), []).append(_deed(verdict))
    for (key, check), deeds in deeds_of.items():
        if any(outcome != Outcome.PASS for _, outcome, _ in deeds):
            gains[key].add((check, *(word for deed in deeds for word in deed)))
    return gains, kept


def _deed(verdict: VerdictEntry) -> tuple[str, str, str]:
    """Return a version, its outcome, and the way in which it violated the check; "" if it did not."""
    found = verdict.violation
    way = NUMBERS.sub("#", f"{found.expected} / {found.actual}") if found and verdict.outcome is not Outcome.PASS else ""
    return verdict.driver, str(verdict.outcome), way


def _seconds(results: Results) -> dict[Key, float]:
    """Return the seconds of each scenario, the mean over the versions."""
    found: dict[Key, list[float]] = {}
    for run in results.runs:
        found.setdefault(key_of(*run.key), []).append(run.seconds)
    return {key: max(mean(seconds), LEAST_SECONDS) for key, seconds in found.items()}


def _choose(gains: Mapping[Key, set[Gain]], first: set[Key], seconds: Mapping[Key, float]) -> set[Key]:
    """Return ``first`` and those that together add all that all of them do."""
    missing = set[Gain]().union(*gains.values()) - set[Gain]().union(*(gains[key] for key in first))
    added: list[Key] = []
    while missing:
        best = max(sorted(gains), key=lambda key: len(gains[key] & missing) / seconds[key])
        added.append(best)
        missing -= gains[best]
    times = Counter(gain for key in (*first, *added) for gain in gains[key])
    needless = set[Key]()
    for key in sorted(added, key=lambda key: -seconds[key]):
        if all(times[gain] > 1 for gain in gains[key]):
            needless.add(key)
            times.subtract(gains[key])
    return first | (set(added) - needless)
