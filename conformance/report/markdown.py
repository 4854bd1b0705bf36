"""A small summary in Markdown, for a pull request or a CI job's page: the conclusion, what changed, the stages, what failed."""

from __future__ import annotations

import re
from collections.abc import Iterator

from conformance.judging.compare import Change, compare
from conformance.judging.models import Results, VerdictEntry
from conformance.judging.summary import (
    STRICT,
    evidence_of,
    gate_failures,
    lab_failures,
    unproven,
    worst_with_outcome,
)
from conformance.report.cards import word
from conformance.report.conclusion import State, conclude, gate
from conformance.report.failure import Followers, commands, followers_of
from conformance.report.terminal import number_shown, shown_columns, shown_rows
from conformance.suite.check import Outcome
from conformance.wire.decode import printable, shortened

LARGEST = 1_000_000
"""Bytes. GitHub takes 1 MiB a step, and nothing of a summary that is larger."""
MARKS = {State.QUALIFIES: "✅", State.FAILS: "❌", State.LAB: "❌"}
OTHER_MARK = "⚠️"
LONGEST = 500
"""Characters that a finding shows of what a driver said."""
CHANGES = 20
"""Changes since the baseline that are named."""


def markdown(results: Results, before: Results | None = None) -> str:
    """Return the summary, cut where it would be too large, with the changes since the baseline ``before``."""
    parts = [*_conclusions(results), *(_changes(before, results) if before else ()), *_table(results)]
    size = sum(len(part.encode()) + 1 for part in parts)
    findings = list(_findings(results))
    for at, finding in enumerate(findings):
        size += len(finding.encode()) + 2
        if size > LARGEST:
            parts.append(f"\nand {len(findings) - at} more, for which there is no room here.")
            break
        parts.append(f"\n{finding}")
    return "\n".join([*parts, ""])


def _conclusions(results: Results) -> Iterator[str]:
    for entry in results.cover:
        yield f"{_text(str(entry))}.\n"
    if results.unfinished:
        yield f"**Partial result**: {_text(results.unfinished)}.\n"
    if missing := ", ".join(map(str, results.missing_shards)):
        yield f"**Partial result**: of {results.shards[0].of} shards there is no {missing}.\n"
    state = gate(results)
    yield f"{'✅' if state.is_green else '❌'} **{_text(state.text)}**\n"
    for driver in results.drivers:
        conclusion = conclude(results, driver)
        yield f"{MARKS.get(conclusion.state, OTHER_MARK)} {_text(conclusion.text)}\n"
    strict = [(verdict, reason) for verdict, reason in gate_failures(results) if verdict.outcome is not Outcome.FAIL]
    if strict:
        yield "❌ **Failed by --strict:**\n"
        yield from (
            f"- {_code(verdict.check)} {_text(verdict.driver)}: {_text(reason.removeprefix(STRICT))}"
            for verdict, reason in strict
        )
        yield ""
    elif not_proven := unproven(results):
        yield f"{OTHER_MARK} Mandatory and not proven: {', '.join(_code(verdict.check) for verdict in not_proven)}\n"


def _changes(before: Results, results: Results) -> Iterator[str]:
    found = compare(before, results)
    yield (
        f"Since the baseline: **{len(found.regressions)} regressions**, {len(found.fixes)} fixed, {len(found.new)} new, "
        f"{len(found.lost)} lost; {found.compared} verdicts compared.\n"
    )
    changes = [*found.regressions, *found.fixes]
    yield from (f"- {_change(change)}" for change in changes[:CHANGES])
    if changes[CHANGES:]:
        yield f"- and {len(changes) - CHANGES} more"
    yield ""


def _change(change: Change) -> str:
    more = f" and {len(change.scenarios) - 1} more" if len(change.scenarios) > 1 else ""
    where = _text(f"{change.driver} on {change.device}, {change.scenarios[0]}{more}")
    return f"{change.old} → **{change.new}** {_code(change.check)} — {where}"


def _table(results: Results) -> Iterator[str]:
    found = shown_rows(results)
    columns = shown_columns(found)
    headings = ["stage", "driver", "device", *(heading for heading, _, _ in columns), "verdict"]
    yield f"| {' | '.join(headings)} |"
    yield f"|{'|'.join(['---'] * 3 + ['--:'] * len(columns) + ['---'])}|"
    for row in found:
        numbers = [str(number_shown(row, outcome)) for _, outcome, _ in columns]
        yield f"| {' | '.join([row.stage, _text(row.driver), _text(row.device), *numbers, f'**{row.word}**'])} |"


def _findings(results: Results) -> Iterator[str]:
    for reason, (first, *more) in lab_failures(results).items():
        yield f"**ERROR** {_text(first)}{f' and {len(more)} more' if more else ''}  \n{_code(shortened(reason, LONGEST))}"
    followers = followers_of(results)
    for verdict, _ in worst_with_outcome(results, Outcome.FAIL, Outcome.FLAKY, Outcome.WARN):
        yield "\n".join(_finding(results, verdict, followers))


def _finding(results: Results, verdict: VerdictEntry, followers: Followers) -> Iterator[str]:
    where = _text(f"{verdict.driver} on {verdict.device}, {verdict.scenario}")
    yield f"**{word(verdict)}** {_code(verdict.check)} — {where}  "
    yield f"{_text(f'The driver {verdict.statement[:1].lower()}{verdict.statement[1:]} ({verdict.cite})')}  "
    if (finding := verdict.violation) is not None:
        yield f"expected {_code(shortened(finding.expected, LONGEST))}, actual {_code(shortened(finding.actual, LONGEST))}  "
    if verdict.known is not None:
        yield f"{_text(verdict.known)}  "
        return
    if verdict.seen:
        yield f"the device saw: {_text(verdict.seen)}  "
    yield from (f"{_code(row)}  " for row in verdict.wire)
    if found := followers.get((*verdict.key[:2], verdict.check)):
        yield f"{len(found)} further checks only follow from it: {', '.join(map(_code, found))}  "
    if place := evidence_of(results, verdict):
        yield f"evidence {_code(place)}  "
    yield f"next {', '.join(map(_code, commands(results, verdict)))}"


def _text(text: str) -> str:
    """As text, whatever of it would be Markdown or HTML."""
    return re.sub(r"([\\`*_\[\]<>|~#&!])", r"\\\1", " ".join(printable(text).split()))


def _code(text: str) -> str:
    """As code, whatever backticks it holds: the fence is longer than each of their runs."""
    flat = " ".join(printable(text).split()) or " "
    runs = re.findall("`+", flat)
    if not runs:
        return f"`{flat}`"
    fence = "`" * (max(map(len, runs)) + 1)
    return f"{fence} {flat} {fence}"
