"""``nvme-lab bench``: each benchmark measures two things in one run, in turns, and shows how many times as good the one is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Group
from rich.table import Table
from rich.text import Text

from conformance.commands.options import JSON, NearestGroup, machine, settings
from conformance.proof import benchmarks
from conformance.proof.loop import loop, reads
from conformance.report.terminal import show
from conformance.wire.decode import printable_lines
from lab.bench import controller, fio, fork, reference, virtme
from lab.bench.figures import Figure, environment
from lab.errors import LabError, UsageError
from lab.guest.folder import run_folder
from lab.toolchain import Toolchain, check_overrides, prepare

WANTS = ("qemu", "linux-guest")
ROUNDS = click.option("--rounds", type=click.IntRange(1), metavar="N", default=5, show_default=True,
                      help="rounds per median")  # fmt: skip
SECONDS = click.option("--seconds", type=click.FloatRange(0.01), metavar="N", default=1.0, show_default=True,
                       help="seconds per figure and round")  # fmt: skip


@click.group("bench", cls=NearestGroup)
def bench_group() -> None:
    """Measure the lab itself, always against something else in the same run.

    \b
    nvme-lab bench fork
    nvme-lab bench controller --rounds 3 --json
    """


@bench_group.command("fork")
@ROUNDS
@JSON
@machine
def bench_fork(rounds: int, as_json: bool, **options: Any) -> None:
    """Compare forked guests with booted ones: from nothing to the first block that is read and right.

    Where virtme-ng is installed (the program vng is on the PATH), one of its guests takes part, unless root runs this. Where
    it cannot boot one, its row is left out, with the reason.

    \b
    nvme-lab bench fork
    """
    chosen = settings(options)
    toolchain = prepare(chosen, WANTS, _say)
    figures = fork.bench(toolchain, rounds, _say)
    left_out: list[str] = []
    if (program := virtme.find_program(_say)) is not None:
        with run_folder() as folder:
            try:
                kernel = virtme.fetch_kernel(chosen, _say)
                figures.append(virtme.beside(figures[0], program, toolchain, kernel, folder, _say))
            except UsageError:
                raise
            except LabError as error:  # the peer's failure takes nothing away from what was measured
                left_out.append(f"virtme-ng: {error.what}")
    _tell(figures, toolchain, as_json, left_out)


@bench_group.command("controller")
@SECONDS
@ROUNDS
@JSON
@machine
def bench_controller(seconds: float, rounds: int, as_json: bool, **options: Any) -> None:
    """Compare the recording programmable controller with QEMU's own device: 4 KiB direct I/O by fio in a Linux guest.

    QEMU's own device as such is the measure. It is also shown with its trace on, which is how the lab records it.

    \b
    nvme-lab bench controller
    """
    chosen = settings(options)
    toolchain = prepare(chosen, WANTS, _say)
    program = fio.fetch(chosen, _say)
    with run_folder() as folder:
        figures = controller.bench(toolchain, program, folder, rounds=rounds, seconds=seconds, say=_say)
    _tell(figures, toolchain, as_json)


@bench_group.command("reference")
@SECONDS
@ROUNDS
@JSON
@machine
def bench_reference(seconds: float, rounds: int, as_json: bool, **options: Any) -> None:
    """Compare the reference driver in process, over qtest and by VFIO with the bare cost of each transport: reads a second.

    By VFIO it is also compared with Linux's own driver on the same kind of device, which fio asks in a guest of its own.

    \b
    nvme-lab bench reference
    """
    chosen = settings(options)
    toolchain = prepare(chosen, WANTS, _say)
    program = fio.fetch(chosen, _say)
    _tell(reference.bench(toolchain, program, rounds=rounds, seconds=seconds, say=_say), toolchain, as_json)


@bench_group.command("scaling")
@click.option("--scenarios", type=click.IntRange(2), metavar="N", default=benchmarks.SCENARIOS, show_default=True,
              help="number of Linux's scenarios, evenly chosen")  # fmt: skip
@JSON
@machine
def bench_scaling(scenarios: int, as_json: bool, **options: Any) -> None:
    """Compare two workers with one: scenarios a second. The verdicts must be the same.

    \b
    nvme-lab bench scaling
    """
    chosen = settings(options)
    toolchain = prepare(chosen, WANTS, _say)
    with run_folder() as folder:
        figures = benchmarks.scaling(chosen, folder, _say, scenarios=scenarios)
    _tell(figures, toolchain, as_json)


@bench_group.command("judge")
@ROUNDS
@JSON
@machine
def bench_judge(rounds: int, as_json: bool, **options: Any) -> None:
    """Compare judging recorded evidence by all checks with only reading it: events a second.

    \b
    nvme-lab bench judge
    """
    chosen = settings(options)
    check_overrides(chosen, (), "this benchmark")
    toolchain = prepare(chosen, (), _say)
    with run_folder() as folder:
        figures = benchmarks.judging(chosen, folder, _say, rounds=rounds)
    _tell(figures, toolchain, as_json)


@bench_group.command("loop")
@click.option("--against", type=click.Path(path_type=Path, file_okay=False, exists=True), required=True, metavar="CHECKOUT",
              help="another version of the lab, set up in a folder of its own")  # fmt: skip
@click.option("--driver", "drivers", multiple=True, metavar="NAME|FILE", default=("reference",), show_default=True,
              help="whose scenario and stage are run (repeatable)")  # fmt: skip
@click.option("--whole", is_flag=True, help="all scenarios of each driver too")
@ROUNDS
@JSON
def bench_loop(against: Path, drivers: Sequence[str], whole: bool, rounds: int, as_json: bool) -> None:
    """Compare the inner loop with another version's: from what is typed to the prompt, by the clock and by processor time.

    Both versions run the same, in turns; verdicts that differ are reported. The reference driver's reads a second in process
    are compared too.

    \b
    nvme-lab bench loop --against ../before
    nvme-lab bench loop --against ../before --driver linux --rounds 3
    """
    with run_folder() as folder:
        figures = loop(against, drivers, folder, _say, rounds=rounds, whole=whole)
        figures += reads(against, folder / "reads", _say, rounds=rounds)
    _tell(figures, Toolchain(None, None), as_json)


def _say(text: str) -> None:
    click.echo(text, err=True)


def _tell(figures: Sequence[Figure], toolchain: Toolchain, as_json: bool, left_out: Sequence[str] = ()) -> None:
    """Print the figures; ``left_out`` says what is not among them, with the reason."""
    where = environment(toolchain)
    if as_json:
        reported = {"figures": [figure.to_json() for figure in figures], "left_out": list(left_out), "environment": where}
        click.echo(json.dumps(reported, indent=1, ensure_ascii=False))
    else:
        missing = [Text(f"left out  {printable_lines(reason)}", style="yellow") for reason in left_out]
        facts = Text(", ".join(f"{name} {value}" for name, value in where.items()), style="dim")
        show(Group(_table(figures), "", *missing, facts))


def _table(figures: Sequence[Figure]) -> Table:
    """Return one row per figure; consecutive figures name what they are compared with once."""
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    grid.add_column("")
    grid.add_column("", justify="right")
    grid.add_column("", style="dim")
    grid.add_column("against", justify="right")
    grid.add_column("", style="dim")
    grid.add_column("times as good", justify="right", style="bold")
    before = ""
    for figure in figures:
        against = "" if figure.against == before else figure.against
        before = figure.against
        mine, other = _number(figure.value), _number(figure.against_value)
        grid.add_row(figure.name, mine, figure.unit, other, against, f"{figure.ratio:.2g}")
    return grid


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
