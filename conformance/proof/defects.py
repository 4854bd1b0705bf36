"""Half of the proof: can the suite fail? Each seeded defect must be caught by its own check's own finding about it.

Each defect goes through the scenarios where its check is judged, one after the other until the check has caught it. A finding
that another check has word for word at the same event (reads that no longer arrive, say) is not the check's own, and does not
count where the check has findings of its own on the unmodified driver.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from conformance.judging.judge import Verdict
from conformance.proof.recording import FAILED, Alarm, alarm, golden, verdicts
from conformance.suite.check import Finding, Outcome
from conformance.suite.selection import select
from lab.defects import DEFECTS, LIAR, Defect, find
from lab.errors import UsageError

UNNAMED = "any"
"""The check of a defect that names none: any check that fails on it catches it."""


@dataclass(frozen=True)
class Examined:
    """What came of one defect."""

    defect: str
    caught: str  # the scenario where its check failed by a finding of its own; "" if none
    also: tuple[str, ...]  # other checks that failed up to there
    errors: tuple[Alarm, ...]  # what the lab could not judge
    problem: str = ""  # why it could not be examined, or why a failure of its check does not count

    def to_json(self) -> dict[str, Any]:
        """Return it as ``nvme-lab defects --json`` prints it."""
        defect = DEFECTS[self.defect]
        found = {
            "id": self.defect,
            "check": defect.check,
            "summary": defect.summary,
            "source": defect.source,
            "caught": bool(self.caught),
            "scenario": self.caught,
            "also": list(self.also),
        }
        return found | ({"problem": self.problem} if self.problem else {})


def choose(checks: Sequence[str] = (), ids: Sequence[str] = ()) -> list[Defect]:
    """Return the defects of these checks and these ids, all if none is named. UsageError for unknown ones."""
    for check in checks:
        if not any(defect.check == check for defect in DEFECTS.values()):
            raise UsageError(f"no defect is seeded for a check {check!r}", remedy="nvme-lab defects lists what there is")
    for id in ids:
        find(id)
    return [one for one in DEFECTS.values() if (not checks and not ids) or one.check in checks or one.id in ids]


def scenarios_of(defect: Defect) -> list[str]:
    """Return where a defect can show: its own scenarios, else those where its check is judged, else all.

    UsageError for a check that does not exist.
    """
    if defect.scenarios:
        return list(defect.scenarios)
    checks = [] if defect.check == UNNAMED else [defect.check]
    return [template.id for template in select(checks=checks).scenarios]


def examine(id: str, seed: int) -> Examined:
    """Run one defect in the scenarios where its check is judged, until that has caught it."""
    defect = DEFECTS[id]
    failed, errors, problem = set[str](), list[Alarm](), ""
    try:
        scenarios = scenarios_of(defect)
    except UsageError as error:
        return Examined(id, "", (), (), f"it names no check of the suite: {error}")
    for scenario in scenarios:
        found = verdicts(scenario, seed, id)
        failed |= {verdict.check.id for verdict in found if verdict.outcome in FAILED}
        errors += [alarm(verdict) for verdict in found if verdict.outcome is Outcome.ERROR]
        if defect.check == UNNAMED and failed:
            return Examined(id, scenario, tuple(sorted(failed)), tuple(errors))
        if defect.check in failed:
            if catches(defect.check, found, seed):
                return Examined(id, scenario, tuple(sorted(failed - {defect.check})), tuple(errors))
            problem = f"{defect.check} failed in {scenario} by findings only that other checks have too"
    return Examined(id, "", tuple(sorted(failed - {defect.check})), tuple(errors), problem)


def catches(check: str, found: Iterable[Verdict], seed: int) -> bool:
    """Return whether a check failed in one scenario by a finding of its own.

    A finding is not its own if another check has the same about the same event, and the check has findings of its own where
    nothing is wrong. What is wrong on the unmodified driver already does not count.
    """
    found = list(found)
    mine = next(verdict for verdict in found if verdict.check.id == check)
    if mine.outcome not in FAILED:
        return False
    normal = golden(mine.scenario, seed)
    wrong_anyway = {_text(finding) for verdict in normal if verdict.check.id == check for finding in _broken(verdict)}
    broken = [finding for finding in _broken(mine) if _text(finding) not in wrong_anyway]
    others = {_identity(finding) for verdict in found if verdict.check.id != check for finding in _broken(verdict)}
    if any(_identity(finding) not in others for finding in broken):
        return True
    return bool(broken) and not _has_own(check, normal)


def _has_own(check: str, normal: Iterable[Verdict]) -> bool:
    """Return whether a check has findings on the unmodified driver that no other check of the scenario has."""
    others = {_identity(f) for verdict in normal if verdict.check.id != check for f in verdict.findings}
    return any(_identity(f) not in others for verdict in normal if verdict.check.id == check for f in verdict.findings)


def _broken(verdict: Verdict) -> list[Finding]:
    return [finding for finding in verdict.findings if not finding.ok]


def _identity(finding: Finding) -> tuple[str, str, int, str]:
    event = finding.event
    where = (type(event).__name__, event.controller, event.line) if event else ("", "", 0)
    return (*where, _text(finding))


def _text(finding: Finding) -> str:
    return str(finding.expected)


def lies_believed(scenario: str, seed: int) -> list[Alarm]:
    """Return what passes in a scenario although the device saw nothing, by checks that do not go by the answers alone."""
    found = [verdict for verdict in verdicts(scenario, seed, LIAR) if verdict.check.witnesses != ("out",)]
    return [alarm(verdict) for verdict in found if verdict.outcome in (Outcome.PASS, Outcome.ERROR)]


def false_alarms(scenario: str, seed: int) -> list[Alarm]:
    """Return what fails in a scenario although the driver makes no mistake."""
    return [alarm(verdict) for verdict in golden(scenario, seed) if verdict.outcome in (*FAILED, Outcome.ERROR)]
