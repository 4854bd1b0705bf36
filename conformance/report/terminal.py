"""The summary of a run: one row a stage, then what failed, then what it means; a passing run fits on one screen."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.markup import escape
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from conformance.judging.models import Results, VerdictEntry
from conformance.judging.summary import (
    OTHERS,
    STRICT,
    SummaryRow,
    gate_failures,
    lab_failures,
    rows,
    stale,
    unjudged,
    unproven,
    worst_with_outcome,
)
from conformance.report.conclusion import State, conclude, gate
from conformance.report.coverage import sentence
from conformance.report.failure import facts
from conformance.suite.check import EVERY, Outcome
from conformance.wire.decode import printable_lines, shortened
from lab.data.manifest import PROFILES, part_name

COLOURS = {
    "fails": "bold red",
    "lab error": "bold magenta",
    "fails --strict": "bold red",
    "flaky": "yellow",
    "known failure": "yellow",
    "passes": "green",
    "partial": "yellow",
    "nothing judged": "dim",
}
STATES = {
    State.QUALIFIES: "bold green",
    State.FAILS: "bold red",
    State.LAB: "bold magenta",
    State.ACCEPTED: "bold yellow",
    State.UNPROVEN: "bold yellow",
    State.SELECTION: "bold green",
    State.SILENT: "bold yellow",
    State.PARTIAL: "bold yellow",
}
Column = tuple[str, Outcome | None, str]
COLUMNS: tuple[Column, ...] = (
    ("pass", Outcome.PASS, "green"),
    ("fail", Outcome.FAIL, "bold red"),
    ("known", None, "yellow"),
    ("flaky", Outcome.FLAKY, "yellow"),
    ("warn", Outcome.WARN, "yellow"),
    ("unsup.", Outcome.UNSUPPORTED, "dim"),
    ("inconcl.", Outcome.INCONCLUSIVE, "dim"),
    ("error", Outcome.ERROR, "bold magenta"),
)
"""Heading, outcome (None: known failures) and colour."""
STAGE_NAMES = {EVERY: "(every stage)", OTHERS: "(other stages)"}
WIDE = 140
"""Columns where there is no terminal."""
LONGEST = 1000
"""Characters that are shown of text from outside."""
SHOWN = 12
"""Failed checks that are shown in full; of further ones there is a line each."""
INDENT, LABELS, NARROWEST = 6, 12, 40
"""Columns before a failure's lines, of their labels, and that a row of the wire has at least."""
STRESSED = {"actual": "bold", "device saw": "bold"}
"""What of a failure is in bold."""


def console() -> Console:
    """Return the console for this output: plain and wide where CI=true or there is no terminal."""
    watched = Console(highlight=False)
    if watched.is_terminal and os.environ.get("CI", "").lower() not in ("1", "true"):
        return watched
    return Console(highlight=False, width=WIDE, color_system=None, force_terminal=False)


def summary(results: Results, folder: Path, *, verbose: bool = False) -> RenderableType:
    """All of it; ``folder`` is where results.json is, as the user would write it."""
    parts: list[RenderableType] = ["", table(results, console().width)] if results.verdicts else []
    parts += _findings(results, folder)
    parts += _remarks(results, verbose)
    for run in (run for run in results.runs if run.stops):
        parts += ["", _said("/".join(run.key), "bold"), *(_said(f"  {line}") for line in run.stops)]
    if results.coverage:
        parts += ["", *(_said(f"coverage  {sentence(entry)}", "dim") for entry in results.coverage)]
    parts += ["", *_conclusion(results)]
    return Group(*parts)


def table(results: Results, width: int = WIDE) -> Table:
    """Return one row per stage of a driver on a device; a cell counts checks by the worst verdict of their scenarios.

    A narrow table leaves out a driver or device that is the same in all rows, and columns without a number.
    """
    found = shown_rows(results)
    narrow = width < WIDE
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    names = [("stage", [_stage_name(row.stage) for row in found])]
    for heading, values in (("driver", [row.driver for row in found]), ("device", [row.device for row in found])):
        if not narrow or len(set(values)) > 1:
            names.append((heading, values))
    columns = [column for column in shown_columns(found) if not narrow or any(number_shown(row, column[1]) for row in found)]
    for heading, _ in names:
        grid.add_column(heading)
    for heading, _, _ in columns:
        grid.add_column(heading, justify="right")
    grid.add_column("verdict")
    for at, row in enumerate(found):
        cells = [_cell(row, outcome, colour) for _, outcome, colour in columns]
        grid.add_row(*(values[at] for _, values in names), *cells, Text(row.word, style=COLOURS[row.word]))
    return grid


def shown_rows(results: Results) -> list[SummaryRow]:
    """Return the rows of the summary, without those of other stages that have nothing to say."""
    outcomes = [outcome for _, outcome, _ in COLUMNS]
    return [row for row in rows(results) if row.stage != OTHERS or any(number_shown(row, outcome) for outcome in outcomes)]


def _stage_name(stage: str) -> str:
    """Return the words for a stage or a profile."""
    return f"{stage} (profile)" if stage in PROFILES else STAGE_NAMES.get(stage, stage)


