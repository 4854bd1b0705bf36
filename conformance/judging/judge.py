"""Judge evidence: a pure function that needs neither QEMU nor pytest."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from conformance.judging.causes import Cause, Causes, consequences
from conformance.judging.explaining import Explainer
from conformance.judging.slowness import slowness, starved
from conformance.record.record import Record
from conformance.suite.check import MANDATORY, Check, Finding, Outcome
from lab.data.events import ActionEnded, Event, Remark
from lab.data.evidence import Evidence
from lab.data.identity import DriverIdentity
from lab.data.manifest import part_name
from lab.errors import LabError

LOG = logging.getLogger(__name__)
NEVER_USED = "never used: "
"""How the reason of an INCONCLUSIVE verdict begins if the driver left out what the rule is about."""
PASSED_ON = "the driver passes requests on as they are (limits.passes_through): what they ask for is its user's business"
"""Of a check that wants a request refused."""
UNWATCHED = "the driver's own memory accesses are visible only if it runs in the lab's process"
NO_WIRE = "no wire record: judged by what the machine said and what its disk held"
"""What every verdict says that is about a real machine."""
KEPT_VIOLATIONS = 20
KEPT_EXAMPLES = 2
"""Findings that a verdict keeps: violations, and findings that met the rule. ``judged`` is the number of all."""


@dataclass(frozen=True)
class Verdict:
    """The verdict of one check on one driver, device and scenario."""

    driver: str
    device: str
    scenario: str
    check: Check
    outcome: Outcome
    reason: str = ""  # why, where no finding explains it
    because: str = ""  # the check whose failure this one only follows from
    known: str | None = None  # the manifest's reason for a known failure
    findings: tuple[Finding, ...] = ()
    judged: int = 0
    seen: str = ""  # of an answer that violates the rule: what the device saw meanwhile
    wire: tuple[str, ...] = ()  # the rows of the timeline that lead to the first violation
    evidence: Path = field(default=Path(), compare=False)

    @property
    def unused(self) -> bool:
        """Whether the rule is about something that every driver is free to leave out, and this one did."""
        return self.reason.startswith(NEVER_USED)

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as results.json holds it."""
        return {
            "driver": self.driver,
            "device": self.device,
            "scenario": self.scenario,
            "stage": self.check.stage,
            "check": self.check.id,
            "level": self.check.level,
            "statement": self.check.statement,
            "outcome": str(self.outcome),
            "reason": self.reason,
            "because": self.because,
            "unused": self.unused,
            "known": self.known,
            "witnesses": list(self.check.witnesses),
            "cite": vars(self.check.cite),
            "judged": self.judged,
            "seen": self.seen,
            "wire": list(self.wire),
            "findings": [
                {
                    "ok": f.ok,
                    "event": f.event.line if f.event else None,
                    "place": place(f.event) if f.event else "",
                    "expected": f.expected,
                    "actual": f.actual,
                }
                for f in self.findings
            ],
        }


def place(event: Event) -> str:
    """Return an event's place in its evidence folder: a line, or a record of the programmable controller."""
    return f"events.jsonl:{event.line}" if event.line >= 0 else f"device/{event.controller}.rec:{-event.line}"


def judge(evidence: Evidence, checks: Iterable[Check], *, explain: bool = True) -> list[Verdict]:
    """Return one verdict per check. Evidence that is cut short or damaged, or that the lab failed on, gives ERROR.

    So does a violation on a machine that was too slow (`conformance.judging.slowness`): it proves nothing about the driver.
    Without ``explain`` a failure comes without the rows of the wire and what the device saw, for those who only count it.
    """
    return judge_record(Record(evidence), checks, explain=explain)


def judge_record(record: Record, checks: Iterable[Check], *, explain: bool = True) -> list[Verdict]:
    """Return the same for evidence that was read already, or that will be looked at further."""
    evidence = record.evidence
    driver, device = evidence.identity.driver, evidence.identity.device
    defect = _defect(evidence) or _full_disk(record)
    slow = cache(lambda: slowness(evidence))  # asked only where something failed
    judged = {check: (Outcome.ERROR, defect, Findings()) if defect else _apply(check, record, driver) for check in checks}
    violations = {check: found.violations for check, (_, _, found) in judged.items() if found.violations}
    outcomes = {check: outcome for check, (outcome, _, _) in judged.items()}
    causes = _causes(record, violations, outcomes) if violations else {}
    explainer = Explainer(record)
    verdicts = []
    for check, (outcome, reason, findings) in judged.items():
        cause = causes.get(check)
        if cause is not None:
            outcome, reason = Outcome.INCONCLUSIVE, f"because of {cause.check}: {cause.why}"
        elif outcome in (Outcome.FAIL, Outcome.WARN) and (why := slow() or (check.timed and starved(evidence))):
            outcome, reason = Outcome.ERROR, why
        if not record.has_wire:
            reason = f"{reason}; {NO_WIRE}" if reason else NO_WIRE
        speaks = findings.violations[0] if explain and outcome in (Outcome.FAIL, Outcome.WARN) else None
        # what only follows from another failure is shown with what the device saw, too
        first = findings.violations[0] if explain and cause else speaks
        verdicts.append(
            Verdict(
                driver=driver.name,
                device=device,
                scenario=record.scenario.id,
                check=check,
                outcome=outcome,
                reason=reason,
                because=cause.check if cause else "",
                known=_known(driver, check, device, record.scenario.id) if outcome is Outcome.FAIL else None,
                findings=(*findings.violations, *findings.examples),
                judged=findings.judged,
                seen=explainer.cause(first) if first and record.has_wire else "",
                wire=explainer.wire(speaks) if speaks else (),
                evidence=evidence.folder,
            )
        )
    return verdicts


