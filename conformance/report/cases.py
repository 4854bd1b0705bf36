"""A result as programs count it: one case for each check of a driver on a device, by the worst verdict of its scenarios."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from conformance.judging.models import Results, VerdictEntry
from conformance.judging.summary import asked_for, gate_failures, stage_index, worst_per_device
from conformance.report.failure import followers_of
from conformance.report.junit import explanation
from conformance.suite.check import Outcome
from conformance.wire.decode import printable, printable_lines


class Status(StrEnum):
    """What a case is to a CI server. Only ``failed`` and ``broken`` fail the run."""

    PASSED = "passed"
    FAILED = "failed"
    BROKEN = "broken"  # the lab's own failure
    KNOWN = "known"  # it failed as the manifest says
    WARNED = "warned"  # a recommendation that is not met, or a failure that did not come back
    SKIPPED = "skipped"  # nothing is known of the driver


@dataclass(frozen=True)
class Case:
    """One check of a driver on a device. ``why`` is a line, ``text`` everything that explains it; both "" where it passed."""

    verdict: VerdictEntry
    status: Status
    why: str
    text: str
    seconds: float

    @property
    def name(self) -> str:
        """Return check, driver, device and scenario."""
        verdict = self.verdict
        return printable(f"{verdict.check} ({verdict.driver} on {verdict.device}, {verdict.scenario})")


def cases(results: Results) -> Iterator[Case]:
    """Yield all cases, by driver, device and stage; of stages that were not selected only those that say something."""
    failing = {verdict.key: reason for verdict, reason in gate_failures(results)}
    seconds = {run.key: run.seconds for run in results.runs}
    found = worst_per_device(results.verdicts).values()
    drivers, followers = list(results.drivers), followers_of(results)
    for verdict in sorted(found, key=lambda v: (drivers.index(v.driver), v.device, stage_index(v.stage), v.check)):
        status, why = _status(verdict, failing.get(verdict.key, ""))
        if status is Status.SKIPPED and not asked_for(results, verdict):
            continue
        text = explanation(results, verdict, followers) if status in (Status.FAILED, Status.WARNED, Status.KNOWN) else ""
        yield Case(verdict, status, printable(why), text or printable_lines(why), seconds.pop(verdict.key[:3], 0.0))


def _status(verdict: VerdictEntry, failing: str) -> tuple[Status, str]:
    violation = verdict.violation
    found = f"expected {violation.expected}, actual {violation.actual}" if violation else verdict.reason
    match verdict.outcome:
        case Outcome.PASS:
            return Status.PASSED, ""
        case Outcome.ERROR:
            return Status.BROKEN, f"the lab failed: {verdict.reason}"
        case Outcome.FAIL if verdict.known is not None:
            return Status.KNOWN, f"known failure: {verdict.known}"
        case Outcome.FAIL:
            return Status.FAILED, found
        case _ if failing:
            return Status.FAILED, failing
        case Outcome.WARN:
            return Status.WARNED, found
        case Outcome.FLAKY:
            return Status.WARNED, f"flaky: {verdict.reason}"
        case _:
            return Status.SKIPPED, f"{verdict.outcome}: {verdict.reason}"
