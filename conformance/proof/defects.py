"""Half of the proof: can the suite fail? Each seeded defect must be caught by its own check's own finding about it.

Each defect goes through the scenarios where its check is judged, one after the other until the check has caught it. What a
check takes over from a helper that other checks use too (reads still arrive, say) is not its own, and does not count where the
check finds something. A helper that serves one check only is a part of that check.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from types import CodeType, FunctionType
from typing import Any, cast

from conformance.judging.explanations import GENERIC
from conformance.judging.judge import Verdict, judge_record
from conformance.proof.recording import FAILED, Alarm, alarm, checks_of, golden, recorded, unworded, verdicts
from conformance.record.record import Record
from conformance.suite.check import Check, Finding, Outcome
from conformance.suite.selection import CHECKS, select
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
    failures: tuple[str, ...] = ()  # all checks that are shown as FAIL where it was caught: one, if causes are told apart

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
            "failures": list(self.failures),
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
        with recorded(scenario, seed, id) as record:
            found = judge_record(record, checks_of(scenario), explain=False)
            failed |= {
                verdict.check.id for verdict in found if verdict.outcome in FAILED or own_consequence(verdict, defect.check)
            }
            shown = tuple(sorted(verdict.check.id for verdict in found if verdict.outcome is Outcome.FAIL))
            errors += [alarm(verdict) for verdict in found if verdict.outcome is Outcome.ERROR] + unworded(found)
            if defect.check == UNNAMED and failed:
                return Examined(id, scenario, tuple(sorted(failed)), tuple(errors), failures=shown)
            if defect.check in failed:
                if catches(CHECKS[defect.check], record, seed):
                    also = tuple(sorted(failed - {defect.check}))
                    return Examined(id, scenario, also, tuple(errors), failures=shown)
                problem = f"{defect.check} failed in {scenario} only by what it shares with other checks"
    return Examined(id, "", tuple(sorted(failed - {defect.check})), tuple(errors), problem)


def own_consequence(verdict: Verdict, check: str) -> bool:
    """Return whether the defect's own check has found it too, and another check than those of answers is named as the cause."""
    return verdict.check.id == check and bool(verdict.because) and verdict.because not in GENERIC


def catches(check: Check, record: Record, seed: int) -> bool:
    """Return whether a check fails on a recording by a finding of its own.

    What it takes over from a helper that many checks share ("reads still arrive") is its own only if it finds nothing else,
    neither here nor on the unmodified driver. What is wrong on the unmodified driver already does not count.
    """
    found = list(_origins(check, record))
    broken = [own for finding, own in found if not finding.ok]
    if not broken:
        return False
    scenario = record.scenario.id
    judged = next((verdict for verdict in golden(scenario, seed).verdicts if verdict.check is check), None)
    if judged is not None and any(broken):
        return judged.outcome not in FAILED
    normal = _normal(check, scenario, seed)
    if any(not finding.ok for finding, _ in normal):
        return False
    return any(broken) or not any(own for _, own in (*found, *normal))


def _normal(check: Check, scenario: str, seed: int) -> list[tuple[Finding, bool]]:
    """Return the findings of a check on the unmodified driver, and whether each is its own."""
    with recorded(scenario, seed) as record:
        return list(_origins(check, record))


def _origins(check: Check, record: Record) -> Iterator[tuple[Finding, bool]]:
    """Yield each finding of a check, and whether the check makes it instead of a helper that it shares with other checks."""
    findings = check.find(record)
    for finding in findings:
        yield finding, not any(_is_shared(helper, check) for helper in _helpers(findings))


def _helpers(findings: Any) -> Iterator[CodeType]:
    """Yield the functions that a check hands over to at the moment, each to the next by ``yield from``."""
    while (findings := getattr(findings, "gi_yieldfrom", None)) is not None and hasattr(findings, "gi_code"):
        yield findings.gi_code


def _is_shared(helper: CodeType, check: Check) -> bool:
    """Return whether a helper is not known to serve this check alone."""
    return _users().get(helper) != {check.id}


@cache
def _users() -> dict[CodeType, set[str]]:
    """Return the checks of the suite that reach each function of their module, directly or through others."""
    users: dict[CodeType, set[str]] = {}
    for check in CHECKS.values():
        reached: list[FunctionType] = [cast(FunctionType, check.find)]
        for function in reached:
            named = (function.__globals__.get(name) for name in function.__code__.co_names)
            reached += [one for one in named if isinstance(one, FunctionType) and one not in reached]
        for function in reached:
            users.setdefault(function.__code__, set()).add(check.id)
    return users


def false_passes(scenario: str, seed: int) -> list[Alarm]:
    """Return what passes in a scenario although the device saw nothing, by checks that do not go by the answers alone."""
    checks = [check for check in checks_of(scenario) if check.witnesses != ("out",)]
    found = verdicts(scenario, seed, LIAR, checks=checks)
    return [alarm(verdict) for verdict in found if verdict.outcome in (Outcome.PASS, Outcome.ERROR)]


def false_alarms(scenario: str, seed: int) -> list[Alarm]:
    """Return what fails in a scenario although the driver makes no mistake."""
    found = golden(scenario, seed).verdicts
    return [alarm(verdict) for verdict in found if verdict.outcome in (*FAILED, Outcome.ERROR)] + unworded(found)
