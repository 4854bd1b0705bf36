"""TAP 13, the Test Anything Protocol as all its readers take it: a line a case, with YAML behind what needs a look."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from conformance.judging.models import Results
from conformance.report.cases import Case, Status, cases

DIRECTIVES = {Status.KNOWN: "TODO", Status.SKIPPED: "SKIP"}
"""Cases that fail nothing: TODO is a failure that is expected, SKIP was not tested."""
NOT_OK = frozenset({Status.FAILED, Status.BROKEN, Status.KNOWN})


def tap(results: Results) -> str:
    """Return the document."""
    found = list(cases(results))
    lines = ["TAP version 13", f"1..{len(found)}"]
    for number, case in enumerate(found, 1):
        lines += _case(number, case)
    return "\n".join([*lines, ""])


def _case(number: int, case: Case) -> Iterator[str]:
    ok = "not ok" if case.status in NOT_OK else "ok"
    directive = DIRECTIVES.get(case.status)
    yield f"{ok} {number} - {_escaped(case.name)}" + (f" # {directive} {_escaped(case.why)}" if directive else "")
    if case.status in (Status.FAILED, Status.BROKEN, Status.WARNED, Status.KNOWN):
        yield "  ---"
        yield f"  severity: {'comment' if case.status is Status.WARNED else 'fail'}"
        yield f"  message: {_quoted(case.why)}"
        yield "  explanation: |"
        yield from (f"    {line}".rstrip() for line in case.text.strip().split("\n"))
        yield "  ..."


def _escaped(text: str) -> str:
    """Escape what would begin a directive."""
    return re.sub(r"([\\#])", r"\\\1", text)


def _quoted(text: str) -> str:
    """Return the text as a double-quoted string of YAML, which one of JSON is."""
    return json.dumps(text, ensure_ascii=False)
