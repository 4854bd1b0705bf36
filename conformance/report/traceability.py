"""Traceability as CSV: section → check → scenario → verdict → evidence, a line each, for auditors and spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from conformance.judging.models import Results
from conformance.judging.summary import evidence_of, stage_index
from conformance.report.reference import LEVELS
from conformance.wire.decode import printable

COLUMNS = (
    "document", "section", "title", "check", "level", "statement", "driver", "version", "device", "scenario", "outcome",
    "known failure", "reason", "expected", "actual", "evidence",
)  # fmt: skip
FORMULAS = ("=", "+", "-", "@", "\t")
"""How a text begins that a spreadsheet would compute."""


def traceability(results: Results) -> str:
    """Return the table, by document and section."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([_safe(text) for text in row] for row in _rows(results))
    return out.getvalue()


def _rows(results: Results) -> Iterator[list[str]]:
    order = sorted(results.verdicts, key=lambda v: (v.cite.revision, _numbers(v.cite.section), stage_index(v.stage), v.check))
    for verdict in order:
        entry, finding = results.drivers.get(verdict.driver), verdict.violation
        yield [
            verdict.cite.revision, verdict.cite.section, verdict.cite.title, verdict.check, LEVELS[verdict.level],
            verdict.statement, verdict.driver, entry.version if entry else "", verdict.device, verdict.scenario,
            str(verdict.outcome), verdict.known or "", verdict.reason, finding.expected if finding else "",
            finding.actual if finding else "", evidence_of(results, verdict),
        ]  # fmt: skip


def _numbers(section: str) -> list[tuple[int, str]]:
    """Return a sort key by which 3.10 follows 3.9."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in section.split(".")]


def _safe(text: str) -> str:
    """Return the text on a line, and as text to a spreadsheet too."""
    shown = printable(text)
    return f"'{shown}" if shown.startswith(FORMULAS) and len(shown) > 1 else shown
