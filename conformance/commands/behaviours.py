"""``nvme-lab behaviours``: what the live Linux driver makes of each behaviour of the programmable controller."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from conformance.commands.options import JSON, machine, settings
from conformance.report.steps import Steps
from conformance.report.terminal import console
from lab.controller.behaviour import BEHAVIOURS
from lab.controller.executor import BATCH
from lab.errors import UsageError, nearest
from lab.guest.folder import run_folder
from lab.toolchain import Toolchain, prepare
from lab.trials import behaviours as lab_behaviours
from lab.trials.behaviours import TRIALS, Shown, Trial

NUMBERS = re.compile(r"(I/O|id|request|tag) (?:0x[0-9a-f]+|\d+)\b")
"""Of commands in Linux's log: they are others at each run, and would make each one's document differ."""


@click.command()
@click.option("--behaviour", "names", multiple=True, metavar="NAME", help="only this behaviour (repeatable)")
@click.option("--write", "document", type=click.Path(path_type=Path), metavar="FILE", help="write a Markdown document too")
@click.option("--jobs", type=click.IntRange(1), metavar="N", default=2, show_default=True, help="guests at a time")
@JSON
@machine
def behaviours(names: Sequence[str], document: Path | None, jobs: int, as_json: bool, **options: Any) -> int:
    """Show each behaviour of the programmable controller on a live Linux: its log, and what it did.

    \b
    nvme-lab behaviours --behaviour drop
    nvme-lab behaviours --write docs/behaviours.md
    """
    lab_behaviours.check_complete()
    chosen = _chosen(names)
    out = Console(stderr=True) if as_json else console()
    with Steps(out, what="preparing") as steps:
        toolchain = prepare(settings(options), {"qemu", "linux-guest"}, steps.say)
    shown = []
    with ThreadPoolExecutor(jobs) as pool, Steps(out, len(chosen), "guests") as steps:
        for one in pool.map(lambda trial: _try(toolchain, trial), chosen):
            shown.append(one)
            if not as_json:
                steps.done(_terminal(one))
    if as_json:
        click.echo(json.dumps([{**asdict(one), "effects": one.effects} for one in shown], indent=1))
    if document is not None:
        document.write_text(markdown(shown, toolchain))
    return 1 if any(one.struck == 0 for one in shown) else 0


def _chosen(names: Sequence[str]) -> list[Trial]:
    known = {trial.behaviour: trial for trial in TRIALS}
    for name in names:
        if name not in known:
            raise UsageError(f"there is no behaviour {name!r}{nearest(name, known)}")
    return [known[name] for name in names or known]


def _try(toolchain: Toolchain, trial: Trial) -> Shown:
    with run_folder() as folder:
        return lab_behaviours.show(toolchain, trial, folder)


def _terminal(shown: Shown) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_row(f"[bold]{shown.trial.behaviour}[/bold]", ", ".join(shown.effects), f"{shown.provoked}, {shown.seconds:g} s")
    for line in shown.log:
        grid.add_row("", f"[dim]{line}[/dim]")
    return grid


# -- the document ---------------------------------------------------------------------------------------------------

_HEAD = """\
# Behaviours

What the programmable controller can do wrong, and what the Linux driver (nvme.ko {release}) makes of it: one row a behaviour.
Each was tried on a live Linux in a guest of its own, with time-outs of {timeout} s for commands and 1 s for CSTS.RDY (CAP.TO).
Arguments are shown with their defaults. "Provoked by" is what was asked of Linux while the behaviour was armed; all but
`reset` strike one command. Numbers of commands in Linux's log are left out.

This file is written by `nvme-lab behaviours --write docs/behaviours.md`.

## When a behaviour strikes

A fault (`lab.data.plan.Fault`) names a behaviour and says what it strikes.
All that is given must fit; a behaviour with a predicate of its own (say `aer-refused`) needs none.

| field of the fault | strikes |
|---|---|
| `controller` | only the controller with this id, where the device has several |
| `queue`, `sqid`, `opcode`, `nsid`, `lba` | commands of that queue, opcode or namespace, over that block |
| `cdw10` | commands whose dword 10 has this low byte: a CNS, a feature, a log page |
| `fields` | commands whose fields have these values, by the names of `lab.nvme.commands`: `{{"SLBA": 8, "FUA": 1}}` |
| `mask`, `match` | commands whose 64 bytes, under the mask, are these; both hexadecimal, equally long |
| `register`, `access` | accesses to a register of BAR0, by name or offset (doorbells too): `read` or `write` |
| `value`, `value_mask` | of these, only writes of this value, under the mask |
| `nth`, `times` | only the n-th that fits; so often at most: of commands, accesses, enablings, disablings or shutdowns |
| `armed` | false: only once the action `fault` has switched it on |

Held commands (`hold`) are executed one by one by the lab's action `release` with the fault's `name` and a `count`.
In process, a command is executed inside the write of its doorbell; unless it takes time it has completed when that returns.
A doorbell that submits more than {batch} commands has the first {batch} executed at once, and the others as time goes on.

## What Linux makes of them

| behaviour | what it does | arguments | tried with | provoked by | what Linux said | what Linux did | afterwards |
|---|---|---|---|---|---|---|---|
"""


def markdown(shown: Sequence[Shown], toolchain: Toolchain) -> str:
    """Return docs/behaviours.md for the trials of a kernel."""
    release = toolchain.linux.release if toolchain.linux else ""
    head = _HEAD.format(release=release, timeout=lab_behaviours.TIMEOUT, batch=BATCH)
    return head + "".join(f"| {' | '.join(_row(one))} |\n" for one in shown) + _NOT_SHOWN + "".join(_not_shown())


_NOT_SHOWN = """
## Behaviours that Linux does not meet

| behaviour | what it does | arguments | why it is not shown on Linux |
|---|---|---|---|
"""


def _not_shown() -> Iterator[str]:
    for name, reason in lab_behaviours.NOT_PROVOKED.items():
        yield f"| `{name}` | {_description(name)} | {_arguments(BEHAVIOURS[name].ARGUMENTS) or 'none'} | {reason} |\n"


def _description(name: str) -> str:
    return " ".join((BEHAVIOURS[name].__doc__ or "").split()).replace("``", "`")


def _row(shown: Shown) -> Iterator[str]:
    trial = shown.trial
    kind = BEHAVIOURS[trial.behaviour]
    yield f"`{trial.behaviour}`"
    yield _description(trial.behaviour)
    yield _arguments(kind.ARGUMENTS) or "none"
    yield _arguments(trial.arguments) or "no arguments"
    yield trial.provocation
    yield "<br>".join(f"`{_stable(line)}`" for line in shown.log) or "nothing"
    yield f"{', '.join(shown.effects)}; {shown.provoked} after {shown.seconds:g} s"
    yield f"read: {shown.afterwards}" if shown.state == "live" else f"controller {shown.state}, {shown.afterwards}"


def _stable(line: str) -> str:
    return NUMBERS.sub(r"\1 …", line).strip()


def _arguments(arguments: Any) -> str:
    return ", ".join(f"`{name}`={value:d}" if isinstance(value, int) and not isinstance(value, bool) else f"`{name}`={value}"
                     for name, value in arguments.items())  # fmt: skip
