"""``nvme-lab fuzz``: mutated devices, faults and questions, guided by what they reach in the driver."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from conformance.commands import completing
from conformance.commands.options import JSON, machine, settings
from conformance.commands.running import MACHINE
from conformance.commands.sweep import DEFAULT_SCENARIOS, DRIVER_FAILED
from conformance.discovery.cases import prepared
from conformance.discovery.fuzz import Fuzzing, FuzzState, open_state, progress
from conformance.discovery.mutations import sparse
from conformance.discovery.pool import default_jobs
from conformance.discovery.trial import Bench
from conformance.report import terminal
from conformance.run.folders import lock_folder, shown
from conformance.run.plan import RunRequest, plan
from conformance.run.prepare import prepare_campaign
from lab import drivers
from lab.errors import LabError, UsageError


@click.command(
    epilog="Exit status: 0 nothing failed, 1 the driver failed, 2 the lab failed, 4 wrong usage, 130 or 143 interrupted."
)
@click.option("--driver", default="reference", metavar="NAME|FILE", shell_complete=completing.drivers, show_default=True,
              help="a driver's name or its manifest")  # fmt: skip
@click.option("--scenario", "scenarios", multiple=True, metavar="ID|FILE", shell_complete=completing.scenarios,
              help=f"what a new corpus starts from (repeatable) [default: {', '.join(DEFAULT_SCENARIOS)}]")  # fmt: skip
@click.option(
    "--minutes", type=click.FloatRange(0, min_open=True), metavar="N", default=1.0, show_default=True, help="how long"
)
@click.option("--rounds", type=click.IntRange(1), metavar="N", help="at most N rounds of 32 scenarios")
@click.option("--seed", type=click.IntRange(0), metavar="N", default=0, show_default=True, help="draws everything")
@click.option("--corpus", type=click.Path(path_type=Path, file_okay=False), required=True, metavar="DIR",
              help="folder of what is kept; one that exists goes on")  # fmt: skip
@click.option("--defect", default="", metavar="ID", help="seed this mistake into the reference driver")
@click.option("--jobs", type=click.IntRange(1, 64), metavar="N", help="scenarios at once [default: by the processors]")
@JSON
@machine
def fuzz(**options: Any) -> int:
    """Mutate what the device does, the bytes it returns, its shape and the questions, and keep what reaches something new.

    New is a line of the reference driver, or a pair of successive steps on the wire. A crash, a missing answer, a wrong byte or
    a broken rule is shrunk and written as a scenario file into findings.

    \b
    nvme-lab fuzz --minutes 10 --corpus corpus
    nvme-lab fuzz --driver linux --minutes 60 --corpus corpus-linux
    """
    console = Console(stderr=True) if options["as_json"] else terminal.console()
    folder = options["corpus"].resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LabError(
            f"The folder {folder} cannot be made: {error.strerror}.", remedy="choose another with --corpus"
        ) from error
    lock_folder(folder)
    state = open_state(folder, FuzzState(driver=options["driver"], defect=options["defect"], seed=options["seed"]))
    request = RunRequest(
        drivers=(options["driver"],),
        devices=("lab",),
        scenarios=options["scenarios"] or DEFAULT_SCENARIOS,
        seed=options["seed"],
        defect=options["defect"],
    )
    campaign = prepare_campaign(
        plan(request), settings({name: options[name] for name in MACHINE}), lambda said: console.print(said, style="dim")
    )
    if not campaign.jobs:
        raise UsageError("None of the scenarios can be recorded.", remedy="name others with --scenario")
    bench = Bench(campaign.drivers[0], "lab", campaign.toolchain)
    actions = drivers.adapter(bench.driver, bench.toolchain).actions
    seeds = [sparse(prepared(job.scenario, actions)) for job in campaign.jobs]

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    running = Fuzzing(state, bench, seeds, folder, options["jobs"] or default_jobs(bench), say)
    try:
        running.run(options["minutes"], options["rounds"])
    finally:
        if options["as_json"]:
            click.echo(state.model_dump_json(by_alias=True, indent=1))
        elif state.executions:
            _show(state, folder, console)
    return DRIVER_FAILED if any(group.counts for group in state.groups) else 0


def _show(state: FuzzState, folder: Path, console: Console) -> None:
    for group in state.groups:
        counted = "" if group.counts else ", which does not count"
        console.print(
            f"{group.outcome}  {group.check}: {shown(folder / group.scenario)}{counted}", markup=False, soft_wrap=True
        )
    console.print(f"{state.driver}: {progress(state)}.", style="bold", highlight=False, soft_wrap=True)
    console.print(f"Corpus: {shown(folder)}", style="dim", soft_wrap=True)
