"""What is judged of a driver whatever goes wrong: no panic, no hang, no wrong data, no rule of the wire broken, recovery."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from conformance.discovery.behaviours import RECOVERY, Effect
from conformance.judging.judge import Verdict, judge
from conformance.record.record import Record
from conformance.suite.check import MANDATORY, Check, Outcome
from conformance.suite.selection import select
from lab.data.events import FaultInjected
from lab.data.evidence import Evidence
from lab.data.plan import Scenario

SAFETY = frozenset({"every/panic", "every/answer"})
"""What every driver owes, whatever its device does: it leaves the guest alive, and it answers."""
RECOVERS = "every/recovers"
"""The id of a failure to work again on a device that is in order again. No check of the suite: no specification asks for it."""
_NUMBER = re.compile(r"0x[0-9a-f]+|\b[0-9a-f]{8,}\b|\d+")


@dataclass(frozen=True)
class Failure:
    """One check that failed, in a form that travels and is kept."""

    check: str
    outcome: str  # FAIL, or WARN
    expected: str = ""
    actual: str = ""
    t: float = 0.0

    @property
    def rank(self) -> tuple[int, float]:
        """Return what orders failures of one trial: a panic, a missing answer, the first in time, no recovery."""
        order = ("every/panic", "every/answer")
        return order.index(self.check) if self.check in order else 3 if self.check == RECOVERS else 2, self.t

    @property
    def kind(self) -> tuple[str, str, str]:
        """Return what failures of one kind share: the check, and both sides of the finding without their numbers."""
        return self.check, without_numbers(self.expected), without_numbers(self.actual)


def without_numbers(text: str) -> str:
    """Return the text with a mark in place of each number, address and row of bytes."""
    return _NUMBER.sub("#", text)


def judging(scenario: Scenario, effects: Collection[Effect]) -> list[Check]:
    """Return the mandatory checks that may judge a driver in front of a device with these effects."""
    checks = [check for check in select().checks_for(scenario) if check.level == MANDATORY]
    if Effect.DATA_LIE in effects:
        return [check for check in checks if check.id in SAFETY]
    if Effect.WIRE_LIE in effects:
        return [check for check in checks if check.id in SAFETY or "store" in check.witnesses]
    return checks


def failures(evidence: Evidence, checks: Iterable[Check], *, recovers: bool) -> tuple[list[Failure], list[str]]:
    """Return what failed, and what the lab could not judge; with ``recovers`` also whether the driver works at the end.

    Known failures of the manifest and violated recommendations are left out.
    """
    found, errors = [], []
    for verdict in judge(evidence, checks):
        if verdict.outcome is Outcome.ERROR:
            errors.append(f"{verdict.check.id}: {verdict.reason}")
        elif verdict.outcome is Outcome.FAIL and verdict.known is None:
            found.append(_failure(verdict))
    if recovers and not errors and not any(one.check in SAFETY for one in found):
        found += _not_recovered(Record(evidence))
    return sorted(found, key=lambda failure: failure.rank), list(dict.fromkeys(errors))


def _failure(verdict: Verdict) -> Failure:
    broken = next(finding for finding in verdict.findings if not finding.ok)
    t = broken.event.t if broken.event else 0.0
    return Failure(verdict.check.id, str(verdict.outcome), str(broken.expected), str(broken.actual), t)


def _not_recovered(record: Record) -> Iterator[Failure]:
    """Yield a failure where the driver does not work in the questions of `RECOVERY`, although nothing struck it there."""
    asked = record.asked[-len(RECOVERY) :]
    if tuple(one.action for one in asked) != RECOVERY or any(one.status in (None, "unsupported") for one in asked):
        return
    if any(strike.t >= asked[1].started.t for strike in record.all(FaultInjected)):
        return
    last = next((one for one in asked[1:] if not one.ok), None)
    if last is not None:
        yield Failure(
            RECOVERS, str(Outcome.WARN), "a driver that works after it was loaded again", f"{last.action}: {last.said}"
        )
