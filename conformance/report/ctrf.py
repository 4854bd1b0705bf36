"""CTRF, the Common Test Report Format: JSON that dashboards and actions of several CI servers read."""

from __future__ import annotations

import json
from calendar import timegm
from collections import Counter
from time import strptime
from typing import Any

from conformance.judging.models import Results
from conformance.report.cases import Case, Status, cases
from conformance.report.failure import again
from conformance.report.reference import LEVELS
from conformance.suite.check import Outcome

SPECIFICATION = "0.0.0"
STATUSES = {
    Status.PASSED: "passed", Status.FAILED: "failed", Status.BROKEN: "failed", Status.KNOWN: "other", Status.WARNED: "other",
    Status.SKIPPED: "skipped",
}  # fmt: skip
STARTED = "%Y-%m-%dT%H:%M:%SZ"


def ctrf(results: Results) -> str:
    """Return the document."""
    tests = [_test(results, case) for case in cases(results)]
    counts = Counter(test["status"] for test in tests)
    start = _milliseconds(results.lab.get("started"))
    duration = sum(round(run.seconds * 1000) for run in results.runs)
    document = {
        "reportFormat": "CTRF",
        "specVersion": SPECIFICATION,
        "generatedBy": "nvme-lab",
        "results": {
            "tool": {"name": "nvme-lab", "version": str(results.lab.get("version", ""))},
            "summary": {
                "tests": len(tests),
                **{status: counts[status] for status in ("passed", "failed", "skipped", "pending", "other")},
                "start": start,
                "stop": start + duration,
            },
            "tests": tests,
            "extra": {"seed": results.lab.get("seed"), "drivers": {name: one.version for name, one in results.drivers.items()}},
        },
    }
    return json.dumps(document, indent=1, ensure_ascii=False)


def _test(results: Results, case: Case) -> dict[str, Any]:
    verdict = case.verdict
    test: dict[str, Any] = {
        "name": case.name,
        "status": STATUSES[case.status],
        "duration": round(case.seconds * 1000),
        "suite": [verdict.driver, verdict.device, verdict.stage],
        "rawStatus": str(verdict.outcome),
        "tags": [verdict.stage, LEVELS[verdict.level]],
        "extra": {"rule": str(verdict.cite), "again": again(results, verdict)},
    }
    if case.why:
        test["message"] = case.why
    if case.status is not Status.SKIPPED and case.text:
        test["trace"] = case.text
    if verdict.outcome is Outcome.FLAKY:
        test["flaky"] = True
    entry = results.drivers.get(verdict.driver)
    if entry and entry.source:
        test |= {"filePath": entry.source, "line": entry.line or 1}
    return test


def _milliseconds(started: Any) -> int:
    try:
        return timegm(strptime(started, STARTED)) * 1000
    except (TypeError, ValueError):
        return 0
