"""``nvme-lab wire``: the decoded timeline of a recording, while it is made or afterwards."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from conformance.excerpts import key, of_command
from conformance.report.terminal import console
from conformance.wire import Row, Timeline, Trust, dump, timeline
from lab.errors import UsageError
from lab.events import (
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
from lab.evidence import Evidence, evidence_folders

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
PLACE = re.compile(r"(?P<folder>.+?)(/device)?/[^/]+\.(jsonl|rec)(:\d+|, record \d+)?")
"""As a failed finding names it."""
LOOK = 0.2
"""Seconds between two looks at a recording that is under way."""


@click.command()
@click.argument("evidence", type=click.Path(path_type=Path))
@click.option("--follow", is_flag=True, help="a recording that is under way: show what comes until it ends")
@click.option("--command", "number", type=click.IntRange(min=1), metavar="N", help="command #N of the timeline, whole")
def wire(evidence: Path, follow: bool, number: int | None) -> None:
    """Show what host and device said to each other, decoded. EVIDENCE: the folder of one scenario.

    \b
    nvme-lab wire nvme-lab-results/latest/evidence/linux/qemu/read/basic
    nvme-lab wire EVIDENCE --command 12
    """
    if follow and number is not None:
        raise UsageError("--follow and --command exclude each other.")
    recording = Evidence(one_evidence(evidence))
    if follow:
        _follow(recording.folder)
        return
    rows = timeline(recording.scenario, recording.events())
    texts = _header(recording, (text(row) for row in rows)) if number is None else _command(recording, list(rows), number)
    _page(texts)


def one_evidence(path: Path) -> Path:
    """The evidence folder that is meant, by itself or by a place in it; UsageError if there is none or a choice."""
    if place := PLACE.fullmatch(str(path)):
        path = Path(place["folder"])
    folders = evidence_folders(path) if path.is_dir() else []
    if len(folders) == 1:
        return folders[0]
    if not folders:
        raise UsageError(f"There is no evidence in {path}.", remedy="name a folder that nvme-lab run wrote")
    some = ", ".join(str(folder) for folder in folders[:3])
    raise UsageError(f"{path} holds {len(folders)} recordings: {some} …", remedy="name one of them")


def text(row: Row) -> Text:
    """The row as a line, coloured by what it is."""
    style = STYLES.get(type(row.event), "")
    if isinstance(row.event, Completed) and not row.event.completion.ok:
        style = "red"
    trust = "" if row.trust is Trust.EXACT else "yellow"
    line = Text.assemble(
        (f"{row.t:11.6f} ", "dim"),
        (f"{row.event.controller:4.12} ", "dim"),
        (f"{row.direction}{row.trust} ", trust),
        (f"{row.number:>6} ", "green"),
        (f"{row.name:20} {row.detail}".rstrip(), style),
    )
    line.no_wrap = True
    return line


def _header(recording: Evidence, lines: Iterable[Text]) -> Iterator[Text]:
    end = recording.end
    yield Text(f"{recording.name}: {recording.scenario.title}", style="bold")
    yield Text(LEGEND, style="dim")
    yield from lines
    if end is None:
        yield Text("The recording was cut short, or is under way: there is no end marker.", style="yellow")
    elif end.outcome != "complete":
        yield Text(f"{end.outcome}: {end.reason}", style="bold red")


def _command(recording: Evidence, rows: list[Row], number: int) -> Iterator[Text]:
    whole = of_command(rows, number)
    if not whole:
        last = max((row.command for row in rows if row.command is not None), default=0)
        there = f"they are numbered 1 to {last}" if last else "it holds none at all"
        raise UsageError(f"There is no command {number} in {recording.folder}: {there}.")
    for row in whole:
        yield text(row)
        yield from (Text(f"{'':20}{line}", style="dim" if "not seen" in line else "") for line in dump(row))


def _follow(folder: Path) -> None:
    """Prints events as they come, in the order of time as far as they have come, until the end marker is there."""
    out = console()
    told = Timeline(Evidence(folder).scenario)
    seen: set[tuple[str, int]] = set()
    pause = threading.Event()
    while True:
        recording = Evidence(folder)
        ended = recording.end is not None  # looked at before the events, so that none is missed
        for event in recording.events():
            if key(event) not in seen:
                seen.add(key(event))
                _print(out, text(told.row(event)))
        if ended:
            return
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
