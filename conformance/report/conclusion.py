"""What a driver is now entitled to say, in the same words wherever it is shown."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from conformance.judging.models import Results, VerdictEntry
from conformance.judging.summary import JUDGED, asked_for, disqualified, severity, stage_index, worst_overall
from conformance.suite.check import MANDATORY, Outcome

MISSING = {
    Outcome.FAIL: "failed",
    Outcome.ERROR: "the lab could not judge",
    Outcome.INCONCLUSIVE: "could not be observed",
    Outcome.UNSUPPORTED: "it cannot be asked",
}
"""Why a mandatory check that did not pass did not, in the order of telling."""


class State(StrEnum):
    """How a driver stands, as a headline says it."""

    QUALIFIES = "qualifies"
    FAILS = "does not qualify"
    UNPROVEN = "not proven"
    SELECTION = "selection passed"
    SILENT = "nothing judged"


@dataclass(frozen=True)
class Conclusion:
    """What the results say about a driver.

    ``text`` is the sentence about it, ``why`` what it adds to the state. ``missing`` are the mandatory checks that did
    not pass, the worst first; ``passed`` of ``mandatory`` ones did.
    """

    driver: str
    state: State
    text: str
    why: str
    missing: list[VerdictEntry]
    passed: int
    mandatory: int

    @property
    def failures(self) -> int:
        """Mandatory checks that failed, and that the manifest does not know."""
        return sum(verdict.outcome is Outcome.FAIL and verdict.known is None for verdict in self.missing)

    @property
    def known(self) -> int:
        """Return the number of mandatory checks that failed as the manifest expects."""
        return sum(verdict.known is not None for verdict in self.missing)

    @property
    def unproven(self) -> int:
        """Return the number of mandatory checks without a verdict about the driver."""
        return sum(verdict.outcome in (Outcome.INCONCLUSIVE, Outcome.UNSUPPORTED) for verdict in self.missing)


def conclude(results: Results, driver: str) -> Conclusion:
    """Return what the results say about the driver as a whole."""
    missing = sorted(disqualified(results, driver), key=lambda verdict: (severity(verdict), stage_index(verdict.stage)))
    own = list(worst_overall(v for v in results.verdicts if v.driver == driver).values())
    mandatory = [verdict for verdict in own if verdict.level == MANDATORY and asked_for(results, verdict)]
    passed = sum(verdict.outcome is Outcome.PASS for verdict in mandatory)
    state, begin, why = _said(results, driver, missing, silent=not any(v.outcome in JUDGED for v in own), passed=passed)
    return Conclusion(driver, state, begin + why, f"{why[0].upper()}{why[1:]}", missing, passed, passed + len(missing))


def _said(results: Results, driver: str, missing: list[VerdictEntry], *, silent: bool, passed: int) -> tuple[State, str, str]:
    """Return the state, the begin of a sentence about the driver, and its end."""
    counts = Counter(verdict.outcome for verdict in missing)
    said = ", ".join(f"{counts[outcome]} {words}" for outcome, words in MISSING.items() if counts[outcome])
    if counts[Outcome.FAIL] or counts[Outcome.ERROR]:
        return State.FAILS, f"{driver} does not qualify. ", f"Mandatory checks: {said}."
    if silent:
        return State.SILENT, f"{driver}: ", "nothing was judged."
    if missing:
        return State.UNPROVEN, f"{driver}: ", f"nothing mandatory failed; not proven: {said}."
    if not passed:
        return State.SILENT, f"{driver}: ", "nothing mandatory was judged."
    if not results.is_complete:
        return State.SELECTION, f"{driver}: ", "every mandatory check that was selected passed."
    stages = ", ".join(results.drivers[driver].asked)
    return State.QUALIFIES, f"{driver} qualifies: ", f"every mandatory check of {stages} passed."
