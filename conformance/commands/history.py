"""``nvme-lab history``: what each version of a driver did with each check, and where that changed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from conformance.commands import completing
from conformance.commands.options import JSON
from conformance.judging.files import read
from conformance.judging.history import ALWAYS, NEVER, History, Input, Kind, Point, Row, Side, Transition
from conformance.judging.history import history as history_of
from conformance.judging.models import FILE
from conformance.report.history import HistoryView
from conformance.report.html import history_html
from conformance.report.terminal import show
from conformance.report.witness import differences_of
from conformance.suite.check import Outcome
from conformance.wire.around import Around
from conformance.wire.decode import printable, shortened
from lab.errors import UsageError

STYLES: dict[Kind, str] = {
    Kind.INTRODUCED: "bold red", Kind.UNCOVERED: "yellow", Kind.FLAKY: "bold yellow", Kind.HIDDEN: "yellow",
    Kind.FIXED: "bold green",
}  # fmt: skip


@click.command()
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--driver", "drivers", multiple=True, metavar="NAME", help="only this driver, without a version (repeatable)")
@click.option(
    "--check", "checks", multiple=True, metavar="ID", shell_complete=completing.checks, help="only this check (repeatable)"
)
@click.option("--all", "every", is_flag=True, help="also checks that no version violates")
@click.option("--wire/--no-wire", default=True, show_default=True, help="compare the recordings of both sides of transitions")
@click.option("--html", "page", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="write it as a page")
@JSON
def history(
    results: Sequence[Path], drivers: Sequence[str], checks: Sequence[str], every: bool, wire: bool, page: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Show which version of a driver brought a fault, and which one took it away. RESULT: folders that nvme-lab run wrote.

    A cell counts the scenarios in which a version violates a check. Between two versions a fault is introduced or fixed; where
    the earlier version says nothing it is uncovered, where the later one says nothing it is hidden.

    \b
    nvme-lab run --driver 'edk2@*' --out edk2
    nvme-lab history edk2
    nvme-lab history edk2 --html history.html
    """  # fmt: skip
    inputs = [Input(_name(path), path if path.is_dir() else path.parent, read(path)) for path in results]
    found = history_of(inputs, drivers, checks)
    differences = differences_of(found) if wire else {}
    if page is not None:
        try:
            page.write_text(history_html(HistoryView(found, differences, page.parent)), encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{page} cannot be written: {error.strerror}.") from error
    if as_json:
        click.echo(json.dumps(_json(found, differences), indent=1, ensure_ascii=False))
    elif page is not None:
        click.echo(f"Wrote {page}: {len(found.rows)} checks, {len(found.transitions)} transitions.")
    else:
        show(Group(*_text(found, differences, every=every)))


def _name(path: Path) -> str:
    return str(path.parent if path.name == FILE else path)


def _json(found: History, differences: Mapping[Transition, Around | None]) -> dict[str, Any]:
    data = found.to_json()
    for entry, transition in zip(data["transitions"], found.transitions, strict=True):
        difference = differences.get(transition)
        entry["wire"] = list(difference.lines) if difference else []
        entry["question"] = difference.question if difference else ""
    return data


def _text(found: History, differences: Mapping[Transition, Around | None], *, every: bool) -> Iterator[RenderableType]:
    for driver in found.drivers:
        yield _table(found, driver, every=every)
        yield Text("")
        for release in found.releases_of(driver):
            says = f", says {printable(' / '.join(release.builds))}" if release.builds else ""
            yield Text(f"{driver}@{release.version}  {release.package or 'no package'}{says}", style="dim")
        own = [transition for transition in found.transitions if transition.driver == driver]
        for transition in own:
            yield from _transition(transition, differences.get(transition))
        for entry in (entry for entry in found.known if entry.driver == driver):
            if entry.stale:
                yield Text(
                    f"stale  {entry.check}  known in {entry.versions or 'all versions'}, passes in {', '.join(entry.stale)}",
                    style="yellow",
                )
        if len(points := found.trend.get(driver, ())) > 1:
            yield from (Text(""), _trend(points))
        if len(found.releases_of(driver)) == 1:
            yield Text(f"\n{driver}: one version, so there is nothing to compare: name more results.", style="bold")
            continue
        counts = ", ".join(f"{sum(t.kind is kind for t in own)} {kind}" for kind in Kind)
        never = sum(row.words == (NEVER,) for row in found.rows if row.driver == driver)
        always = sum(row.words == (ALWAYS,) for row in found.rows if row.driver == driver)
        yield Text(f"\n{driver}: transitions: {counts}; checks always violated: {always}, never: {never}\n", style="bold")


def _table(found: History, driver: str, *, every: bool) -> Table:
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    grid.add_column(driver, no_wrap=True)
    versions = [release.version for release in found.releases_of(driver)]
    for version in versions:
        grid.add_column(version, justify="right")
    grid.add_column("")
    for row in (row for row in found.rows if row.driver == driver):
        if every or row.words != (NEVER,):
            grid.add_row(row.check, *(_cell(row, version) for version in versions), ", ".join(row.words))
    return grid


def _trend(points: Sequence[Point]) -> Table:
    """Return a row for each result: what passed of what was judged, what code was executed, how long the recordings took."""
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    covered = any(point.covered is not None for point in points)
    for heading in ("trend", "passed", "judged", "share", *(["code"] if covered else []), "seconds"):
        grid.add_column(heading, justify="left" if heading == "trend" else "right")
    for point in points:
        code = [f"{point.covered:.1%}" if point.covered is not None else "-"] if covered else []
        grid.add_row(point.version, str(point.passed), str(point.judged), f"{point.rate:.1%}", *code, f"{point.seconds:.0f}")
    return grid


def _cell(row: Row, version: str) -> Text:
    """Return the number of scenarios in which a version violates the rule; a dot for none, a question mark where none tells."""
    cell = row.cells.get(version)
    if cell is None or not cell.judged:
        return Text("!" if cell and cell.outcome == Outcome.ERROR else "?", style="dim")
    style = "red" if cell.outcome == Outcome.FAIL else "yellow"
    return Text(str(cell.bad), style=style) if cell.bad else Text("·", style="green")


def _transition(transition: Transition, difference: Around | None) -> Iterator[RenderableType]:
    before, after = transition.before, transition.after
    more = f" and {len(transition.scenarios) - 1} more" if len(transition.scenarios) > 1 else ""
    yield Text.assemble(
        "\n",
        (f"{transition.kind}", STYLES[transition.kind]),
        f"  {transition.check}  {transition.driver} {before.version} → {after.version}  ",
        (f"{before.outcome} → {after.outcome}, {transition.scenarios[0]}{more}", "dim"),
    )
    bad: Side = transition.bad
    for word, said in (("expected", bad.expected), ("actual", bad.actual), ("reason", "" if bad.actual else bad.reason)):
        if said:
            yield Text(f"    {word:9} {printable(shortened(said))}")
    for side in (before, after):
        if side.evidence:
            yield Text(f"    {side.version:9} {side.evidence}{f' {side.place}' if side.place else ''}", style="dim")
    if difference:
        asked = f", at {difference.question!r}" if difference.question else ""
        yield Text(f"    on the wire{asked}:")
        yield from (Text(f"      {printable(shortened(line))}", style=_style(line)) for line in difference.lines)
        if difference.more:
            yield Text(f"      … and {difference.more} steps more", style="dim")


def _style(line: str) -> str:
    return {"<": "red", ">": "green"}.get(line[0], "dim")
