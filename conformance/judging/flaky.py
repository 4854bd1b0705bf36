"""Verdicts of several recordings of the same scenario: a failure that does not come back is FLAKY, with all its evidence."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from conformance.judging.files import merge
from conformance.judging.judge import Verdict
from conformance.judging.models import Occurrence, Results, VerdictEntry
from conformance.judging.summary import worst_per_device
from conformance.suite.check import Outcome

REFUTES = frozenset({Outcome.PASS, Outcome.WARN, Outcome.INCONCLUSIVE})
"""Outcomes of a fresh recording in which a failure did not come back. The lab's own failure refutes nothing."""


@dataclass(frozen=True)
class Rate:
    """How often a check of a driver on a device failed in repeated runs."""

    driver: str
    device: str
    check: str
    outcomes: Mapping[Outcome, int]
    """Outcome → number of runs that ended so."""

    @property
    def failed(self) -> int:
        """Return the number of runs in which it failed."""
        return self.outcomes.get(Outcome.FAIL, 0)

    @property
    def runs(self) -> int:
        """Return the number of runs in which it was judged."""
        return sum(self.outcomes.values())

    @property
    def is_steady(self) -> bool:
        """Return whether all runs ended alike."""
        return len(self.outcomes) == 1


def is_new_failure(verdict: Verdict | VerdictEntry, strict: bool) -> bool:
    """Return whether no manifest knows a failure; a WARN is one where ``strict`` fails the run for it."""
    return verdict.known is None and (verdict.outcome is Outcome.FAIL or (strict and verdict.outcome is Outcome.WARN))


def new_failures(results: Results) -> list[VerdictEntry]:
    """Return the failures that no manifest knows, WARN included where they fail the run by --strict."""
    return [verdict for verdict in results.verdicts if is_new_failure(verdict, results.strict)]


def confirm(results: Results, fresh: Results, folder: str) -> list[VerdictEntry]:
    """Compare new failures with a fresh recording whose evidence is below ``folder``; return the verdicts that changed.

    A failure that came back stays; one that did not becomes FLAKY. Both name the evidence of both recordings.
    """
    again = {verdict.key: verdict for verdict in fresh.verdicts}
    changed = []
    for verdict in new_failures(results):
        other = again.get(verdict.key)
        if other is None:
            continue
        settle(verdict, [_occurrence(results, verdict, ""), _occurrence(fresh, other, folder)], results.strict)
        changed.append(verdict)
    return changed


def merge_repetitions(parts: Sequence[tuple[Path, Results]], folder: Path) -> Results:
    """Merge the results of repetitions: of each verdict the worst, but FLAKY where a failure did not always come back."""
    merged = merge(parts, folder)
    found: dict[tuple[str, str, str, str], list[Occurrence]] = {}
    for base, part in parts:
        prefix = os.path.relpath(base.absolute(), folder.absolute())
        for verdict in part.verdicts:
            found.setdefault(verdict.key, []).append(_occurrence(part, verdict, prefix))
    for verdict in merged.verdicts:
        settle(verdict, found[verdict.key], merged.strict)
    return merged


def rates(parts: Sequence[Results]) -> list[Rate]:
    """Return how often each check failed, in the order of the first result; a check fails in a run if any scenario does."""
    outcomes: dict[tuple[str, str, str], list[Outcome]] = {}
    for part in parts:
        for key, verdict in worst_per_device(part.verdicts).items():
            outcomes.setdefault(key, []).append(verdict.outcome)
    return [Rate(*key, _counted(seen)) for key, seen in outcomes.items()]


def _counted(outcomes: Iterable[Outcome]) -> Mapping[Outcome, int]:
    """Count outcomes, the worst first."""
    counts = Counter(outcomes)
    return {outcome: counts[outcome] for outcome in Outcome if counts[outcome]}


def settle(verdict: VerdictEntry, occurrences: Sequence[Occurrence], strict: bool) -> None:
    """Note the outcomes of several recordings; make a new failure FLAKY if one of them refutes it, with the reason."""
    verdict.occurrences = list(occurrences)
    outcomes = _counted(occurrence.outcome for occurrence in verdict.occurrences)
    if is_new_failure(verdict, strict) and outcomes.keys() & (REFUTES - {verdict.outcome}):
        failed, verdict.outcome = outcomes[verdict.outcome], Outcome.FLAKY
        reported = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())
        verdict.reason = f"it failed in {failed} of {len(verdict.occurrences)} recordings ({reported})"


def _occurrence(results: Results, verdict: VerdictEntry, folder: str) -> Occurrence:
    run = results.run_of(verdict)
    return Occurrence(outcome=verdict.outcome, evidence=os.path.normpath(Path(folder) / run.evidence) if run else "")
