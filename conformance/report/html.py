"""The qualification report: one HTML file that needs no network, the verdict first.

What a driver said is hostile: everything is escaped, control characters are shown as such, and the page's policy lets no
script run but its own.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template, TemplateNotFound, TemplateSyntaxError
from markupsafe import Markup

from conformance.judging.compare import HEADINGS, Comparison, compare
from conformance.judging.judge import NEVER_USED
from conformance.judging.models import Results, RunEntry
from conformance.judging.summary import (
    SummaryRow,
    gate_failures,
    lab_failures,
    rows,
    stage_index,
    unjudged,
    unproven,
    worst_with_outcome,
)
from conformance.report import charts
from conformance.report.cards import KNOWN, ORDER, cards, word
from conformance.report.conclusion import Conclusion, State, conclude, gate
from conformance.report.coverage import percent
from conformance.report.history import HistoryView
from conformance.report.matrix import MARKS
from conformance.report.terminal import number_shown
from conformance.report.waivers import waivers
from conformance.report.witness import Witness, speaker
from conformance.suite.check import Outcome
from conformance.suite.measure import Measurement
from conformance.suite.selection import CHECKS
from conformance.wire import ladder
from conformance.wire.decode import printable_lines, shortened
from conformance.wire.excerpts import Gap, key
from lab.data.manifest import PROFILES, STAGES
from lab.errors import UsageError

TEMPLATES = Path(__file__).parent
QUIET = ("PASS", "UNSUPPORTED", "INCONCLUSIVE")
"""Checks that need no look."""
LEVELS = {"M": "mandatory", "R": "recommended", "O": "optional"}
LOOKS = {State.QUALIFIES: "good", State.FAILS: "bad", State.LAB: "bad"}
"""How a state is coloured; others are open."""
CONFORMANCE = {
    State.QUALIFIES: "conformant", State.FAILS: "not conformant", State.ACCEPTED: "not fully conformant",
}  # fmt: skip
"""How a driver conforms, where it is not called like the state."""
FINDINGS_SHOWN = 3
LONGEST = 2000
"""Characters that a finding shows of what a driver said."""
NAMES = 6
"""Scenarios that a line names of those that end alike."""
NEVER_TOLD = 400
"""Functions that a table of coverage shows."""
UNUSED = "about what the driver never used"
"""The reason of rules that differ only in what that is."""
BARS = 40
"""Scenarios in the chart, the slowest."""


@dataclass(frozen=True)
class Material:
    """What a page shows beside the results, as far as it is at hand."""

    witness: Witness = lambda _: ()
    hashes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """What files each driver was made of."""
    baseline: str = ""
    """The name of what the results are compared with."""
    before: Results | None = None
    """What was found there."""
    history: HistoryView | None = None
    """What changed between versions of a driver, where the results hold several."""


def html(results: Results, material: Material | None = None, template: Path | None = None) -> str:
    """Return the report as one HTML file without external parts; by a ``template`` of the user's own, if there is one.

    That extends ``report.html.j2``, and may replace its blocks title, style, header, summary and footer.
    """
    material = material or Material()
    comparison = compare(material.before, results) if material.before else None
    made = cards(results, material.witness)
    conclusions = [conclude(results, driver) for driver in results.drivers]
    machines = list(dict.fromkeys((v.driver, v.device) for v in results.verdicts))
    by_stage = {(row.driver, row.device, row.stage): row for row in rows(results)}
    paths = {run.key: run.evidence for run in results.runs}
    slowest = sorted(results.runs, key=lambda run: -run.seconds)
    return _template(template).render(
        results=results,
        conclusions=conclusions,
        overall=_overall(conclusions),
        headline=_headline,
        looks=LOOKS,
        conformance=CONFORMANCE,
        machines=machines,
        stages=sorted({stage for _, _, stage in by_stage}, key=stage_index),
        profile_names=PROFILES,
        cells=by_stage,
        cards=made,
        words=[one for one in ORDER if any(one == line.word for card in made for line in card.lines)],
        word=word,
        order=ORDER,
        levels=LEVELS,
        hashes=material.hashes,
        baseline=material.baseline,
        comparison=comparison,
        before=material.before,
        view=material.history,
        headings=HEADINGS,
        worse=_worse(comparison),
        drawing=ladder,
        sheet=charts,
        is_gap=lambda part: isinstance(part, Gap),
        key=key,
        speaker=speaker,
        evidence=lambda verdict: paths.get(verdict.key[:3], ""),
        findings_shown=FINDINGS_SHOWN,
        names=NAMES,
        errors=lab_failures(results),
        strict=[(verdict, reason) for verdict, reason in gate_failures(results) if verdict.outcome is not Outcome.FAIL],
        unproven=unproven(results),
        waivers=list(waivers(results)),
        gate=_gate(results),
        gate_state=gate(results),
        marks=MARKS,
        counted=_counted,
        first_quiet=next((card for card in made if card.worst in QUIET), None),
        quiet=sum(card.worst in QUIET for card in made),
        stage_names=STAGES,
        unjudged=unjudged(results),
        left_out=_left_out(results),
        silent=_silent(results),
        unselected=_unselected(results),
        measured=_charts(results),
        covered=results.coverage,
        stopped=[run for run in results.runs if run.stops],
        percent=percent,
        never_told=NEVER_TOLD,
        bars=list(_bars(slowest[:BARS])),
        more_bars=len(slowest[BARS:]),
        seconds=sum(run.seconds for run in results.runs),
    )  # fmt: skip


def check_template(own: Path) -> None:
    """Raise UsageError for a template of the user's own that is none."""
    _template(own)


