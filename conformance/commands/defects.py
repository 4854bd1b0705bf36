"""``nvme-lab defects``: proof that the suite can fail, and that it fails no legal driver."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click
from rich.markup import escape

from conformance.commands.options import JSON, SEED
from conformance.proof.campaign import CampaignReport, campaign
from conformance.proof.defects import Examined, choose
from conformance.proof.recording import Alarm
from conformance.report import terminal
from conformance.report.steps import Steps
from lab import variants as legal
from lab.defects import DEFECTS


@click.command(epilog="Exit status: 0 all are caught and nothing else is wrong, 1 otherwise, 4 wrong usage.")
@click.option("--check", "checks", multiple=True, metavar="ID", help="only the defects of this check (repeatable)")
@click.option("--defect", "ids", multiple=True, metavar="ID", help="only this defect (repeatable)")
@click.option("--variant", "variant_ids", multiple=True, metavar="ID", help="only this legal variant (repeatable)")
@click.option("--alone", is_flag=True, help="each legal variant alone through every scenario, not several at once (slow)")
@click.option("--jobs", type=click.IntRange(1, 64), metavar="N", help="defects at once [default: one a processor]")
@SEED
@JSON
def defects(
    checks: Sequence[str],
    ids: Sequence[str],
    variant_ids: Sequence[str],
    alone: bool,
    jobs: int | None,
    seed: int,
    as_json: bool,
) -> int:
    """Seed mistakes into the reference driver, one at a time, and see which check catches which.

    The driver without a mistake must pass everything, and one that only lies must pass nothing that the device would have seen.
    Legal variants of the driver, each with the section of the specification that allows it, must fail nothing in any scenario.
    A defect counts as caught only by a finding of its own check that no other check has; one that names the check "any" is
    caught by whatever check fails.

    \b
    nvme-lab defects
    nvme-lab defects --check read/nlb
    nvme-lab defects --variant admin-queue/lazy-head
    nvme-lab run --driver reference --defect read/nlb:one-fewer
    """
    console = terminal.console()
    wanted = choose(checks, ids) if checks or ids or not variant_ids else []
    allowed = [one for id in variant_ids for one in legal.find(id)]
    if not (checks or ids or variant_ids):
        allowed = list(legal.VARIANTS.values())
    if as_json:
        report = campaign(wanted, allowed, seed=seed, jobs=jobs, alone=alone)
        click.echo(json.dumps(report.to_json(), indent=1, ensure_ascii=False))
    else:
        with Steps(console, len(wanted), "seeding defects") as steps:
            report = campaign(
                wanted, allowed, seed=seed, jobs=jobs, alone=alone, on_done=lambda examined: steps.done(_line(examined))
            )
        for text in _summary(report):
            console.print(text)
    return 0 if report.good else 1


def _line(examined: Examined) -> str:
    word = "[green]caught[/]" if examined.caught else "[red]MISSED[/]"
    also = f"  [dim]also {escape(', '.join(examined.also))}[/]" if examined.also else ""
    problem = f"  [red]{escape(examined.problem)}[/]" if examined.problem and not examined.caught else ""
    return f"{word}  {escape(examined.defect)}  [dim]{escape(DEFECTS[examined.defect].summary)}[/]{also}{problem}"


def _summary(report: CampaignReport) -> list[str]:
    titles = {
        "failed without a defect": report.false_alarms,
        "passed on a driver that only lies": report.false_passes,
        "could not be judged": report.errors,
    }
    lines = [f"[red]{title}[/]: {escape(_sentence(alarm))}" for title, alarms in titles.items() for alarm in alarms]
    for one in report.variants:
        lines += [f"[red]failed on a legal variant[/]: {one.variant}: {escape(_sentence(alarm))}" for alarm in one.alarms]
    for complaint in report.together:
        lines.append(f"[red]failed on legal variants together[/]: {complaint.variant}: {escape(_sentence(complaint.alarm))}")
    lines += [f"[red]does not show[/]: {id} makes no difference that the device sees" for id in report.invisible]
    wrong = len(report.false_alarms) + len(report.false_passes) + len(report.errors)
    reported = []
    if report.examined:
        reported.append(f"{report.caught} of {len(report.examined)} defects caught, {wrong} false verdicts")
    if report.variants:
        reported.append(f"{report.alarmed} of {len(report.variants)} legal variants failed")
    return [*lines, f"[{'green' if report.good else 'red'}]{'; '.join(reported)}[/]"]


def _sentence(alarm: Alarm) -> str:
    return f"{alarm.check} in {alarm.scenario}: {alarm.outcome}, {alarm.finding}"
