"""A small summary in Markdown, for a pull request or a CI job's page."""

from __future__ import annotations

from collections.abc import Iterator

from conformance.check import Outcome
from conformance.report.terminal import COLUMNS
from conformance.results import Results, Row, evidence_of, lab_failures, rows, speaking


def markdown(results: Results) -> str:
    """The table of stages, then what failed."""
    return "\n".join([*_table(results), *_findings(results), ""])


def _table(results: Results) -> Iterator[str]:
    headings = ["stage", "driver", "device", *(heading for heading, _, _ in COLUMNS), "verdict"]
    yield f"| {' | '.join(headings)} |"
    yield f"|{'|'.join(['---'] * 3 + ['--:'] * len(COLUMNS) + ['---'])}|"
    for row in rows(results):
        numbers = [str(_number(row, outcome)) for _, outcome, _ in COLUMNS]
        yield f"| {' | '.join([row.stage, row.driver, row.device, *numbers, f'**{row.word}**'])} |"
    if results.unfinished:
        yield f"\n**Partial result**: {results.unfinished}."


def _number(row: Row, outcome: Outcome | None) -> int:
    return row.known if outcome is None else row.counts.get(outcome, 0)


def _findings(results: Results) -> Iterator[str]:
    for reason, (first, *more) in lab_failures(results).items():
        yield f"\n**ERROR** {first}{f' and {len(more)} more' if more else ''}  \n{_code(reason)}"
    for verdict, _ in speaking(results, Outcome.FAIL, Outcome.WARN):
        word = "known" if verdict.known is not None else str(verdict.outcome)
        yield f"\n**{word}** `{verdict.check}` — {verdict.driver} on {verdict.device}, {verdict.scenario}  "
        yield f"The driver {verdict.statement[:1].lower()}{verdict.statement[1:]} ({verdict.cite})  "
        if (finding := verdict.violation) is not None:
            yield f"expected {_code(finding.expected)}, actual {_code(finding.actual)}  "
        if verdict.known is not None:
            yield f"{verdict.known}  "
        if place := evidence_of(results, verdict):
            yield f"evidence {_code(place)}"


def _code(text: str) -> str:
    """As code, whatever backticks it holds."""
    flat = " ".join(text.split())
    return f"`` {flat} ``" if "`" in flat else f"`{flat}`"
