"""Where in the user's repository a verdict belongs: the line of the manifest that knows the failure or claims the stage."""

from __future__ import annotations

from conformance.judging.models import Results, VerdictEntry


def place_in_repository(results: Results, verdict: VerdictEntry) -> tuple[str, int]:
    """Return file and line, counted from 1; ("", 1) for one of the lab's own drivers, or where it is not known."""
    entry = results.drivers.get(verdict.driver)
    if entry is None or not entry.source:
        return "", 1
    known = next((one.line for one in entry.known if one.check == verdict.check and one.line), 0)
    return entry.source, known or entry.line or 1
