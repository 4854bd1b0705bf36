"""``nvme-lab replay``: a recorded scenario once more, judged, and held against the first time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from conformance.commands import completing
from conformance.commands.options import JSON, machine, settings
from conformance.commands.wire import one_evidence
from conformance.judging.judge import Verdict
from conformance.judging.models import Results
from conformance.judging.summary import exit_status
from conformance.report import terminal
from conformance.run.folders import default_folder, prepare_folder, shown
from conformance.run.prepare import prepare_campaign
from conformance.run.progress import BAD, Lines
from conformance.run.replay import ReplayDifference, differences, former, plan_again
from conformance.run.runner import record_and_judge, write_reports
from lab.data.evidence import Evidence
from lab.errors import LabError

SHOWN_CHARACTERS = 60


@click.command(epilog="Exit status: as run has it, for what was recorded now.")
@click.argument("evidence", type=click.Path(path_type=Path))
@click.option("--driver", default="", metavar="NAME|FILE", shell_complete=completing.drivers, help="its manifest, if it moved")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="folder for the results")
@JSON
@machine
def replay(evidence: Path, driver: str, out: Path | None, as_json: bool, **options: Any) -> int:
    """Record the same scenario again and hold its verdicts against the former ones, both by today's checks.

    EVIDENCE is the folder of one scenario, or the place in it that a failure names. Driver, device, seed, scenario and
    defect are those of the evidence; what is not the same any more (versions, hashes, the machine) is said.

    \b
    nvme-lab replay nvme-lab-results/latest/evidence/linux/qemu/read/basic
    """
    console = terminal.console()
    then = Evidence(one_evidence(evidence))
    campaign = plan_again(then, driver)
    name = campaign.jobs[0].name
    campaign = prepare_campaign(campaign, settings(options), lambda text: None if as_json else console.print(text, style="dim"))
    if not campaign.jobs:
        raise LabError(f"{name} cannot be recorded here: {campaign.left_out[0].reason}.")
    folder = prepare_folder(out or default_folder(Path.cwd()))
    with Lines(console) as lines:
        results = record_and_judge(replace(campaign, out=folder), [], [] if as_json else [lines])
    write_reports(results, folder)
    if not results.runs:
        why = results.verdicts[0].reason if results.verdicts else results.unfinished
        raise LabError(f"{name} could not be recorded: {why}")
    now = Evidence(folder / results.runs[0].evidence)
    changed = differences(then.identity.to_json(), now.identity.to_json())
    verdicts = _pairs(former(then), results)
    if as_json:
        reported = [{"check": check, "then": one, "now": other} for check, one, other in verdicts]
        content = {"results": str(folder), "differences": [asdict(one) for one in changed], "verdicts": reported}
        click.echo(json.dumps(content, indent=1, ensure_ascii=False))
    else:
        terminal.show(_compared(changed, verdicts))
        console.print(f"Evidence: {shown(now.folder)}", style="dim", soft_wrap=True)
    return exit_status(results)


def _pairs(then: Sequence[Verdict], results: Results) -> list[tuple[str, str, str]]:
    """Check, former outcome, new outcome."""
    now = {verdict.check: str(verdict.outcome) for verdict in results.verdicts}
    return [(verdict.check.id, str(verdict.outcome), now.get(verdict.check.id, "–")) for verdict in then]


def _compared(changed: Sequence[ReplayDifference], verdicts: Sequence[tuple[str, str, str]]) -> Table:
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("", "then", "now"):
        grid.add_column(heading, overflow="fold")
    for one in changed:
        grid.add_row(one.what, *(_short(value) for value in (one.then, one.now)), style="dim")
    if not changed:
        grid.add_row("driver, versions, machine", "as now", "as then", style="dim")
    for check, then, now in verdicts:
        if then != now:
            grid.add_row(Text(check, style="yellow"), then, now)
        elif then in BAD:
            grid.add_row(check, then, now)
    differing = sum(then != now for _, then, now in verdicts)
    grid.add_row(
        Text(f"{differing} of {len(verdicts)} verdicts differ" if differing else f"all {len(verdicts)} verdicts are the same")
    )
    return grid


def _short(value: str) -> str:
    return value if len(value) <= SHOWN_CHARACTERS else f"{value[:SHOWN_CHARACTERS]}…"
