"""SARIF 2.1.0, the format of code scanning: a rule for each check that failed, a result for each driver and device."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any
from urllib.parse import quote

from conformance.judging.models import FILE, Results, VerdictEntry
from conformance.report.cases import Case, Status, cases
from conformance.report.failure import rule
from conformance.report.reference import LEVELS
from conformance.report.source import place_in_repository
from conformance.wire.decode import printable

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
SEVERITIES = {Status.FAILED: "error", Status.BROKEN: "error", Status.WARNED: "warning", Status.KNOWN: "note"}


def sarif(results: Results) -> str:
    """Return the document. A known failure is a result that the manifest suppresses."""
    shown = [case for case in cases(results) if case.status in SEVERITIES]
    rules: dict[str, VerdictEntry] = {}
    for case in shown:
        rules.setdefault(case.verdict.check, case.verdict)
    order = list(rules)
    run = {
        "tool": {
            "driver": {
                "name": "NVMe Lab",
                "version": str(results.lab.get("version", "")),
                "rules": [_rule(verdict) for verdict in rules.values()],
            }
        },
        "columnKind": "unicodeCodePoints",
        "results": [_result(results, case, order) for case in shown],
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1, ensure_ascii=False)


def _rule(verdict: VerdictEntry) -> dict[str, Any]:
    return {
        "id": printable(verdict.check),
        "shortDescription": {"text": printable(rule(verdict))},
        "help": {"text": f"{printable(str(verdict.cite))}. nvme-lab explain {printable(verdict.check)}"},
        "properties": {"tags": [verdict.stage, LEVELS[verdict.level]]},
    }


def _result(results: Results, case: Case, order: list[str]) -> dict[str, Any]:
    verdict = case.verdict
    file, line = place_in_repository(results, verdict)
    identity = "\0".join((verdict.driver, verdict.device, verdict.check))
    made: dict[str, Any] = {
        "ruleId": printable(verdict.check),
        "ruleIndex": order.index(verdict.check),
        "level": SEVERITIES[case.status],
        "message": {"text": f"{case.name}: {case.text or case.why}"},
        "locations": [
            {"physicalLocation": {"artifactLocation": {"uri": quote(file or FILE)}, "region": {"startLine": line}}},
        ],
        "partialFingerprints": {"nvmeLab/v1": sha256(identity.encode()).hexdigest()},
    }
    if case.status is Status.KNOWN:
        made["suppressions"] = [{"kind": "inSource", "justification": printable(verdict.known or "")}]
    return made
