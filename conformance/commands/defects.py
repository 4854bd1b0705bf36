"""``nvme-lab defects``: proof that the suite can fail."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click
from rich.markup import escape

from conformance.commands.options import JSON
from conformance.proof.defects import Alarm, Examined, Outcomes, campaign, chosen
from conformance.report import terminal
from conformance.report.steps import Steps
from conformance.run.plan import DEFAULT_SEED
from lab.defects import DEFECTS


@click.command(epilog="Exit status: 0 all are caught and nothing else is wrong, 1 otherwise, 4 wrong usage.")
@click.option("--check", "checks", multiple=True, metavar="ID", help="only the defects of this check (repeatable)")
@click.option("--defect", "ids", multiple=True, metavar="ID", help="only this defect (repeatable)")
@click.option("--jobs", type=click.IntRange(1, 64), metavar="N", help="defects at once [default: one a processor]")
@click.option("--seed", type=int, default=DEFAULT_SEED, show_default=True, help="draws serial numbers, sizes and data")
@JSON
def defects(checks: Sequence[str], ids: Sequence[str], jobs: int | None, seed: int, as_json: bool) -> int:
    """Seed mistakes into the reference driver, one at a time, and see which check catches which.

    The driver without a mistake must pass everything, and one that only lies must pass nothing that the device would have seen.

    \b
    nvme-lab defects
    nvme-lab defects --check read/nlb
    nvme-lab run --driver reference --defect read/nlb:one-based
    """
    console = terminal.console()
    wanted = chosen(checks, ids)
    if as_json:
        outcomes = campaign(wanted, seed=seed, jobs=jobs)
        click.echo(json.dumps(outcomes.to_json(), indent=1, ensure_ascii=False))
    else:
        with Steps(console, len(wanted), "seeding defects") as steps:
            outcomes = campaign(wanted, seed=seed, jobs=jobs, on_done=lambda examined: steps.done(_line(examined)))
        for text in _summary(outcomes):
            console.print(text)
    return 0 if outcomes.good else 1


def _line(examined: Examined) -> str:
    word = "[green]caught[/]" if examined.caught else "[red]MISSED[/]"
    also = f"  [dim]also {escape(', '.join(examined.also))}[/]" if examined.also else ""
    return f"{word}  {escape(examined.defect)}  [dim]{escape(DEFECTS[examined.defect].summary)}[/]{also}"


def _summary(outcomes: Outcomes) -> list[str]:
    titles = {
        "failed without a defect": outcomes.false_alarms,
        "passed on a driver that only lies": outcomes.believed,
        "could not be judged": outcomes.errors,
    }
    lines = [f"[red]{title}[/]: {escape(_told(alarm))}" for title, alarms in titles.items() for alarm in alarms]
    colour = "green" if outcomes.good else "red"
    alarms = len(outcomes.false_alarms) + len(outcomes.believed) + len(outcomes.errors)
    return [*lines, f"[{colour}]{outcomes.caught} of {len(outcomes.examined)} defects caught, {alarms} false verdicts[/]"]


def _told(alarm: Alarm) -> str:
    return f"{alarm.check} in {alarm.scenario}: {alarm.outcome}, {alarm.finding}"