def shown_columns(found: Sequence[SummaryRow]) -> list[Column]:
    """Return the columns of counts; that of flaky checks only where there are any."""
    return [
        column for column in COLUMNS if column[1] is not Outcome.FLAKY or any(number_shown(row, column[1]) for row in found)
    ]


def number_shown(row: SummaryRow, outcome: Outcome | None) -> int:
    """Return what a cell counts; of other stages' rules most have nothing to see in a stage's scenarios.

    Where the lab failed in a scenario, the rows of the selected stages say so.
    """
    if row.stage == OTHERS and outcome in (Outcome.INCONCLUSIVE, Outcome.UNSUPPORTED, Outcome.ERROR):
        return 0
    return row.known if outcome is None else row.counts.get(outcome, 0)


def _cell(row: SummaryRow, outcome: Outcome | None, colour: str) -> Text:
    number = number_shown(row, outcome)
    return Text(str(number), style=colour) if number else Text("-", style="dim")


def show(what: RenderableType) -> None:
    """Print it, plain where there is no terminal."""
    made = console()
    if made.is_terminal:
        made.print(what, crop=False)
    else:
        print(_plain(what), end="")


def plain_table(results: Results) -> str:
    """Return the table without colours."""
    return _plain(table(results))


def plain_summary(results: Results, folder: Path, *, verbose: bool = False) -> str:
    """Return the summary without colours."""
    return _plain(summary(results, folder, verbose=verbose))


def _plain(what: RenderableType) -> str:
    out = io.StringIO()
    Console(file=out, width=WIDE, color_system=None, highlight=False).print(what, crop=False)
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


# -- what failed ----------------------------------------------------------------------------------------------------


def _findings(results: Results, folder: Path) -> Iterator[RenderableType]:
    failed = [
        found for found in worst_with_outcome(results, Outcome.FAIL, Outcome.FLAKY, Outcome.WARN) if found[0].known is None
    ]
    failed.sort(key=lambda found: found[0].outcome is not Outcome.FAIL)
    for verdict, scenarios in failed[:SHOWN]:
        yield from _finding(results, verdict, scenarios, folder)
    if failed[SHOWN:]:
        yield ""
    for verdict, _ in failed[SHOWN:]:
        yield Text(f"{verdict.outcome}  {verdict.check}  ({verdict.driver} on {verdict.device})", style=_colour(verdict))
    yield from _errors(results)


def _finding(results: Results, verdict: VerdictEntry, scenarios: int, folder: Path) -> Iterator[RenderableType]:
    where = f"{verdict.driver} on {verdict.device}, {verdict.scenario}"
    if scenarios > 1:
        where += f" and {scenarios - 1} more"
    room = max(console().width - INDENT - LABELS, NARROWEST)
    yield ""
    yield Text.assemble((f"{verdict.outcome}  {verdict.check}", _colour(verdict)), (f"  {where}", "dim"))
    lines = Table.grid(padding=(0, 2, 0, 0))
    lines.add_column(style="dim", no_wrap=True, min_width=LABELS - 2)
    lines.add_column(overflow="fold")
    next_commands = ""
    for label, text in facts(results, verdict, folder):
        if label == "wire":  # a row stays a row
            lines.add_row(label, Text("\n".join(_cut(row, room) for row in printable_lines(text).split("\n")), "dim"))
        elif label == "next":
            next_commands = printable_lines(text)
        else:
            lines.add_row(label, _said(text, STRESSED.get(label, "")))
    yield Padding(lines, (0, 0, 0, INDENT))
    for at, command in enumerate(next_commands.splitlines()):
        yield Unwrapped(f"{'':{INDENT}}{'' if at else 'next':{LABELS}}{command}")


def _cut(row: str, room: int) -> str:
    """Return a row of the wire as far as it fits a line: ``nvme-lab wire`` shows it whole."""
    return row if len(row) <= room else f"{row[: room - 1].rstrip('…')}…"


class Unwrapped:
    """A line that is printed whole however narrow the console is, so that it can be copied."""

    def __init__(self, text: str, style: str = "") -> None:
        """Take a line without control characters."""
        self._text, self._style = text, style

    def __rich_console__(self, console: Console, _options: ConsoleOptions) -> RenderResult:
        yield Segment(self._text, console.get_style(self._style) if self._style else None)
        yield Segment.line()


def _said(text: str, style: str = "") -> Text:
    """Return text from outside without control characters, and shortened."""
    return Text(printable_lines(shortened(text, LONGEST)), style=style)


def _in_a_line(text: str) -> str:
    """Return the first line; with the second, where the first one only announces it."""
    first, *others = text.splitlines() or [""]
    return f"{first} {others[0].strip()}" if others and first.endswith(":") else first


def _errors(results: Results) -> Iterator[RenderableType]:
    for reason, (first, *more) in lab_failures(results).items():
        yield ""
        yield Text.assemble(("ERROR  ", "bold magenta"), first, f" and {len(more)} more" if more else "")
        yield Padding(_said(reason), (0, 0, 0, 6))


