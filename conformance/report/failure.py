"""A verdict that needs a look, told once for all reports: the rule, the cause, the wire around it, and what to type next."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from conformance.judging.models import Results, VerdictEntry
from conformance.judging.summary import evidence_of
from conformance.suite.check import Outcome

FOLDED = 6
"""Checks that are named of those that only follow from a failure."""

Followers = Mapping[tuple[str, str, str], Sequence[str]]
"""A driver, a device and a check → the checks that say nothing of the driver there because of its failure."""


def facts(
    results: Results, verdict: VerdictEntry, folder: Path = Path(), followers: Followers | None = None
) -> Iterator[tuple[str, str]]:
    """Yield (label, text) of everything that explains a verdict; ``folder`` holds results.json, as the user would write it.

    Who explains many gives the followers of all, which `followers_of` finds at once.
    """
    yield "rule", rule(verdict)
    if (finding := verdict.violation) is not None:
        yield "expected", finding.expected
        yield "actual", finding.actual
    if verdict.seen:
        yield "device saw", verdict.seen
    if verdict.outcome is Outcome.FLAKY:
        yield "flaky", verdict.reason
    yield "cites", str(verdict.cite)
    if verdict.wire:
        yield "wire", "\n".join(verdict.wire)
    if place := evidence_of(results, verdict):
        yield "evidence", str(folder / place)
    if found := (followers_of(results) if followers is None else followers).get((*verdict.key[:2], verdict.check)):
        more = f" and {len(found) - FOLDED} more" if len(found) > FOLDED else ""
        yield "follows", f"{', '.join(found[:FOLDED])}{more}: not judged, they only follow from this"
    yield "next", "\n".join(commands(results, verdict, folder))


def rule(verdict: VerdictEntry) -> str:
    """Return the rule as a sentence."""
    return f"The driver {verdict.statement[:1].lower()}{verdict.statement[1:]}"


def followers_of(results: Results) -> Followers:
    """Return the checks that say nothing of the driver because of another one's failure in the same recordings."""
    failed, found = set[tuple[str, str, str]](), dict[tuple[str, str, str], dict[str, None]]()
    for verdict in results.verdicts:
        if verdict.outcome in (Outcome.FAIL, Outcome.WARN):
            failed.add((verdict.driver, verdict.device, verdict.check))
        if verdict.because:
            found.setdefault((verdict.driver, verdict.device, verdict.because), {})[verdict.check] = None
    return {key: [check for check in checks if (*key[:2], check) not in failed] for key, checks in found.items()}


def commands(results: Results, verdict: VerdictEntry, folder: Path = Path()) -> list[str]:
    """Return the command lines that lead on from a verdict: its wire, its rule, the same recording again."""
    wanted = [["nvme-lab", "explain", verdict.check]]
    if (place := evidence_of(results, verdict)) and (run := results.run_of(verdict)):
        wanted = [["nvme-lab", "wire", str(folder / place)], *wanted, ["nvme-lab", "replay", str(folder / run.evidence)]]
    return [shlex.join(words) for words in wanted]


def again(results: Results, verdict: VerdictEntry) -> str:
    """Return the command line that records the scenario of a verdict anywhere, with the same seed and defect."""
    return recording_command(results, *verdict.key[:3])


def recording_command(results: Results, driver: str, device: str, scenario: str) -> str:
    """Return the command line that records a scenario anywhere, with the same seed and defect."""
    asked, seed = results.lab.get("asked"), results.lab.get("seed")
    said = asked if isinstance(asked, dict) else {}
    entry = results.drivers.get(driver)
    words = ["nvme-lab", "run", "--driver", (entry.manifest if entry else "") or driver, "--device", device]
    words += ["--scenario", scenario]
    words += ["--seed", str(seed)] if isinstance(seed, int) and seed else []
    for option in ("defect", "variant"):
        words += [f"--{option}", str(said[option])] if said.get(option) else []
    return shlex.join(words)
