"""Known failures as a table: what each manifest excuses, who answers for it, until when, and what came of it in this result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from conformance.judging.models import KnownEntry, Results, VerdictEntry
from conformance.judging.summary import severity, stale, worst_overall
from conformance.suite.check import Outcome
from conformance.suite.findings import Page, linked
from lab.data.manifest import is_among


@dataclass(frozen=True)
class Waiver:
    """One entry of a manifest. ``state`` says what came of it, ``look`` is its colour, ``there`` whether it was judged."""

    driver: str
    entry: KnownEntry
    state: str
    look: str
    there: bool
    met: bool
    """Whether this result says something of it: the failure came, or is known to be gone."""

    @property
    def pages(self) -> list[Page]:
        """Return the pages about faults that the reason names."""
        return linked(self.entry.reason)


def waivers(results: Results) -> Iterator[Waiver]:
    """Yield all known failures of the drivers, in the order of their manifests."""
    worst = worst_overall(results.verdicts)
    past = {(driver, entry.check, *entry.scenarios) for driver, _, entry in stale(results)}
    for driver, about in results.drivers.items():
        named = {entry.check for entry in about.known}
        unnamed = [
            KnownEntry(check=verdict.check, reason=verdict.known, devices=[verdict.device])
            for verdict in worst.values()
            if verdict.driver == driver and verdict.known is not None and verdict.check not in named
        ]
        for entry in (*about.known, *unnamed):
            own = (verdict for verdict in results.verdicts if (verdict.driver, verdict.check) == (driver, entry.check))
            verdict = min((one for one in own if is_among(one.scenario, entry.scenarios)), key=severity, default=None)
            passes = (driver, entry.check, *entry.scenarios) in past
            failed = verdict is not None and verdict.outcome is Outcome.FAIL
            yield Waiver(driver, entry, *_state(entry, verdict, passes), verdict is not None, passes or failed)


def _state(entry: KnownEntry, verdict: VerdictEntry | None, past: bool) -> tuple[str, str]:
    if past:
        return "passes: no longer fails, remove it from the manifest", "open"
    if verdict is None:
        return "not judged here", "open"
    if verdict.outcome is Outcome.FAIL and verdict.known is not None:
        return "fails, as known", "open"
    if entry.expired and verdict.outcome is Outcome.FAIL:
        return "fails, and is no longer excused", "bad"
    return f"{verdict.outcome.lower()} here", "open"
