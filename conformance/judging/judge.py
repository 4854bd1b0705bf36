"""Evidence in, verdicts out: a pure function that needs neither QEMU nor pytest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conformance.record.record import Record
from conformance.suite.check import FOLD, MANDATORY, Check, Finding, Outcome
from lab.data.events import Event
from lab.data.evidence import Evidence
from lab.errors import LabError

UNWATCHED = "nobody sees what a driver does in its own memory, unless it runs in the lab's process"
KEPT_VIOLATIONS = 20
KEPT_EXAMPLES = 2
"""Findings that a verdict keeps: violations, and things that were as they must be. ``judged`` tells how many there were."""


@dataclass(frozen=True)
class Verdict:
    """What one check says of one driver on one device in one scenario."""

    driver: str
    device: str
    scenario: str
    check: Check
    outcome: Outcome
    reason: str = ""  # why, where no finding tells
    known: str | None = None  # the manifest's reason, where it knows this failure
    findings: tuple[Finding, ...] = ()
    judged: int = 0
    evidence: Path = field(default=Path(), compare=False)

    def to_json(self) -> dict[str, Any]:
        """The verdict as results.json holds it (cli.md)."""
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
            "known": self.known,
            "witnesses": list(self.check.witnesses),
            "cite": vars(self.check.cite),
            "judged": self.judged,
            "findings": [
                {
                    "ok": f.ok,
                    "event": f.event.line if f.event else None,
                    "place": place(f.event) if f.event else "",
                    "expected": str(f.expected),
                    "actual": str(f.actual),
                }
                for f in self.findings
            ],
        }


def place(event: Event) -> str:
    """Where in its evidence folder an event stands: a line, or a record of the programmable controller."""
    return f"events.jsonl:{event.line}" if event.line >= 0 else f"device/{event.controller}.rec, record {-event.line}"


def judge(evidence: Evidence, checks: Iterable[Check]) -> list[Verdict]:
    """One verdict a check. Evidence that is cut short, or that the lab failed on, gives ERROR: it proves nothing."""
    driver: Mapping[str, Any] = evidence.identity["driver"]
    record = Record(evidence)
    trouble = _trouble(evidence)
    verdicts = []
    for check in checks:
        outcome, reason, found = (Outcome.ERROR, trouble, Found()) if trouble else _apply(check, record, driver)
        verdicts.append(
            Verdict(
                driver=driver["name"],
                device=evidence.identity["device"],
                scenario=record.scenario.id,
                check=check,
                outcome=outcome,
                reason=reason,
                known=_known(driver, check, evidence.identity["device"]) if outcome is Outcome.FAIL else None,
                findings=(*found.violations, *found.examples),
                judged=found.judged,
                evidence=evidence.folder,
            )
        )
    return verdicts


def fold(verdicts: Iterable[Verdict]) -> dict[tuple[str, str], Verdict]:
    """(driver, check id) → the verdict that speaks for all scenarios and devices: FAIL over ERROR over … (`FOLD`)."""
    spoken: dict[tuple[str, str], Verdict] = {}
    for verdict in verdicts:
        key = verdict.driver, verdict.check.id
        best = spoken.get(key)
        if best is None or _rank(verdict) < _rank(best):
            spoken[key] = verdict
    return spoken


def _rank(verdict: Verdict) -> tuple[int, bool]:
    """The smaller speaks: the fold's order, and among failures one that is not known."""
    return FOLD.index(verdict.outcome), verdict.known is not None


def _trouble(evidence: Evidence) -> str:
    """Why this evidence proves nothing; "" if it does."""
    try:
        end = evidence.end
    except LabError as error:
        return str(error)
    if end is None:
        return "the recording was cut short: there is no end marker"
    return f"the lab failed: {end.reason}" if end.outcome == "lab-error" else ""


@dataclass
class Found:
    """What a check found: all of it counted, and the first few kept."""

    violations: list[Finding] = field(default_factory=list)
    examples: list[Finding] = field(default_factory=list)
    judged: int = 0
    violated: bool = False  # and the device itself saw it

    def take(self, finding: Finding) -> None:
        if not finding.seen:
            return
        self.judged += 1
        if finding.ok:
            if len(self.examples) < KEPT_EXAMPLES:
                self.examples.append(finding)
            return
        self.violated = self.violated or finding.exact
        if len(self.violations) < KEPT_VIOLATIONS:
            self.violations.append(finding)


def _apply(check: Check, record: Record, driver: Mapping[str, Any]) -> tuple[Outcome, str, Found]:
    missing = [name for name in check.needs if name not in driver["actions"]]
    if missing:
        return Outcome.UNSUPPORTED, f"the driver cannot be asked to {', '.join(missing)}", Found()
    if check.stops and check.stops not in driver.get("stops", ()):
        return Outcome.UNSUPPORTED, f"the driver cannot stop after {check.stops}", Found()
    if check.needs and check.stage not in driver["stages"]:
        return Outcome.UNSUPPORTED, f"the manifest does not claim stage {check.stage}", Found()
    if "memory" in check.witnesses and not record.memory_watched:
        return Outcome.UNSUPPORTED, UNWATCHED, Found()
    found = Found()
    try:
        for finding in check.find(record):
            found.take(finding)
    except LabError as error:
        return Outcome.ERROR, str(error), Found()
    return *_outcome(check, found), found


def _outcome(check: Check, found: Found) -> tuple[Outcome, str]:
    if not found.judged:
        return Outcome.INCONCLUSIVE, "nothing observed"
    if found.violated:
        return (Outcome.FAIL if check.level == MANDATORY else Outcome.WARN), ""
    if found.violations:
        return Outcome.INCONCLUSIVE, "a violation was seen only in memory sampled after the fact"
    return Outcome.PASS, ""


def _known(driver: Mapping[str, Any], check: Check, device: str) -> str | None:
    for entry in driver.get("known", ()):
        if entry["check"] == check.id and device in entry.get("devices", (device,)):
            return str(entry["reason"])
    return None
