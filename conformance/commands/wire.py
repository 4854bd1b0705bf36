"""``nvme-lab wire``: the decoded timeline of a recording, while it is made or afterwards."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from conformance.report.terminal import console
from conformance.wire import ladder
from conformance.wire.decode import Timeline, Trust, WireLine, dump, timeline
from conformance.wire.excerpts import Excerpt, Gap, Key, excerpts, key, places_of_command, with_gaps
from conformance.wire.noise import Noise
from lab.data.events import (
    ActionEnded,
    ActionStarted,
    Completed,
    Event,
    FaultInjected,
    Panicked,
    Remark,
    Reset,
    Submitted,
    Unknown,
)
from lab.data.evidence import Evidence, evidence_folders, following
from lab.errors import UsageError

STYLES: dict[type[Event], str] = {
    ActionStarted: "bold cyan",
    ActionEnded: "cyan",
    Submitted: "bold",
    FaultInjected: "bold magenta",
    Panicked: "bold red",
    Reset: "yellow",
    Remark: "dim",
    Unknown: "dim",
}
LEGEND = "→ host to device  ← device to host  · driver and lab  ~ sampled after the fact  ? rebuilt: the rest is not known"
PLACE = re.compile(r"(?P<folder>.+?)(/device)?/(?P<file>[^/]+)\.(?P<kind>jsonl|rec)(:(?P<line>\d+)|, record (?P<record>\d+))?")
"""As a failed finding names it."""
LOOK = 0.2
"""Seconds between two looks at a recording that is under way."""


@click.command()
@click.argument("evidence", metavar="EVIDENCE|PLACE", type=click.Path(path_type=Path))
@click.option("--follow", is_flag=True, help="a recording that is under way: show what comes until it ends")
@click.option("--command", "number", type=click.IntRange(min=1), metavar="N", help="command #N of the timeline, whole")
@click.option("--ladder", "drawn", is_flag=True, help="as a ladder diagram: host left, device right")
@click.option("--all", "whole", is_flag=True, help="also how the bus was set up, IOMMU maps, and QEMU's own remarks")
@click.option("--grep", "pattern", default="", metavar="REGEX", help="only rows that match, in any case of letters")
def wire(evidence: Path, follow: bool, number: int | None, drawn: bool, whole: bool, pattern: str) -> None:
    """Show what host and device said to each other, decoded. EVIDENCE: the folder of one scenario.

    \b
    nvme-lab wire nvme-lab-results/latest/evidence/linux/qemu/read/basic
    nvme-lab wire nvme-lab-results/latest/evidence/linux/qemu/read/basic/events.jsonl:21
    nvme-lab wire EVIDENCE --command 12 --ladder
    nvme-lab wire EVIDENCE --grep 'doorbell|CSTS'

    A place in the evidence, as a failure names it, is shown amid its neighbours and its command.
    """
    if follow and (drawn or number is not None):
        raise UsageError("--follow goes with neither --command nor --ladder.")
    place = place_in(evidence)
    if pattern and (drawn or number is not None or place is not None):
        raise UsageError("--grep goes with neither a place, --command nor --ladder.")
    recording = Evidence(one_evidence(evidence))
    view = View(whole, _pattern(pattern))
    if follow:
        _follow(recording.folder, view)
        return
    _page(_shown(recording, number, place, drawn, view))


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text, re.IGNORECASE)
    except re.error as error:
        raise UsageError(f"--grep: {text!r} is not a regular expression: {error}.") from error


class View:
    """Which rows of a whole timeline are shown."""

    def __init__(self, whole: bool, pattern: re.Pattern[str]) -> None:
        """Show noise too if ``whole``, and only rows that match the pattern."""
        self._whole, self._pattern, self._is_noise = whole, pattern, Noise()
        self.hidden = 0
        """Rows of noise that were left out."""

    def shows(self, row: WireLine) -> bool:
        """Return whether the next row is shown."""
        if not self._whole and self._is_noise(row):
            self.hidden += 1
            return False
        return bool(self._pattern.search(text(row).plain))


def _shown(recording: Evidence, number: int | None, place: Key | None, drawn: bool, view: View) -> Iterator[Text]:
    reported = timeline(recording.scenario, recording.events())
    if number is not None:
        rows = list(reported)
        places = sorted(_places(recording, rows, number))
        if drawn:
            yield from _ladder(with_gaps(rows, places), None)
            return
        for at in places:
            yield text(rows[at])
            yield from (Text(f"{'':20}{line}", style="dim" if "not seen" in line else "") for line in dump(rows[at]))
        return
    parts: Iterable[WireLine | Gap] = (row for row in reported if view.shows(row)) if place is None else reported
    if place is not None:
        found = excerpts(list(reported), [place])
        if not found:
            raise UsageError(f"There is no such event in {recording.folder}.", remedy="name the folder to see all of it")
        parts = found[place]
    yield from _framed(recording, _ladder(list(parts), place) if drawn else (_part(part, place) for part in parts))
    if view.hidden:
        hidden = "1 row is" if view.hidden == 1 else f"{view.hidden} rows are"
        yield Text(f"{hidden} left out: bus set-up, IOMMU maps, QEMU's own remarks (--all shows them)", style="dim")


def _places(recording: Evidence, rows: list[WireLine], number: int) -> set[int]:
    places = places_of_command(rows, number)
    if not places:
        last = max((row.command for row in rows if row.command is not None), default=0)
        there = f"they are numbered 1 to {last}" if last else "it holds none at all"
        raise UsageError(f"There is no command {number} in {recording.folder}: {there}.")
    return places


def _part(part: WireLine | Gap, place: Key | None) -> Text:
    if isinstance(part, Gap):
        return Text(f"{'':27}… {ladder.left_out(part)}", style="dim italic")
    line = text(part)
    if key(part.event) == place:
        line.stylize("reverse")
        line.append("  ◂", style="bold")
    return line


def _ladder(excerpt: Excerpt, place: Key | None) -> Iterator[Text]:
    for row, line in ladder.text(excerpt, console().width):
        here = row is not None and key(row.event) == place
        yield Text(f"{line}{'  ◂' if here else ''}", style=_style(row) if row else "dim", no_wrap=True)


def one_evidence(path: Path) -> Path:
    """Return the evidence folder of a path or of a place in it; UsageError if there is none or more than one."""
    if place := PLACE.fullmatch(str(path)):
        path = Path(place["folder"])
    folders = evidence_folders(path) if path.is_dir() else []
    if len(folders) == 1:
        return folders[0]
    if not folders:
        raise UsageError(f"There is no evidence in {path}.", remedy="name a folder that nvme-lab run wrote")
    some = ", ".join(str(folder) for folder in folders[:3])
    raise UsageError(f"{path} holds {len(folders)} recordings: {some} …", remedy="name one of them")


def place_in(path: Path) -> Key | None:
    """Return the event that a place names; None where it names none."""
    named = PLACE.fullmatch(str(path))
    if named is None or not (number := named["line"] or named["record"]):
        return None
    return (named["file"], -int(number)) if named["kind"] == "rec" else ("", int(number))


def _style(row: WireLine) -> str:
    if isinstance(row.event, Completed) and not row.event.completion.ok:
        return "red"
    return STYLES.get(type(row.event), "")


def text(row: WireLine) -> Text:
    """Return the row as a line, coloured by its kind."""
    trust = "" if row.trust is Trust.EXACT else "yellow"
    line = Text.assemble(
        (f"{row.t:11.6f} ", "dim"),
        (f"{row.event.controller:4.12} ", "dim"),
        (f"{row.direction}{row.trust} ", trust),
        (f"{row.number:>6} ", "green"),
        (f"{row.name:20} {row.detail}".rstrip(), _style(row)),
    )
    line.no_wrap = True
    return line


def _framed(recording: Evidence, lines: Iterable[Text]) -> Iterator[Text]:
    """Yield a heading, the lines, and how the recording ended."""
    end = recording.end
    yield Text(f"{recording.name}: {recording.scenario.title}", style="bold")
    yield Text(LEGEND, style="dim")
    yield from lines
    if end is None:
        yield Text("The recording was cut short, or is under way: there is no end marker.", style="yellow")
    elif end.outcome != "complete":
        yield Text(f"{end.outcome}: {end.reason}", style="bold red")


def _follow(folder: Path, view: View) -> None:
    """Print events as they arrive, in the order of time, until the end marker is there."""
    out = console()
    reported = Timeline(Evidence(folder).scenario)
    pause = threading.Event()
    for events in following(folder):
        for event in events:
            if view.shows(row := reported.row(event)):
                _print(out, text(row))
        pause.wait(LOOK)


def _page(lines: Iterator[Text]) -> None:
    """To the user's pager where there is a terminal; else a plain line an event, however long."""
    out = console()
    if not out.is_terminal:
        for line in lines:
            click.echo(line.plain)
        return
    click.echo_via_pager(_coloured(out, lines), color=out.color_system is not None)


def _coloured(out: Console, lines: Iterable[Text]) -> Iterator[str]:
    for line in lines:
        with out.capture() as captured:
            out.print(line, soft_wrap=True)
        yield captured.get()


def _print(out: Console, line: Text) -> None:
    if out.is_terminal:
        out.print(line, soft_wrap=True)
    else:
        click.echo(line.plain)
