"""What a driver is now entitled to say, in the same words wherever it is shown."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from conformance.judging.models import Results, VerdictEntry
from conformance.judging.summary import (
    JUDGED,
    LAB_FAILED,
    NOTHING_JUDGED,
    asked_for,
    disqualified,
    exit_status,
    gate_failures,
    severity,
    stage_index,
    unjudged,
    worst_overall,
)
from conformance.suite.check import MANDATORY, Outcome
from lab.data.plan import MACHINE

MISSING = {
    Outcome.FAIL: "failed",
    Outcome.ERROR: "not judged, as the lab failed",
    Outcome.FLAKY: "flaky",
    Outcome.INCONCLUSIVE: "inconclusive",
    Outcome.UNSUPPORTED: "unsupported",
}
"""Why a mandatory check did not pass, in the order of the report."""
PARTIAL = "not fully conformant"
NO_WIRE = " There is no record of the wire: it was judged by what the machine said and what its disk held."
"""Of a driver on a real machine."""


class State(StrEnum):
    """How a driver stands, as a headline says it.

    Only new failures and the lab's own fail the gate; known failures stand in the way of conformance.
    """

    QUALIFIES = "qualifies"
    FAILS = "does not qualify"
    LAB = "the lab failed"
    ACCEPTED = "no new failures"
    UNPROVEN = "not proven"
    SELECTION = "selection passed"
    SILENT = "nothing judged"
    PARTIAL = "partial result"


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


@dataclass(frozen=True)
class Gate:
    """Whether a run may go on: apart from conformance, for known failures do not turn it red. ``status`` is the exit status."""

    status: int
    why: str

    @property
    def is_green(self) -> bool:
        """Return whether nothing new failed."""
        return self.status == 0

    @property
    def text(self) -> str:
        """Return it as a sentence."""
        return f"Gate: {'green' if self.is_green else 'red'}, exit status {self.status}: {self.why}."


def gate(results: Results) -> Gate:
    """Return whether the results turn the gate red, and why."""
    status = exit_status(results)
    if status == LAB_FAILED:
        failed = {"/".join(v.key[:3]) for v in results.verdicts if v.outcome is Outcome.ERROR}
        return Gate(status, f"the lab failed in {_count(len(failed), 'scenario')}" if failed else "the result is partial")
    if status == NOTHING_JUDGED:
        return Gate(status, "a selected stage was not judged")
    failing = Counter(verdict.outcome is Outcome.FAIL for verdict, _ in gate_failures(results))
    words = [f"{_count(failing[True], 'check')} failed"] if failing[True] else []
    words += [f"{_count(failing[False], 'check')} failed by --strict"] if failing[False] else []
    return Gate(status, " and ".join(words) or "nothing new failed")


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def conclude(results: Results, driver: str) -> Conclusion:
    """Return what the results say about the driver as a whole."""
    missing = sorted(disqualified(results, driver), key=lambda verdict: (severity(verdict), stage_index(verdict.stage)))
    own = list(worst_overall(v for v in results.verdicts if v.driver == driver).values())
    mandatory = [verdict for verdict in own if verdict.level == MANDATORY and asked_for(results, verdict)]
    passed = sum(verdict.outcome is Outcome.PASS for verdict in mandatory)
    state, begin, why = _said(results, driver, missing, silent=not any(v.outcome in JUDGED for v in own), passed=passed)
    if state is not State.PARTIAL and (unused := sum(verdict.unused for verdict in mandatory)):
        why = f"{why[:-1]}; {unused} {'is' if unused == 1 else 'are'} about what it never used."
    why += NO_WIRE if any(verdict.device == MACHINE for verdict in own) else ""
    return Conclusion(driver, state, begin + why, f"{why[0].upper()}{why[1:]}", missing, passed, passed + len(missing))


def _said(results: Results, driver: str, missing: list[VerdictEntry], *, silent: bool, passed: int) -> tuple[State, str, str]:
    """Return the state, the begin of a sentence about the driver, and its end."""
    counts = Counter(verdict.outcome for verdict in missing if verdict.known is None)
    known = sum(verdict.known is not None for verdict in missing)
    accepted = [f"{known} known {'failure' if known == 1 else 'failures'} accepted"] if known else []
    words = [f"{counts[outcome]} {word}" for outcome, word in MISSING.items() if counts[outcome]]
    in_the_way = ", ".join([*words, *accepted])
    if counts[Outcome.FAIL]:
        return State.FAILS, f"{driver} does not qualify. ", f"Mandatory checks: {in_the_way}."
    if counts[Outcome.ERROR]:
        return State.LAB, f"{driver}: ", f"no new failures, but not judged; mandatory checks: {in_the_way}."
    if results.unfinished and not silent:
        reason = f" ({in_the_way})" if in_the_way else ""
        return State.PARTIAL, f"{driver}: ", f"nothing new failed so far{reason}; the result is partial."
    if known or counts[Outcome.FLAKY]:
        parts = [*accepted, *([", ".join(words)] if words else []), PARTIAL]
        return State.ACCEPTED, f"{driver}: ", f"no new failures; {'; '.join(parts)}."
    if silent:
        return State.SILENT, f"{driver}: ", "nothing was judged."
    if missing:
        return State.UNPROVEN, f"{driver}: ", f"nothing mandatory failed; not proven: {in_the_way}."
    if not passed:
        return State.SILENT, f"{driver}: ", "nothing mandatory was judged."
    if not results.is_complete:
        return State.SELECTION, f"{driver}: ", "every mandatory check that was selected passed."
    silent_stages = {stage for name, stage in unjudged(results) if name == driver}  # those that it does not claim
    stages = ", ".join(stage for stage in results.drivers[driver].asked if stage not in silent_stages)
    if not stages:  # of another lab's evidence, or an observed system's
        return State.SELECTION, f"{driver}: ", "every mandatory rule that holds in every stage passed; no stage was judged."
    return State.QUALIFIES, f"{driver} qualifies: ", f"every mandatory check of {stages} passed."
