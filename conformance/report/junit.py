"""JUnit XML for CI servers: a test suite a scenario, a test case a verdict.

GitLab takes no file above 30 MB, refuses XML of more than 250,000 objects and takes cases of one name for one; a case here is
some five objects. So a verdict that nothing was observed is left out where the same check says something in another
scenario, or belongs to a stage that was not selected: it has no information, and a third of all verdicts are such.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from conformance.judging.models import Results, VerdictEntry
from conformance.judging.summary import asked_for, gate_failures
from conformance.report.failure import Followers, facts, followers_of, recording_command
from conformance.suite.check import Outcome
from conformance.wire.decode import printable_lines

LONGEST = 4000
"""Characters of a failure's text."""
SHORT = 200
"""Characters of a message, which servers show in a row of a table."""
SILENT = frozenset({Outcome.INCONCLUSIVE, Outcome.UNSUPPORTED})


def junit(results: Results) -> str:
    """Return the document as text."""
    document = JUnitXml("nvme-lab")
    cases: dict[tuple[str, str, str], list[TestCase]] = {}
    seconds = {run.key: run.seconds for run in results.runs}
    failing = {verdict.key: reason for verdict, reason in gate_failures(results)}
    followers = followers_of(results)
    for verdict in _telling(results):
        suite = cases.setdefault(verdict.key[:3], [])
        took = 0.0 if suite else seconds.get(verdict.key[:3], 0.0)
        suite.append(_case(results, verdict, failing.get(verdict.key, ""), took, followers))
    for key, found in cases.items():
        made = TestSuite(printable_lines("/".join(key)))
        for name, value in properties(results, key):
            made.add_property(name, printable_lines(value))
        made.add_testcases(found)  # all at once: it counts them anew each time
        document.add_testsuite(made)
    document.update_statistics()  # type: ignore[no-untyped-call]
    text: bytes = document.tostring()  # type: ignore[no-untyped-call]  # junitparser has no types
    root = ElementTree.fromstring(text)
    ElementTree.indent(root, " ")
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def properties(results: Results, key: tuple[str, str, str]) -> Iterator[tuple[str, str]]:
    """Yield (name, value) of what a scenario's verdicts rest on, and how to record it again."""
    entry = results.drivers.get(key[0])
    yield from ((name, value) for name, value in (("driver.version", entry.version if entry else ""),) if value)
    yield "lab.version", str(results.lab.get("version", ""))
    yield "seed", str(results.lab.get("seed", ""))
    yield "replay", recording_command(results, *key)


def _telling(results: Results) -> Iterator[VerdictEntry]:
    """All verdicts but those that are silent where their check speaks elsewhere; of one that never speaks, the first."""
    reported = {(v.driver, v.device, v.check) for v in results.verdicts if v.outcome not in SILENT}
    for verdict in results.verdicts:
        check = verdict.driver, verdict.device, verdict.check
        if verdict.outcome not in SILENT or (check not in reported and asked_for(results, verdict)):
            reported.add(check)
            yield verdict


def _case(results: Results, verdict: VerdictEntry, failing: str, seconds: float, followers: Followers) -> TestCase:
    """Return a test case; ``failing`` is why the verdict fails the run beside a plain failure (--strict)."""
    where = f"{verdict.driver}.{verdict.device}.{verdict.scenario}"
    case = TestCase(printable_lines(verdict.check), printable_lines(where), seconds)
    text = explanation(results, verdict, followers)[:LONGEST] if verdict.outcome in (Outcome.FAIL, Outcome.WARN) else ""
    match verdict.outcome:
        case Outcome.FAIL if verdict.known is None:
            case.result = [Failure(_message(text), "nvme-lab")]
            case.result[0].text = text
        case Outcome.ERROR:
            reason = printable_lines(verdict.reason)
            case.result = [Error(_message(reason), "lab")]
            case.result[0].text = reason[:LONGEST]
        case Outcome.INCONCLUSIVE | Outcome.WARN | Outcome.FLAKY if failing:
            case.result = [Failure(_message(printable_lines(failing)), "nvme-lab --strict")]
            case.result[0].text = printable_lines(f"{failing}\n{explanation(results, verdict, followers)}")[:LONGEST]
        case Outcome.FLAKY:
            case.result = [Skipped(_message(f"FLAKY: {printable_lines(verdict.reason)}"))]
        case Outcome.FAIL:
            case.result = [Skipped(_message(f"known failure: {printable_lines(verdict.known or '')}"))]
        case Outcome.UNSUPPORTED | Outcome.INCONCLUSIVE:
            case.result = [Skipped(_message(f"{verdict.outcome}: {printable_lines(verdict.reason)}"))]
        case Outcome.WARN:
            case.system_out = f"WARN: {text}"
    return case


def _message(text: str) -> str:
    first = text.partition("\n")[0]
    return first if len(first) <= SHORT else f"{first[: SHORT - 1]}…"


def explanation(results: Results, verdict: VerdictEntry, followers: Followers | None = None) -> str:
    """Return everything that explains a verdict, in lines without control characters."""
    lines = []
    for label, text in facts(results, verdict, followers=followers):
        between = "\n  " if "\n" in text else " "
        lines.append(text if label == "rule" else f"{label}:{between}{text.replace(chr(10), chr(10) + '  ')}")
    return printable_lines("\n".join(lines))
