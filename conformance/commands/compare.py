"""``nvme-lab compare``: what changed from one result to another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
from rich.console import Group, RenderableType
from rich.text import Text

from conformance.commands.options import JSON
from conformance.judging.compare import HEADINGS, Change, Comparison, Kind, baseline
from conformance.judging.compare import compare as compare_results
from conformance.judging.files import read
from conformance.judging.models import Results
from conformance.judging.summary import DRIVER_FAILED
from conformance.report.terminal import SHOWN, show
from conformance.wire.decode import printable, shortened
from lab.errors import UsageError

STYLES: dict[Kind, str] = {
    "fixes": "bold green",
    "new": "bold",
    "excused": "yellow",
    "lost": "bold yellow",
    "regressions": "bold red",
}


@click.command()
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.option("--driver", default="", metavar="NAME", help="compare with the newest version of this driver in OLD")
@JSON
def compare(old: Path, new: Path, driver: str, as_json: bool) -> int:
    """Find what has changed from one result to another. OLD, NEW: folders that nvme-lab run wrote, or their results.json.

    A driver that OLD does not have under the same name is compared with its newest release there.

    \b
    nvme-lab compare baseline/results.json nvme-lab-results/latest
    nvme-lab compare releases/results.json nvme-lab-results/latest --driver edk2

    Exit status: 0, or 1 on a regression.
    """
    after = read(new)
    before, releases = baseline(read(old), after, driver)
    results = before, after
    found = compare_results(*results)
    if not found.compared:
        raise UsageError(
            f"{old} and {new} have no verdict in common: nothing can be compared.",
            remedy="compare results of the same driver and device",
        )
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1, ensure_ascii=False))
    else:
        show(Group(*_lines(found, *results, new if new.is_dir() else new.parent)))
        for name, release in releases.items():
            click.echo(f"{name} was compared with {release}.")
    return DRIVER_FAILED if found.regressions else 0


def _lines(found: Comparison, old: Results, new: Results, folder: Path) -> Iterator[RenderableType]:
    for kind, heading in HEADINGS.items():
        changes: list[Change] = getattr(found, kind)
        if changes:
            yield Text(f"\n{heading}", style=STYLES[kind])
        shown = changes if kind == "regressions" else changes[:SHOWN]
        for change in shown:
            yield from _change(change, folder)
        if changes[len(shown) :]:
            yield Text(f"  and {len(changes) - len(shown)} more (--json lists all)", style="dim")
    if found.slower:
        yield Text("\nSlower", style="bold yellow")
    for slow in found.slower:
        where = f"{slow.driver}/{slow.device}/{slow.scenario}"
        yield Text(f"  {where}  {slow.old:.1f} s → {slow.new:.1f} s ({slow.new / max(slow.old, 0.001):.1f} times)")
    for entry in found.unreached:
        yield Text(f"\nCoverage lost: {entry.driver} on {entry.device}, {entry.object}", style="bold yellow")
        more = f" and {len(entry.functions) - SHOWN} more" if entry.functions[SHOWN:] else ""
        yield Text(f"  no longer entered: {printable(', '.join(entry.functions[:SHOWN]))}{more}")
    yield Text("")
    for name, result in (("OLD", old), ("NEW", new)):
        if result.unfinished or result.missing_shards:
            yield Text(f"{name} is a partial result.", style="bold magenta")
    counts = ", ".join(f"{len(getattr(found, kind))} {kind}" for kind in HEADINGS)
    style = STYLES["regressions"] if found.regressions else "bold green"
    yield Text(f"{counts}, {len(found.slower)} slower; {found.compared} verdicts compared.", style=style)


def _change(change: Change, folder: Path) -> Iterator[Text]:
    more = f" and {len(change.scenarios) - 1} more" if len(change.scenarios) > 1 else ""
    where = f"{change.driver} on {change.device}, {change.scenarios[0]}{more}"
    yield Text.assemble(f"  {change.old} → {change.new}  {change.check}  ", (where, "dim"))
    words = {"expected": change.expected, "actual": change.actual, "reason": change.reason}
    if change.evidence:
        words["evidence"] = str(folder / change.evidence)
    for word, said in words.items():
        if said:
            yield Text(f"      {word:9} {printable(shortened(said))}", style="dim" if word == "evidence" else "")
