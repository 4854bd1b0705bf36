"""The other half of the proof: does the suite leave legal drivers alone? No check may fail on a legal variant anywhere.

Many variants can live in one driver. All of them go through every scenario in as few combinations as possible; where one of
these raises an alarm, its members go through the scenario one by one, to name the one that does. Each variant also goes alone
through a scenario where it is said to show, and must send the device something other than the unmodified driver does there:
a variant that changes nothing proves nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from conformance.proof.recording import Alarm, Doing, alarm, golden, recorded, verdicts
from conformance.suite.check import Outcome
from conformance.suite.selection import CHECKS, SCENARIOS
from lab.variants import JOIN, VARIANTS, Variant

CLEARLY_SECONDS = 0.8
"""A difference in the time of the device's clock, which runs on, that no busy machine makes."""


@dataclass(frozen=True)
class Complaint:
    """An alarm about one variant, or about several that raise it only together (ids joined by "+")."""

    variant: str
    alarm: Alarm


@dataclass(frozen=True)
class VariantReport:
    """What came of one variant."""

    variant: str
    shows: str  # the scenario where the device sees the difference; "" if it sees none
    alarms: tuple[Alarm, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as ``nvme-lab defects --json`` prints it."""
        one = VARIANTS[self.variant]
        return {
            "id": one.id,
            "summary": one.summary,
            "allowed": one.allowed,
            "may_warn": list(one.warns),
            "shows": self.shows,
            "false_alarms": [vars(alarm) for alarm in self.alarms],
        }


def alarms_of(scenario: str, seed: int, variants: Sequence[str]) -> list[Alarm]:
    """Return what fails in a scenario on the driver that has these variants, beyond what they leave undone by intention."""
    may_warn = {check for id in variants for check in VARIANTS[id].warns}
    found = verdicts(scenario, seed, variant=JOIN.join(variants))
    return [alarm(v) for v in found if v.outcome in (Outcome.FAIL, Outcome.ERROR)
            or (v.outcome is Outcome.WARN and v.check.id not in may_warn)]  # fmt: skip


def complaints(scenario: str, seed: int, variants: Sequence[str]) -> list[Complaint]:
    """Return the alarms about a combination in a scenario, each with the variant that raises it alone if there is one."""
    together = alarms_of(scenario, seed, variants)
    if not together or len(variants) == 1:
        return [Complaint(variants[0], one) for one in together]
    alone = [Complaint(id, one) for id in variants for one in alarms_of(scenario, seed, [id])]
    return alone or [Complaint(JOIN.join(variants), one) for one in together]


def shows(variant: Variant, seed: int) -> str:
    """Return the first of its scenarios in which the device sees something else than from the unmodified driver; else ""."""
    return next((scenario for scenario in variant.scenarios if _differs(scenario, seed, variant.id)), "")


def _differs(scenario: str, seed: int, variant: str) -> bool:
    """Return whether the device sees other events, or sees them over a clearly longer or shorter time."""
    plain = golden(scenario, seed).doing
    with recorded(scenario, seed, variant=variant) as record:
        changed = Doing.of(record.events)
    return changed.steps != plain.steps or abs(changed.seconds - plain.seconds) > CLEARLY_SECONDS


def unknown_names(variant: Variant) -> Collection[str]:
    """Return the scenarios and checks that a variant names and the suite does not have."""
    return {name for name in variant.scenarios if name not in SCENARIOS} | {
        name for name in variant.warns if name not in CHECKS
    }
