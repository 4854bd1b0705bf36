"""Failures as CI servers show them beside a change: GitHub's workflow commands, GitLab's code quality report."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from conformance.judging.models import FILE, Results, VerdictEntry
from conformance.judging.summary import evidence_of, gate_failures, lab_failures, worst_with_outcome
from conformance.report.junit import explanation
from conformance.report.source import place_in_repository
from conformance.suite.check import Outcome
from conformance.wire.decode import printable, printable_lines

SHOWN = 10
"""Annotations of one kind that GitHub shows for a step; it drops further ones without a word."""

SEVERITIES = {Outcome.FAIL: "critical", Outcome.FLAKY: "minor", Outcome.WARN: "minor"}
STRICT_SEVERITY = "major"
KNOWN_SEVERITY = "info"
"""GitLab's words."""


@dataclass(frozen=True)
class Annotation:
    """What GitHub shows at a line of the repository; without a file, on the job's page only."""

    title: str
    text: str
    file: str = ""
    line: int = 1


def github(results: Results) -> str:
    """Return one command per line: errors for failed checks and the lab's failures, warnings for recommendations not met."""
    failed = [_annotation(results, verdict) for verdict in _unknown(results, Outcome.FAIL)]
    broken = [
        Annotation(f"the lab failed in {scenarios[0]}", printable_lines(reason))
        for reason, scenarios in lab_failures(results).items()
    ]
    advice = [_annotation(results, verdict) for verdict in _unknown(results, Outcome.WARN)]
    strict = [
        _annotation(results, verdict, f"{printable_lines(reason)}\n")
        for verdict, reason in gate_failures(results)
        if verdict.outcome is not Outcome.FAIL
    ]
    if strict:
        advice = [one for one in advice if one.title not in {other.title for other in strict}]
    flaky = [_annotation(results, verdict) for verdict in _unknown(results, Outcome.FLAKY)]
    return "".join([*_commands("error", broken + failed + strict), *_commands("warning", advice + ([] if strict else flaky))])


def _annotation(results: Results, verdict: VerdictEntry, before: str = "") -> Annotation:
    file, line = place_in_repository(results, verdict)
    return Annotation(_title(verdict), before + explanation(results, verdict), file, line)


def _commands(kind: str, reported: Sequence[Annotation]) -> Iterator[str]:
    shown = reported if len(reported) <= SHOWN else reported[: SHOWN - 1]
    for one in shown:
        where = f"file={_property(one.file)},line={one.line}," if one.file else ""
        yield f"::{kind} {where}title={_property(one.title)}::{_data(one.text)}\n"
    if len(shown) < len(reported):
        yield f"::{kind} title=nvme-lab::and {len(reported) - len(shown)} more, which the summary and the report list\n"


def _title(verdict: VerdictEntry) -> str:
    return f"{verdict.check}: {verdict.driver} on {verdict.device}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(printable(text)).replace(":", "%3A").replace(",", "%2C")


def gitlab(results: Results) -> str:
    """Return a code quality report as JSON: an entry per check that failed or whose recommendation was not met.

    A fingerprint names driver, device and check, so that a merge request shows what came and what went.
    """
    strict = {verdict.key: reason for verdict, reason in gate_failures(results) if verdict.outcome is not Outcome.FAIL}
    entries = [
        _entry(results, verdict, strict.get(verdict.key, ""))
        for verdict, _ in worst_with_outcome(results, *Outcome)
        if verdict.outcome in SEVERITIES or verdict.key in strict
    ]
    return json.dumps(entries, indent=1, ensure_ascii=False)


def _entry(results: Results, verdict: VerdictEntry, strict: str) -> dict[str, Any]:
    finding = verdict.violation
    severity = SEVERITIES.get(verdict.outcome, KNOWN_SEVERITY) if verdict.known is None else KNOWN_SEVERITY
    said = f": {strict}" if strict else f": expected {finding.expected}, actual {finding.actual}" if finding else ""
    path, line = place_in_repository(results, verdict)
    if not path:
        path, line = _place(evidence_of(results, verdict))
    return {
        "description": printable(f"{_title(verdict)}{said}"),
        "check_name": printable(verdict.check),
        "fingerprint": sha256("\0".join((verdict.driver, verdict.device, verdict.check)).encode()).hexdigest(),
        "severity": STRICT_SEVERITY if strict else severity,
        "location": {"path": printable(path), "lines": {"begin": line}},
    }


def _place(evidence: str) -> tuple[str, int]:
    """Return the file and line of a place in the evidence; line 1 where it is no line of text."""
    file, _, line = evidence.rpartition(":")
    if line.isdecimal():
        return file, max(int(line), 1)
    return evidence.partition(", record ")[0] or FILE, 1


def _unknown(results: Results, outcome: Outcome) -> Iterator[VerdictEntry]:
    return (verdict for verdict, _ in worst_with_outcome(results, outcome) if verdict.known is None)
