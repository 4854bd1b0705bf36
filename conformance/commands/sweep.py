"""``nvme-lab sweep``: a fault at every place of a scenario, and what the driver made of each."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from conformance.commands import completing
from conformance.commands.options import JSON, machine, settings
from conformance.commands.run import EMULATED
from conformance.commands.running import MACHINE
from conformance.discovery.behaviours import LEFT_OUT, USES
from conformance.discovery.pool import default_jobs
from conformance.discovery.report import Lines, text
from conformance.discovery.sweep import REPORT, Sweep, SweepReport, SweepRequest, read_report
from conformance.discovery.trial import Bench
from conformance.report import terminal
from conformance.run.folders import lock_folder, shown
from conformance.run.plan import RunRequest, parse_shard, plan
from conformance.run.prepare import prepare_campaign
from lab.errors import LabError, UsageError, nearest
from lab.version import lab_version

DEFAULT_SCENARIOS = ("read/basic", "reset/asked")
DRIVER_FAILED, LAB_FAILED = 1, 2


@click.command(
    epilog="Exit status: 0 nothing failed, 1 the driver failed, 2 the lab failed, 4 wrong usage, 130 or 143 interrupted."
)
@click.option("--driver", default="", metavar="NAME|FILE", shell_complete=completing.drivers,
              help="a driver's name or its manifest [default: linux]")  # fmt: skip
@click.option("--device", type=click.Choice(EMULATED), default="lab", show_default=True, help="only lab serves faults")
@click.option("--scenario", "scenarios", multiple=True, metavar="ID|FILE", shell_complete=completing.scenarios,
              help=f"whose commands, accesses … are struck (repeatable) [default: {', '.join(DEFAULT_SCENARIOS)}]")  # fmt: skip
@click.option("--behaviour", "behaviours", multiple=True, metavar="NAME", help="only this one (repeatable) [default: all]")
@click.option("--pairs", type=click.IntRange(0), default=0, metavar="N", help="also N pairs of faults, drawn from the seed")
@click.option("--recovery/--no-recovery", default=None, show_default="on in process",
              help="unload and load the driver at the end of each trial, which costs as much as the trial")  # fmt: skip
@click.option("--limit", type=click.IntRange(1), metavar="N", help="at most N single faults, drawn from the seed")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), metavar="M", help="begin no trial after M minutes")
@click.option(
    "--seed", type=click.IntRange(0), metavar="N", default=0, show_default=True, help="draws the order, pairs, data and sizes"
)
@click.option("--shard", default="1/1", metavar="N/M", help="only this one of M parts")
@click.option("--jobs", type=click.IntRange(1, 64), metavar="N", help="trials at once [default: by the processors]")
@click.option("--defect", default="", metavar="ID", help="seed this mistake into the reference driver")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="new folder for what is found")
@click.option("--resume", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="go on with the sweep in DIR")
@JSON
@machine
def sweep(**options: Any) -> int:
    """Let each behaviour of the programmable controller strike at every command, access and change of a scenario.

    Judged is what always holds: no panic, an answer to every question, no wrong data, no rule of the wire broken; and whether
    the driver works once its device is in order again. Failures are grouped, tried once more, and kept with their scenario.

    \b
    nvme-lab sweep --driver reference --scenario read/basic --behaviour drop --out found
    nvme-lab sweep --driver linux --limit 1000 --pairs 500 --out found
    nvme-lab sweep --resume found
    """
    console = Console(stderr=True) if options["as_json"] else terminal.console()
    out, request, jobs = _request(options)
    if request.device != "lab":
        raise UsageError("QEMU's own device serves no faults.", remedy="--device lab")
    chosen = RunRequest(
        drivers=(request.driver,),
        devices=("lab",),
        scenarios=request.scenarios,
        seed=request.seed,
        defect=request.defect,
    )
    campaign = prepare_campaign(
        plan(chosen), settings({name: options[name] for name in MACHINE}), lambda said: console.print(said, style="dim")
    )
    named = request.scenarios != DEFAULT_SCENARIOS  # of the default ones, those that the driver claims
    if (campaign.left_out and named) or not campaign.jobs:
        why = "; ".join(f"{left.scenario}: {left.reason}" for left in campaign.left_out) or "nothing is left"
        raise UsageError(f"The scenarios cannot be recorded: {why}.", remedy="name others")
    bench = Bench(campaign.drivers[0], "lab", campaign.toolchain)
    if options["recovery"] is None and not options["resume"]:
        request = request.model_copy(update={"recovery": bench.in_process})
    request = _of_this_lab(request, bench, options["resume"])
    scenarios = [job.scenario for job in campaign.jobs]
    lines = Lines(console)
    running = Sweep(request, bench, scenarios, out, jobs or default_jobs(bench), lines, options["minutes"])
    try:
        report = running.run()
    except BaseException:
        if hasattr(running, "report") and running.report.total:
            _show(running.report, out, as_json=options["as_json"])
        raise
    _show(report, out, as_json=options["as_json"])
    if any(group.counts for group in report.groups):
        return DRIVER_FAILED
    return LAB_FAILED if report.errors else 0


def _request(options: dict[str, Any]) -> tuple[Path, SweepRequest, int | None]:
    """Return the folder, which is locked, and what is asked for."""
    if options["resume"]:
        folder = options["resume"].resolve()
        if not (folder / REPORT).is_file():
            raise UsageError(f"{options['resume']} holds no sweep.", remedy="name a folder that nvme-lab sweep wrote")
        _check_resume()
        lock_folder(folder)
        return folder, read_report(folder).request, options["jobs"]
    if not options["out"]:
        raise UsageError("A sweep needs a folder for what it finds.", remedy="name a new one with --out")
    for name in options["behaviours"]:
        if name not in USES:
            why = f"is not used: {LEFT_OUT[name]}" if name in LEFT_OUT else f"is unknown{nearest(name, USES)}"
            raise UsageError(f"the behaviour {name!r} {why}")
    out = options["out"].resolve()
    if (out / REPORT).exists():
        raise UsageError(f"{options['out']} holds a sweep already.", remedy="choose another folder, or --resume")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LabError(f"The folder {out} cannot be made: {error.strerror}.", remedy="choose another with --out") from error
    lock_folder(out)
    default = "reference" if options["defect"] else "linux"
    files = [str(Path(name).absolute()) if Path(name).is_file() else name for name in options["scenarios"]]
    driver = options["driver"] or default
    request = SweepRequest(
        driver=str(Path(driver).absolute()) if Path(driver).is_file() else driver,
        device=options["device"],
        scenarios=tuple(files) or DEFAULT_SCENARIOS,
        behaviours=options["behaviours"],
        pairs=options["pairs"],
        limit=options["limit"],
        seed=options["seed"],
        defect=options["defect"],
        recovery=options["recovery"] is not False,
        shard=parse_shard(options["shard"]),
    )
    return out, request, options["jobs"]


def _check_resume() -> None:
    context = click.get_current_context()
    for name in ("driver", "device", "scenarios", "behaviours", "pairs", "limit", "seed", "shard", "out", "defect", "recovery"):
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            option = next(p.opts[0] for p in context.command.params if p.name == name)
            raise UsageError(f"--resume goes on with the sweep as it was begun: {option} cannot be given with it.")


def _of_this_lab(request: SweepRequest, bench: Bench, resume: Path | None) -> SweepRequest:
    """Return the request with the lab's version and the manifest's digest. UsageError where they changed since it began."""
    digest = sha256(bench.driver.model_dump_json().encode()).hexdigest()
    now = request.model_copy(update={"version": lab_version(), "manifest": digest})
    if resume and now != request:
        what = "the lab" if now.version != request.version else "the driver's manifest"
        raise UsageError(f"The sweep in {resume} cannot go on: {what} has changed since it began.", remedy="start a new one")
    return now


def _show(report: SweepReport, out: Path, *, as_json: bool) -> None:
    if as_json:
        click.echo(report.model_dump_json(by_alias=True, indent=1))
        return
    console = terminal.console()
    for line in text(report, out):
        console.print(line, soft_wrap=True)
    console.print(f"Sweep: {shown(out)}", style="dim", soft_wrap=True)