# -- what else there is to know -------------------------------------------------------------------------------------


def _remarks(results: Results, verbose: bool) -> Iterator[RenderableType]:
    known = [verdict for verdict, _ in worst_with_outcome(results, Outcome.FAIL) if verdict.known is not None]
    if known:
        yield ""
    for verdict in known:
        yield Text.assemble(("known  ", "yellow"), f"{verdict.check}  ", (f"{verdict.driver}: {verdict.known}", "dim"))
    for driver, device, entry in stale(results):
        yield ""
        yield Text(
            f"stale  {entry.check} no longer fails for {driver} on {device}: remove it from the known failures", style="yellow"
        )
    yield from _silent(results, verbose)
    again = [run for run in results.runs if run.retry_reason]
    if again:
        yield ""
    for run in again:
        yield _said(f"recorded again  {'/'.join(run.key)}, after {_in_a_line(run.retry_reason)}", "yellow")
    if results.left_out:
        yield ""
        yield Text(f"{_count(len(results.left_out), 'scenario')} not recorded: {_reasons(results, verbose)}", style="dim")


def _silent(results: Results, verbose: bool) -> Iterator[RenderableType]:
    """Yield the checks without a verdict about the driver, with ``verbose``."""
    silent = [verdict for verdict, _ in worst_with_outcome(results, Outcome.UNSUPPORTED, Outcome.INCONCLUSIVE)]
    if silent and verbose:
        yield ""
        for verdict in silent:
            yield Text(f"{verdict.outcome.lower():12}  {verdict.check}  {verdict.driver}: {verdict.reason}", style="dim")


def _reasons(results: Results, verbose: bool) -> str:
    reasons: dict[str, list[str]] = {}
    for entry in results.left_out:
        reasons.setdefault(entry.reason, []).append(f"{entry.driver}/{entry.device}/{entry.scenario}")
    if verbose:
        return "".join(f"\n  {', '.join(names)}: {reason}" for reason, names in reasons.items())
    first = next(iter(reasons))
    return first + (f" (and {len(reasons) - 1} other reasons; -v shows all)" if len(reasons) > 1 else "")


def _conclusion(results: Results) -> Iterator[RenderableType]:
    yield from (_said(f"{entry}.", "dim") for entry in results.cover)
    if results.unfinished:
        yield Text(f"This result is partial. {results.unfinished[0].upper()}{results.unfinished[1:]}.", style="bold magenta")
    if results.missing_shards:
        lost = ", ".join(map(str, results.missing_shards))
        yield Text(f"This result is partial. Of {results.shards[0].of} shards there is no {lost}.", style="bold magenta")
    missing = unjudged(results)
    if missing:
        where = ", ".join(f"{part_name(part)} ({driver})" for driver, part in missing)
        yield Text(f"Nothing was judged in {where}.", style="bold yellow")
    yield from _unproven(results)
    state = gate(results)
    yield Text(state.text, style="bold green" if state.is_green else "bold red")
    for driver in results.drivers:
        conclusion = conclude(results, driver)
        yield Text(conclusion.text, style=STATES[conclusion.state])


def _unproven(results: Results) -> Iterator[RenderableType]:
    """Yield why --strict fails the run; without it, which mandatory checks are not proven."""
    strict = [(verdict, reason) for verdict, reason in gate_failures(results) if verdict.outcome is not Outcome.FAIL]
    if strict:
        yield Text(f"Failed by --strict: {_count(len(strict), 'check')}", style="bold red")
        yield from (_said(f"  {verdict.check}  {verdict.driver}: {reason.removeprefix(STRICT)}") for verdict, reason in strict)
        yield ""
    elif missing := unproven(results):
        yield Text(f"Mandatory and not proven: {_count(len(missing), 'check')}", style="yellow")
        for (driver, reason), checks in grouped(missing).items():
            yield Padding(_said(f"{driver}: {reason}: {', '.join(checks)}", "dim"), (0, 0, 0, 2))
        yield ""


def grouped(verdicts: Iterable[VerdictEntry]) -> dict[tuple[str, str], list[str]]:
    """Return (driver, reason) → checks."""
    found: dict[tuple[str, str], list[str]] = {}
    for verdict in verdicts:
        found.setdefault((verdict.driver, verdict.reason), []).append(verdict.check)
    return found


def _colour(verdict: VerdictEntry) -> str:
    return "bold red" if verdict.outcome is Outcome.FAIL else "yellow"


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _plural(number: int, word: str) -> str:
    return word if number == 1 else f"{word}s"


def _count(number: int, word: str) -> str:
    return f"{number} {_plural(number, word)}"


def header(results: Results, extra: Sequence[str] = ()) -> Text:
    """Return the line with versions and seed that makes a result comparable."""
    qemu = results.lab.get("qemu") or {}
    parts = [f"NVMe Lab {results.lab.get('version', '')}"]
    if qemu:
        parts.append(f"QEMU {qemu.get('version', '')} ({qemu.get('origin', '')})")
    return Text(escape(" · ".join([*parts, f"seed {results.lab.get('seed')}", *extra])), style="dim")