def history_html(view: HistoryView) -> str:
    """Return a history as one HTML file without external parts."""
    return environment().get_template("history.html.j2").render(view=view)


def _template(own: Path | None) -> Template:
    """Return the page's template; UsageError for one of the user's own that is none."""
    folders = [own.parent, TEMPLATES] if own else [TEMPLATES]
    try:
        return environment(folders).get_template(own.name if own else "report.html.j2")
    except TemplateNotFound as error:
        raise UsageError(f"{own}: the template {error.name!r} cannot be read.") from error
    except TemplateSyntaxError as error:
        raise UsageError(f"{error.filename or own}:{error.lineno}: not a template of Jinja: {error.message}") from error


def environment(folders: Sequence[Path] = (TEMPLATES,)) -> Environment:
    """Return the environment of all pages: everything is escaped, and control characters are shown as such."""
    made = Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["in_words"] = in_words
    made.filters["shortened"] = lambda text: shortened(text, LONGEST)
    made.filters["sha256"] = lambda text: base64.b64encode(hashlib.sha256(str(text).encode()).digest()).decode()
    return made


def in_words(value: Any) -> str:
    """Return a fact about a run as people write it: no brackets and quotes of a programming language; "" for nothing."""
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {words}" for name, one in value.items() if (words := in_words(one)))
    if isinstance(value, list | tuple):
        return ", ".join(filter(None, map(in_words, value)))
    return {None: "", False: "no", True: "yes"}[value] if value is None or isinstance(value, bool) else str(value)


