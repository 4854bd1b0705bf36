"""The verdicts on a recording. The suite judges; it is found by its entry point, for the lab never imports it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, cast

from lab.errors import LabError

JUDGES = "nvme_lab.judges"
"""Entry points: functions from an evidence folder to verdicts in the form of results.json."""
SUITE = "suite"
BAD = ("FAIL", "ERROR", "WARN")
"""Outcomes that are no success."""


@dataclass(frozen=True)
class Verdict:
    """The verdict of one check; ``findings`` are its violations, a sentence each."""

    check: str
    level: str  # M, R or O
    outcome: str
    statement: str
    reason: str
    findings: tuple[str, ...]

    def __str__(self) -> str:
        """Return the verdict in words."""
        said = "; ".join(self.findings) or self.reason or self.statement
        return f"{self.outcome} {self.check}: {said}"


class Verdicts(tuple[Verdict, ...]):
    """All verdicts on a recording."""

    __slots__ = ()

    @property
    def failed(self) -> Verdicts:
        """Those of mandatory checks that failed, and errors of the lab."""
        return Verdicts(one for one in self if one.outcome in ("FAIL", "ERROR"))

    @property
    def warned(self) -> Verdicts:
        """Those of recommended and optional checks that were not met."""
        return Verdicts(one for one in self if one.outcome == "WARN")

    @property
    def passed(self) -> Verdicts:
        """Those of checks that saw what they wanted."""
        return Verdicts(one for one in self if one.outcome == "PASS")

    def of(self, check: str) -> Verdict:
        """Return the verdict of a check; KeyError if it was not judged."""
        for one in self:
            if one.check == check:
                return one
        raise KeyError(check)

    def __str__(self) -> str:
        """Return the violations, a line each, and the count of what passed."""
        return "\n".join([*map(str, [one for one in self if one.outcome in BAD]), f"{len(self.passed)} checks passed"])


def judge(folder: Path) -> Verdicts:
    """Judge an evidence folder. LabError if the suite is not installed."""
    points = entry_points(group=JUDGES, name=SUITE)
    if not points:
        raise LabError("nothing here judges: the suite is not installed", remedy="install nvme-lab again: pip install -e .")
    ask = cast(Callable[[Path], Sequence[dict[str, Any]]], next(iter(points)).load())
    return Verdicts(_verdict(one) for one in ask(folder))


def _verdict(one: dict[str, Any]) -> Verdict:
    violations = tuple(
        f"expected {found['expected']}, but {found['actual']} ({found['place'] or 'the whole recording'})"
        for found in one["findings"]
        if not found["ok"]
    )
    return Verdict(one["check"], one["level"], one["outcome"], one["statement"], one["reason"], violations)
