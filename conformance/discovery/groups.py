"""Failures that are one: of the same kind, at the same place in the driver."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel

from conformance.discovery.journal import Entry
from conformance.discovery.oracles import RECOVERS, without_numbers

Control = Literal["", "passes", "fails too", "is not struck"]


class Group(BaseModel):
    """Trials whose first failure is the same."""

    check: str
    outcome: str
    expected: str
    actual: str
    where: str
    cases: list[str] = []
    also: list[str] = []
    """Other checks that failed in the same trials, after this one."""
    confirmed: bool | None = None
    """Whether the first case failed once more; None where it was not tried."""
    control: Control = ""
    """What the reference driver made of the first case: where it fails too, the finding is the lab's until proven otherwise."""
    function: str = ""
    """How far the driver came in the first case, where it runs in a guest and its code is known."""
    evidence: str = ""
    scenario: str = ""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Return what its failures share."""
        return self.check, without_numbers(self.expected), without_numbers(self.actual), without_numbers(self.where)

    @property
    def counts(self) -> bool:
        """Whether it is a finding about the driver: mandatory, seen twice, and not made by the reference driver too."""
        return self.check != RECOVERS and self.confirmed is not False and self.control != "fails too"


def joined(groups: Iterable[Group]) -> list[Group]:
    """Return the groups, those as one that are of the same kind and came as far in the driver."""
    found: dict[tuple[str, ...], Group] = {}
    for number, group in enumerate(groups):
        check, expected, actual, where = group.key
        kept = found.setdefault((check, expected, actual, group.function or f"{where} {number}"), group)
        if kept is not group:
            kept.cases += group.cases
            kept.also = sorted({*kept.also, *group.also})
    return _ordered(found.values())


def _ordered(groups: Iterable[Group]) -> list[Group]:
    return sorted(groups, key=lambda group: (group.check == RECOVERS, -len(group.cases), group.key))


def grouped(entries: Iterable[Entry]) -> list[Group]:
    """Return the failures of all trials in groups: mandatory rules first, then those with the most cases."""
    found: dict[tuple[str, str, str, str], Group] = {}
    for entry in entries:
        if not entry.failures:
            continue
        first, *others = entry.failures
        group = Group(
            check=first.check,
            outcome=first.outcome,
            expected=first.expected,
            actual=first.actual,
            where=entry.where,
        )
        kept = found.setdefault(group.key, group)
        kept.cases.append(entry.case)
        kept.also = sorted({*kept.also, *(other.check for other in others)})
    return _ordered(found.values())
