"""JUnit XML for CI servers: a test suite a scenario, a test case a verdict."""

from __future__ import annotations

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from conformance.check import Outcome
from conformance.results import Results, VerdictEntry, evidence_of

LONGEST = 4000
"""Characters of a failure's text."""


def junit(results: Results) -> str:
    """The document as text."""
    document = JUnitXml("nvme-lab")
    cases: dict[tuple[str, str, str], list[TestCase]] = {}
    seconds = {run.key: run.seconds for run in results.runs}
    for verdict in results.verdicts:
        suite = cases.setdefault(verdict.key[:3], [])
        suite.append(_case(results, verdict, 0.0 if suite else seconds.get(verdict.key[:3], 0.0)))
    for key, found in cases.items():
        made = TestSuite("/".join(key))
        made.add_testcases(found)  # all at once: it counts them anew each time
        document.add_testsuite(made)
    text: bytes = document.tostring()  # type: ignore[no-untyped-call]  # junitparser has no types
    return text.decode()


def _case(results: Results, verdict: VerdictEntry, seconds: float) -> TestCase:
    case = TestCase(verdict.check, f"{verdict.driver}.{verdict.device}.{verdict.scenario}", seconds)
    text = explanation(results, verdict)[:LONGEST] if verdict.outcome in (Outcome.FAIL, Outcome.WARN) else ""
    match verdict.outcome:
        case Outcome.FAIL if verdict.known is None:
            case.result = [Failure(text.partition("\n")[0], verdict.check)]
            case.result[0].text = text
        case Outcome.ERROR:
            case.result = [Error(verdict.reason.partition("\n")[0][:LONGEST], "lab")]
            case.result[0].text = verdict.reason[:LONGEST]
        case Outcome.FAIL:
            case.result = [Skipped(f"known failure: {verdict.known}")]
        case Outcome.UNSUPPORTED | Outcome.INCONCLUSIVE:
            case.result = [Skipped(f"{verdict.outcome}: {verdict.reason}")]
        case Outcome.WARN:
            case.system_out = f"WARN: {text}"
    return case


def explanation(results: Results, verdict: VerdictEntry) -> str:
    """The rule, what was expected, what was there, and where to look, in lines."""
    lines = [f"The driver {verdict.statement[:1].lower()}{verdict.statement[1:]}"]
    if (finding := verdict.violation) is not None:
        lines += [f"expected: {finding.expected}", f"actual: {finding.actual}"]
    lines.append(f"cites: {verdict.cite}")
    if place := evidence_of(results, verdict):
        lines.append(f"evidence: {place}")
    return "\n".join(lines)