def _shown(value: Any) -> Any:
    """Any text of ours or others' without control characters, but for the ends of its lines."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return printable_lines(value)
    return value


# -- what is said -----------------------------------------------------------------------------------------------------


def _headline(conclusions: Sequence[Conclusion]) -> str:
    """Return the headline for all drivers together: the gate first, then who is conformant."""
    count = len(conclusions)
    failing = sum(one.state in LOOKS and LOOKS[one.state] == "bad" for one in conclusions)
    good = sum(one.state is State.QUALIFIES for one in conclusions)
    gate = f"{failing} of {count} drivers failed" if failing else "No new failures"
    return f"{gate}; {'all' if good == count else good or 'none'} of {count} drivers qualify"


def _gate(results: Results) -> Callable[[str], bool]:
    """Return a function that says whether a driver turns the gate red."""
    red = {verdict.driver for verdict, _ in gate_failures(results)}
    red |= {v.driver for v in results.verdicts if v.outcome is Outcome.ERROR}
    return lambda driver: driver in red


def _counted(row: SummaryRow) -> str:
    """Return the numbers of a cell of the matrix, what needs a look first."""
    counts = [(name, number_shown(row, None if name == KNOWN else Outcome(name))) for name in ORDER]
    return ", ".join(f"{number} {name.lower()}" for name, number in counts if number)


def _overall(conclusions: Sequence[Conclusion]) -> str:
    """Return the look of the headline: the worst one of all drivers."""
    looks = {LOOKS.get(one.state, "open") for one in conclusions}
    return next((look for look in ("bad", "open") if look in looks), "good")


def _worse(comparison: Comparison | None) -> Mapping[tuple[str, str, str], int]:
    """(driver, device, stage) → regressions."""
    found: dict[tuple[str, str, str], int] = {}
    for change in comparison.regressions if comparison else ():
        place = change.driver, change.device, change.check.partition("/")[0]
        found[place] = found.get(place, 0) + 1
    return found


def _left_out(results: Results) -> dict[str, list[str]]:
    """Reason → scenarios that were not recorded."""
    found: dict[str, list[str]] = {}
    for entry in results.left_out:
        found.setdefault(entry.reason, []).append(f"{entry.driver}/{entry.device}/{entry.scenario}")
    return found


def _silent(results: Results) -> dict[str, dict[str, list[tuple[str, str, str]]]]:
    """Driver → reason → (check, level, statement) of rules about which no device showed anything."""
    found: dict[str, dict[str, list[tuple[str, str, str]]]] = {}
    for verdict, _ in worst_with_outcome(results, Outcome.UNSUPPORTED, Outcome.INCONCLUSIVE):
        reasons = found.setdefault(verdict.driver, {})
        unused = verdict.reason.startswith(NEVER_USED)
        statement = f"{verdict.statement} ({verdict.reason})" if unused else verdict.statement
        reasons.setdefault(UNUSED if unused else verdict.reason, []).append((verdict.check, verdict.level, statement))
    return found


def _unselected(results: Results) -> dict[str, list[str]]:
    """Driver → checks of this lab that the result does not hold."""
    judged: dict[str, set[str]] = {driver: set() for driver in results.drivers}
    for verdict in results.verdicts:
        judged[verdict.driver].add(verdict.check)
    absent = {driver: [name for name in CHECKS if name not in names] for driver, names in judged.items()}
    return {driver: names for driver, names in absent.items() if names}


# -- what is drawn ----------------------------------------------------------------------------------------------------


def _charts(results: Results) -> list[tuple[Measurement, RunEntry, list[charts.Chart]]]:
    """Return the charts of each measurement, those of different drivers next to each other and on the same y axis.

    Lines come first, for histograms have rows of their own.
    """
    measured = [(measurement, run) for run in results.runs for measurement in run.measurements]
    measured.sort(key=lambda one: (one[0].kind != "line", one[1].scenario, one[0].id))
    beside: dict[tuple[str, str], list[Measurement]] = {}
    for measurement, run in measured:
        beside.setdefault((run.scenario, measurement.id), []).append(measurement)
    drawn = [list(charts.charts(measurement, beside[run.scenario, measurement.id])) for measurement, run in measured]
    return [(measurement, run, made) for (measurement, run), made in zip(measured, drawn, strict=True)]


def _bars(runs: Sequence[RunEntry]) -> Iterator[tuple[int, RunEntry, float]]:
    """(place from the top, run, length in percent of the longest)."""
    longest = max((run.seconds for run in runs), default=0) or 1
    for at, run in enumerate(runs):
        yield at, run, 100 * run.seconds / longest