def _causes(
    record: Record, violations: Mapping[Check, list[Finding]], outcomes: Mapping[Check, Outcome]
) -> Mapping[Check, Cause]:
    """Return what only follows from other violations, with its cause."""
    try:
        identity, scenario = record.evidence.identity, record.scenario.id
        known = {check.id for check in violations if _known(identity.driver, check, identity.device, scenario) is not None}
        return consequences(violations, Causes(record, violations, known), outcomes)
    except Exception:  # damaged evidence of any kind: each violation stands for itself
        LOG.debug("no causes in %s", record.evidence.folder, exc_info=True)
        return {}


def _defect(evidence: Evidence) -> str:
    """Return why this evidence proves nothing; "" if it does."""
    try:
        end = evidence.end
        evidence.check()
    except LabError as error:
        return str(error)
    if end is None:
        return "the recording was cut short: there is no end marker"
    return f"the lab failed: {end.reason}" if end.outcome == "lab-error" else ""


def _full_disk(record: Record) -> str:
    """Return that the machine's own disk refused what the driver wrote; "" if it did not."""
    refused = next((remark for remark in record.all(Remark) if remark.name == "host-disk"), None)
    return f"the lab failed: this machine's disk did not take what was written: {refused.detail['error']}" if refused else ""


@dataclass
class Findings:
    """The findings of a check: all of them counted, the first few kept."""

    violations: list[Finding] = field(default_factory=list)
    examples: list[Finding] = field(default_factory=list)
    judged: int = 0
    violated: bool = False  # by a finding that the device itself saw
    unseen: int = 0  # those of which nobody saw what they rest on

    def add(self, finding: Finding) -> None:
        """Count a finding, and keep it while there is room."""
        if finding.event is not None and not finding.event.is_known(*finding.fields):
            self.unseen += 1
            return
        self.judged += 1
        if finding.ok:
            if len(self.examples) < KEPT_EXAMPLES:
                self.examples.append(finding.in_words)
            return
        self.violated = self.violated or finding.exact
        if len(self.violations) < KEPT_VIOLATIONS:
            self.violations.append(finding.in_words)


def _apply(check: Check, record: Record, driver: DriverIdentity) -> tuple[Outcome, str, Findings]:
    """Judge a check. Where the driver cannot be asked what it needs, what the device saw is judged all the same."""
    if check.stops and check.stops not in driver.stops:
        return Outcome.UNSUPPORTED, f"the driver cannot stop after {check.stops}", Findings()
    if "memory" in check.witnesses and not record.memory_watched:
        return Outcome.UNSUPPORTED, UNWATCHED, Findings()
    if check.guards and driver.passes_through:
        return Outcome.UNSUPPORTED, PASSED_ON, Findings()
    unasked = _unasked(check, driver)
    if unasked and "wire" not in check.witnesses:
        return Outcome.UNSUPPORTED, unasked, Findings()
    findings = Findings()
    try:
        for finding in check.find(record):
            if not unasked or not isinstance(finding.event, ActionEnded | None):
                findings.add(finding)
    except LabError as error:
        return Outcome.ERROR, str(error), Findings()
    except Exception as error:  # damaged evidence of any kind, or a mistake in the check: it spoils this verdict only
        LOG.debug("check %s on %s", check.id, record.evidence.folder, exc_info=True)
        return Outcome.ERROR, f"the check could not judge this evidence: {type(error).__name__}: {error}", Findings()
    if unasked and not findings.judged:
        return Outcome.UNSUPPORTED, unasked, findings
    return *_outcome(check, findings), findings


def _unasked(check: Check, driver: DriverIdentity) -> str:
    """Return why a driver cannot be asked what a check needs; "" if it can."""
    missing = [name for name in check.needs if name not in driver.actions]
    if missing:
        return f"the driver cannot be asked to {', '.join(missing)}"
    if check.needs and check.stage not in (*driver.stages, *driver.profiles):
        return f"the manifest does not claim {part_name(check.stage)}"
    return ""


def _outcome(check: Check, findings: Findings) -> tuple[Outcome, str]:
    if not findings.judged:
        return Outcome.INCONCLUSIVE, f"{NEVER_USED}{check.uses}" if check.uses and not findings.unseen else "nothing observed"
    if findings.violated:
        return (Outcome.FAIL if check.level == MANDATORY else Outcome.WARN), ""
    if findings.violations:
        return Outcome.INCONCLUSIVE, "a violation was seen only in memory sampled after the fact"
    return Outcome.PASS, ""


def _known(driver: DriverIdentity, check: Check, device: str, scenario: str) -> str | None:
    return next((entry.reason for entry in driver.known if entry.excuses(check.id, device, scenario)), None)
