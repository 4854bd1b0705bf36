"""The history of drivers, as an HTML page of its own and as a section of the report: versions, transitions, trends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from os.path import relpath
from pathlib import Path

from conformance.judging.history import ALWAYS, NEVER, History, Row, Transition
from conformance.report import charts
from conformance.report.charts import Chart
from conformance.report.trends import trends
from conformance.suite.check import Outcome
from conformance.wire.around import Around


@dataclass(frozen=True)
class HistoryView:
    """A history with what is at hand of its evidence."""

    history: History
    differences: Mapping[Transition, Around | None] = field(default_factory=dict)
    """How the wires of a transition's two sides differ."""
    folder: Path = Path()
    """Where the page will lie: links to evidence are relative to it."""

    error = Outcome.ERROR
    warn = Outcome.WARN
    sheet = charts
    """Names that ``history.parts.j2`` uses."""

    @property
    def trends(self) -> Mapping[str, list[Chart]]:
        """Each driver's charts over its versions."""
        return {driver: list(trends(points)) for driver, points in self.history.trend.items()}

    def rows(self, driver: str) -> list[Row]:
        """Return the checks that some version violates, those that changed first."""
        own = [row for row in self.history.rows if row.driver == driver and row.words != (NEVER,)]
        return sorted(own, key=lambda row: row.words == (ALWAYS,))

    def link(self, evidence: str) -> str:
        """Return the address of an evidence folder for the page."""
        return relpath(evidence, self.folder.resolve())
