"""``nvme-lab fetch`` and ``nvme-lab doctor``: what a run needs of this machine."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from conformance.commands.options import JSON, machine, settings
from conformance.onboarding.doctor import Diagnosis, State, examine
from conformance.report.steps import Steps
from conformance.report.terminal import console, show
from lab import drivers
from lab.errors import LabError
from lab.guest.template import clear
from lab.toolchain import WANTS, prepare, update_lock
from lab.toolchain.cache import Cache
from lab.toolchain.qemu import dotted

COLOURS: dict[State, str] = {"ok": "green", "warning": "yellow", "error": "bold red"}


@click.command()
@click.option("--update-lock", "updating", is_flag=True, help="write the mirror's newest versions into the lock file")
@machine
def fetch(updating: bool, **options: Any) -> None:
    """Download and build all that runs need, so that they work offline.

    \b
    nvme-lab fetch
    nvme-lab fetch --locked
    """
    out = console()
    chosen = settings(options)

    with Steps(out, what="preparing") as steps:
        if updating:
            every = [drivers.find(name) for driver in drivers.names() for name in drivers.versions_of(driver)]
            update_lock(chosen, steps.say, sources=drivers.sources(every))
        toolchain = prepare(chosen, WANTS, steps.say)
    assert toolchain.qemu is not None
    assert toolchain.linux is not None
    machine = f"QEMU {dotted(toolchain.qemu.version)} ({toolchain.qemu.origin})"
    out.print(f"Ready: {machine}, Linux {toolchain.linux.release}, U-Boot.")


@click.command()
@click.option("--clear-templates", "clearing", is_flag=True, help="remove the saved guests; the next run boots new ones")
@JSON
@machine
def doctor(clearing: bool, as_json: bool, **options: Any) -> int:
    """Say what this machine has and lacks, with the remedy. Nothing is downloaded. Exit status 2 where runs cannot work.

    \b
    nvme-lab doctor
    nvme-lab doctor --clear-templates
    """
    chosen = settings(options)
    if clearing:
        freed = clear(Cache(chosen.open_cache()))
        click.echo(f"Templates of guests removed: {freed >> 20} MiB freed.", err=True)
    findings = list(examine(chosen))
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        _print(findings)
    return LabError.exit_status if any(finding.state == "error" for finding in findings) else 0


def _print(findings: list[Diagnosis]) -> None:
    grid = Table.grid(padding=(0, 2, 0, 0))
    for finding in findings:
        grid.add_row(Text(finding.state, style=COLOURS[finding.state]), finding.name, Text(finding.says))
        if finding.remedy and finding.state != "ok":
            grid.add_row("", "", Text(f"remedy: {finding.remedy}", style="dim"))
    show(grid)
