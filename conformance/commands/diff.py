"""``nvme-lab diff``: two recordings side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import click
from rich.console import Group
from rich.table import Table
from rich.text import Text

from conformance.commands.options import JSON
from conformance.commands.wire import one_evidence
from conformance.report.terminal import show
from conformance.wire.decode import timeline
from conformance.wire.diff import AlignedLine, Hunk, Parting, joined, parting
from conformance.wire.diff import diff as diff_rows
from lab.data.events import ActionEnded, Event, Submitted
from lab.data.evidence import Evidence

CONTEXT = 3
"""Steps that are shown around a difference."""
SHOWN = 40
"""Steps of a difference that are shown; --json lists all."""
DIFFERENT = 1
KINDS: dict[str, type[Event]] = {"anything": Event, "commands": Submitted, "answers": ActionEnded}
"""What a conclusion shows the first difference of."""


@click.command()
@click.argument("left", metavar="EVIDENCE_A", type=click.Path(path_type=Path))
@click.argument("right", metavar="EVIDENCE_B", type=click.Path(path_type=Path))
@JSON
def diff(left: Path, right: Path, as_json: bool) -> int:
    """Show where two recordings part: registers, commands, how they end. EVIDENCE: folders of one scenario each.

    Time, command identifiers, numbers of I/O queues and addresses are not compared, nor are doorbells, data and the guest's
    PCI setup.

    \b
    nvme-lab diff golden/read/basic nvme-lab-results/latest/evidence/my-os/qemu/read/basic

    Exit status: 0 if they are the same, 1 if not.
    """
    recordings = [Evidence(one_evidence(path)) for path in (left, right)]
    hunks = diff_rows(*(timeline(recording.scenario, joined(recording.events())) for recording in recordings))
    if as_json:
        click.echo(json.dumps(_json(recordings, hunks), indent=1, ensure_ascii=False))
    else:
        show(_beside(recordings, hunks))
        show(Group(*_conclusion(hunks)))
    return 0 if all(hunk.same for hunk in hunks) else DIFFERENT


def _conclusion(hunks: Sequence[Hunk]) -> Iterator[Text]:
    """Return the end of a long table: the first difference, the first command and the first answer that differ."""
    same = sum(len(hunk.left) for hunk in hunks if hunk.same)
    first = parting(hunks)
    if first is None:
        yield Text(f"Both do the same: {_steps(same)}.", style="bold")
        return
    yield Text("")
    asked = f", at {first.question!r}" if first.question else ""
    yield Text(f"They part after {_steps(first.before)}{asked}; {_steps(same)} are the same.", style="bold")
    for name, kind in KINDS.items():
        found = parting(hunks, kind)
        if found is None:
            yield Text(f"{name}: all the same")
            continue
        yield Text(f"{name}: first at {found.question!r}" if found.question else f"{name}:")
        for mark, step in (("<", found.left), (">", found.right)):
            yield Text(f"  {mark} {step.words if step else 'nothing in its place'}")


def _steps(number: int) -> str:
    return f"{number} step{'' if number == 1 else 's'}"


def _beside(recordings: Sequence[Evidence], hunks: Sequence[Hunk]) -> Table:
    grid = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold", expand=True)
    grid.add_column("")
    for recording in recordings:
        grid.add_column(recording.name, ratio=1, overflow="fold")
    for at, hunk in enumerate(hunks):
        if not hunk.same:
            for ours, theirs in zip_longest(hunk.left[:SHOWN], hunk.right[:SHOWN]):
                mark = "<" if theirs is None else ">" if ours is None else "|"
                grid.add_row(Text(mark, style="bold yellow"), _cell(ours, "red"), _cell(theirs, "green"))
            more = [len(side) - SHOWN for side in (hunk.left, hunk.right)]
            if max(more) > 0:
                grid.add_row("", *(Text(f"… and {number} more" if number > 0 else "", style="dim italic") for number in more))
            continue
        head = 0 if at == 0 else CONTEXT
        tail = len(hunk.left) - (0 if at == len(hunks) - 1 else CONTEXT)
        for index, (ours, theirs) in enumerate(zip(hunk.left, hunk.right, strict=True)):
            if index < head or index >= tail:
                grid.add_row("", _cell(ours, "dim"), _cell(theirs, "dim"))
            elif index == head:
                grid.add_row("", Text(f"… {_steps(tail - head)} the same", style="dim italic"), "")
    return grid


def _cell(step: AlignedLine | None, style: str) -> Text:
    if step is None:
        return Text("")
    return Text.assemble((f"{step.row.t:.6f} {step.row.number} ".replace("  ", " "), "dim"), (step.words, style))


def _json(recordings: Sequence[Evidence], hunks: Sequence[Hunk]) -> dict[str, Any]:
    def side(steps: Sequence[AlignedLine]) -> list[dict[str, Any]]:
        return [{"t": round(s.row.t, 6), "command": s.row.command, "line": s.row.event.line, "step": s.words} for s in steps]

    return {
        "recordings": [recording.name for recording in recordings],
        "same": sum(len(hunk.left) for hunk in hunks if hunk.same),
        "first": {name: _first(found) if (found := parting(hunks, kind)) else None for name, kind in KINDS.items()},
        "differences": [{"left": side(hunk.left), "right": side(hunk.right)} for hunk in hunks if not hunk.same],
    }


def _first(found: Parting) -> dict[str, Any]:
    return {
        "after": found.before,
        "question": found.question,
        "left": found.left.words if found.left else None,
        "right": found.right.words if found.right else None,
    }
