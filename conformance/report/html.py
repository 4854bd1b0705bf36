"""The qualification report: one HTML file that needs no network, the verdict first.

What a driver said is hostile: everything is escaped, control characters are shown as such, and the page's policy lets no
script run but its own. Verdicts of one check on one driver and device share a row, so thousands of them stay a small page.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from conformance.check import MANDATORY, Outcome
from conformance.results import (
    Results,
    Row,
    RunEntry,
    VerdictEntry,
    disqualified,
    lab_failures,
    rank,
    rows,
    stage_index,
    stale,
    unjudged,
)
from conformance.wire import Row as WireRow
from conformance.wire import excerpts, key, printable, timeline
from lab.errors import LabError
from lab.evidence import Evidence

KNOWN = "known"
ORDER = ("FAIL", "ERROR", KNOWN, "WARN", "PASS", "UNSUPPORTED", "INCONCLUSIVE")
"""Outcomes and known failures: what needs a look comes first."""
LEVELS = {"M": "mandatory", "R": "recommended", "O": "optional"}
SCENARIOS_TOLD = 6
"""Failed scenarios of a row that are told in full; of further ones there is the name."""
FINDINGS_TOLD = 3
BARS = 60
"""Scenarios in the chart, the slowest."""

Excerpt = Sequence[WireRow]
Witness = Callable[[VerdictEntry], Excerpt]
"""What the device saw around the first violation of a verdict; empty where that is not at hand."""


@dataclass(frozen=True)
class Conclusion:
    """What a driver is now entitled to say, and which mandatory checks are in the way."""

    driver: str
    state: str  # good, bad or open
    text: str
    missing: list[VerdictEntry]


@dataclass(frozen=True)
class Line:
    """What one check says of one driver on one device; ``told`` are the verdicts that are worth their findings."""

    driver: str
    device: str
    word: str
    counts: Mapping[str, int]
    told: list[VerdictEntry]
    others: list[VerdictEntry]  # further ones of the same outcome
    reasons: list[str]


@dataclass(frozen=True)
class Card:
    """A check, with a line for each driver and device."""

    about: VerdictEntry
    lines: list[Line]

    @property
    def worst(self) -> str:
        return min((line.word for line in self.lines), key=ORDER.index)


def html(results: Results, witness: Witness, hashes: Mapping[str, Mapping[str, str]] | None = None) -> str:
    """The page. ``witness`` finds what the device saw; ``hashes`` tells for each driver what files it was made of."""
    cards = _cards(results)
    machines = list(dict.fromkeys((v.driver, v.device) for v in results.verdicts))
    by_stage: dict[tuple[str, str, str], Row] = {(row.driver, row.device, row.stage): row for row in rows(results)}
    stages = sorted({row.stage for row in by_stage.values()}, key=stage_index)
    paths = {run.key: run.evidence for run in results.runs}
    slowest = sorted(results.runs, key=lambda run: -run.seconds)
    return _environment().get_template("report.html.j2").render(
        results=results,
        conclusions=[_conclusion(results, driver) for driver in results.drivers],
        machines=machines,
        stages=stages,
        cells=by_stage,
        cards=cards,
        words=[word for word in ORDER if any(word == line.word for card in cards for line in card.lines)],
        order=ORDER,
        levels=LEVELS,
        witness=witness,
        hashes=hashes or {},
        key=key,
        place=_place,
        evidence=lambda verdict: paths.get(verdict.key[:3], ""),
        findings_told=FINDINGS_TOLD,
        errors=lab_failures(results),
        stale=stale(results),
        unjudged=unjudged(results),
        left_out=_by_reason(results),
        silent=[card for card in cards if all(line.word in ("UNSUPPORTED", "INCONCLUSIVE") for line in card.lines)],
        bars=list(_bars(slowest[:BARS])),
        more_bars=len(slowest[BARS:]),
        seconds=sum(run.seconds for run in results.runs),
    )  # fmt: skip


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["sha256"] = lambda text: base64.b64encode(hashlib.sha256(str(text).encode()).digest()).decode()
    return made


def _shown(value: Any) -> Any:
    """Any text of ours or others' without control characters, but for the ends of its lines."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return "\n".join(printable(line) for line in value.split("\n"))
    return value


# -- what is said -----------------------------------------------------------------------------------------------------


def _conclusion(results: Results, driver: str) -> Conclusion:
    missing = sorted(disqualified(results, driver), key=lambda verdict: (rank(verdict), stage_index(verdict.stage)))
    stages = ", ".join(results.drivers[driver].asked)
    if any(verdict.outcome in (Outcome.FAIL, Outcome.ERROR) for verdict in missing):
        return Conclusion(driver, "bad", "does not qualify", missing)
    passed = any(v.driver == driver and v.outcome is Outcome.PASS and v.level == MANDATORY for v in results.verdicts)
    if not passed:
        return Conclusion(driver, "open", "nothing mandatory was judged", missing)
    if missing:
        return Conclusion(driver, "open", "nothing mandatory failed, but not all of it is proven", missing)
    if not results.whole:
        return Conclusion(driver, "open", "every mandatory check that was selected passed", missing)
    return Conclusion(driver, "good", f"qualifies: every mandatory check of {stages} passed", missing)


def _cards(results: Results) -> list[Card]:
    by_check: dict[str, dict[tuple[str, str], list[VerdictEntry]]] = {}
    for verdict in results.verdicts:
        by_check.setdefault(verdict.check, {}).setdefault((verdict.driver, verdict.device), []).append(verdict)
    cards = [
        Card(next(iter(machines.values()))[0], [_line(*machine, verdicts) for machine, verdicts in machines.items()])
        for machines in by_check.values()
    ]
    return sorted(cards, key=lambda card: (ORDER.index(card.worst), stage_index(card.about.stage), card.about.check))


def _line(driver: str, device: str, verdicts: list[VerdictEntry]) -> Line:
    best = min(verdicts, key=rank)
    same = [verdict for verdict in verdicts if _word(verdict) == _word(best)]
    violating = [verdict for verdict in verdicts if verdict.violation] if best.outcome is not Outcome.PASS else []
    told = violating[:SCENARIOS_TOLD]
    return Line(
        driver=driver,
        device=device,
        word=_word(best),
        counts=Counter(sorted(map(_word, verdicts), key=ORDER.index)),
        told=told,
        others=[verdict for verdict in same if verdict not in told],
        reasons=list(dict.fromkeys(v.known or v.reason for v in same if v.known or v.reason)),
    )


def _word(verdict: VerdictEntry) -> str:
    return KNOWN if verdict.known is not None else str(verdict.outcome)


def _by_reason(results: Results) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for entry in results.left_out:
        found.setdefault(entry.reason, []).append(f"{entry.driver}/{entry.device}/{entry.scenario}")
    return found


def _bars(runs: Sequence[RunEntry]) -> Iterator[tuple[int, RunEntry, float]]:
    """(place from the top, run, length in percent of the longest)."""
    longest = max((run.seconds for run in runs), default=0) or 1
    for at, run in enumerate(runs):
        yield at, run, 100 * run.seconds / longest


# -- what the device saw ----------------------------------------------------------------------------------------------


def _place(verdict: VerdictEntry) -> tuple[str, int] | None:
    """The key (`conformance.wire.key`) of the event that the first violation names."""
    finding = verdict.violation
    if finding is None or finding.event is None:
        return None
    record = finding.place.partition(".rec")[0].removeprefix("device/") if finding.event < 0 else ""
    return record, finding.event


def witness_of(results: Results, folder: Path) -> Witness:
    """Finds what the device saw in the evidence, whose paths are relative to ``folder``: each recording is read once."""
    wanted: dict[tuple[str, str, str], set[tuple[str, int]]] = {}
    for verdict in results.verdicts:
        if verdict.violation and (place := _place(verdict)):
            wanted.setdefault(verdict.key[:3], set()).add(place)
    paths = {run.key: folder / run.evidence for run in results.runs}

    @cache
    def seen(run: tuple[str, str, str]) -> Mapping[tuple[str, int], Excerpt]:
        try:
            evidence = Evidence(paths[run])
            return excerpts(timeline(evidence.scenario, evidence.events()), wanted[run])
        except (LabError, KeyError, OSError):  # a result may travel without its evidence
            return {}

    def witness(verdict: VerdictEntry) -> Excerpt:
        place = _place(verdict)
        return seen(verdict.key[:3]).get(place, ()) if place else ()

    return witness


def hashes_of(results: Results, folder: Path) -> dict[str, dict[str, str]]:
    """Driver → file → SHA-256, of its manifest too, as its first recording tells that is at hand."""
    found: dict[str, dict[str, str]] = {}
    for run in results.runs:
        if run.driver not in found:
            try:
                driver = Evidence(folder / run.evidence).identity["driver"]
            except (LabError, KeyError):
                continue
            found[run.driver] = {"manifest": str(driver.get("manifest", "")), **driver.get("files", {})}
    return found
