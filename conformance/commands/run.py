"""``nvme-lab run``: plans, prepares, drives pytest, shows and writes what came of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import click
import pytest
from rich.console import Console

from conformance.campaign import DEFAULT_SEED, DEVICES, Campaign, Request, equip, plan
from conformance.commands.options import STRICT, VERBOSE, machine, selection, settings
from conformance.distribution import ATTEMPTS
from conformance.folders import check_free, default_folder, prepare_folder, prune
from conformance.report import terminal
from conformance.report.junit import junit
from conformance.report.markdown import markdown
from conformance.report.progress import Progress
from conformance.results import Results, exit_status, write
from conformance.session import ROOT, ControllerPlugin
from lab.errors import LabError

EVIDENCE_BYTES = 4 << 20
"""A scenario's evidence, on average and generously."""
RESERVE_BYTES = 64 << 20
_OURS = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "", "PYTEST_PLUGINS": ""}
"""Pytest without what a machine adds to it: other plugins and options could change what is collected and reported."""
_AS_HERE = "".join(f"//env:{name}={value}" for name, value in _OURS.items())
"""The same for workers, in xdist's words."""
SCENARIOS_PER_WORKER = 2
"""With fewer, a worker is not worth its start."""


_UNUSED = ("cacheprovider", "terminal", "logging", "doctest", "unraisableexception", "threadexception")
"""Pytest's plugins that would look at each of thousands of verdicts, and show nobody what they find."""


@click.command(
    epilog="Exit status: 0 all good, 1 a driver failed, 2 the lab failed, 3 a selected stage with nothing judged, "
    "4 wrong usage, 130 or 143 interrupted."
)
@click.option("--driver", "drivers", multiple=True, metavar="NAME|FILE", help="a shipped driver or a manifest (repeatable)")
@selection
@click.option("--device", "devices", multiple=True, type=click.Choice(DEVICES), help="device in front of it [default: all]")
@click.option("--jobs", type=click.IntRange(1, 64), metavar="N", help="scenarios at once [default: one a processor]")
@click.option("--tx", multiple=True, metavar="SPEC", help="workers elsewhere, as pytest-xdist has it: ssh=HOST (repeatable)")
@click.option("--shard", default="", metavar="N/M", help="only this one of M parts, which cost the same (see report)")
@click.option("--times", type=click.Path(path_type=Path), metavar="RESULT", help="earlier results, to split and order by")
@click.option("--seed", type=int, default=DEFAULT_SEED, show_default=True, help="draws serial numbers, sizes and data")
@click.option("--defect", default="", metavar="ID", help="seed this mistake into the reference driver (see nvme-lab defects)")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="folder for the results")
@STRICT
@click.option("--keep", is_flag=True, help="remove no older results (otherwise the ten newest stay)")
@click.option("--bisect", is_flag=True, help="exit 125 where nothing can be said (for git bisect run)")
@VERBOSE
@machine
def run(**options: Any) -> int:
    """Record and judge drivers.

    \b
    nvme-lab run                                     Linux, all stages
    nvme-lab run --driver u-boot --driver my.toml    two drivers
    nvme-lab run --check read/nlb --seed 7           one check, other data
    """
    console = terminal.console()
    request = Request(**{field.name: options[field.name] for field in fields(Request)})
    planned = plan(request)
    campaign = equip(planned, settings(_machine(options)), lambda text: console.print(text, style="dim"))
    out = prepare_folder(options["out"] or default_folder(Path.cwd()))
    check_free(out, RESERVE_BYTES + EVIDENCE_BYTES * len(campaign.jobs))
    if not options["keep"]:
        prune(out)
    workers = _workers(options["jobs"], options["tx"], len(campaign.jobs))
    results = record_and_judge(replace(campaign, out=out), workers, console)
    _write_reports(results, out)
    terminal.show(terminal.summary(results, _shown(out), verbose=options["verbose"]))
    console.print(f"Results: {_shown(out)}", style="dim")
    return exit_status(results, bisect=options["bisect"])


def record_and_judge(campaign: Campaign, workers: Sequence[str], console: Console) -> Results:
    """Drives pytest over the campaign: in this process, or with ``workers`` in xdist's words (``2*popen``, ``ssh=HOST``)."""
    controller = ControllerPlugin(campaign)
    # xdist takes an argument that is an existing path for a test, so options and values stand together.
    arguments = [
        *("--pyargs", ROOT, f"--config-file={os.devnull}", f"--rootdir={campaign.out}", "--noconftest", "--capture=no"),
        *(part for name in _UNUSED for part in ("-p", f"no:{name}")),
        *("-p", "xdist.plugin", "-p", "conformance.plugin"),
        *(("--dist=loadscope", f"--max-worker-restart={ATTEMPTS * len(campaign.jobs)}") if workers else ()),
        *(f"--tx={worker}{_AS_HERE}" for worker in workers),
    ]
    console.print(terminal.header(controller.results, _extent(campaign, workers)))
    if not campaign.jobs:
        write(controller.results, campaign.out)
        return controller.results
    with _own_pytest(), chdir(campaign.out), Progress(campaign, console) as progress:
        status = pytest.main(arguments, plugins=[controller, progress])
    if controller.written is None:
        if controller.unborn:
            raise LabError(f"A worker could not be started: {controller.unborn}", remedy="see docs/scale.md for other machines")
        if status != pytest.ExitCode.INTERRUPTED:
            raise LabError(f"pytest ended with status {status} before anything was judged")
        controller.results.unfinished = "interrupted before anything was judged"
        write(controller.results, campaign.out)
    return controller.results


@contextmanager
def _own_pytest() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in _OURS}
    os.environ.update(_OURS)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _workers(asked: int | None, elsewhere: Sequence[str], scenarios: int) -> list[str]:
    """In xdist's words: as many here as processors or as were asked for, but never more than have something to do.

    None where one would be alone: its work is done in this process. None here either, unless asked for, where there are others.
    """
    if asked is not None:
        jobs = min(asked, max(scenarios, 1))
    elif elsewhere:
        jobs = 0
    else:
        jobs = max(1, min(len(os.sched_getaffinity(0)), scenarios // SCENARIOS_PER_WORKER))
    here = [f"{jobs}*popen"] if jobs > 1 or (jobs and elsewhere) else []
    return [*here, *elsewhere]


def _extent(campaign: Campaign, workers: Sequence[str]) -> list[str]:
    scenarios = f"{len(campaign.jobs)} scenario{'' if len(campaign.jobs) == 1 else 's'}"
    shard = [f"shard {campaign.shard.number} of {campaign.shard.of}"] if campaign.shard else []
    where = ", ".join(worker.partition("//")[0] for worker in workers)
    return [f"{scenarios} on {where}" if workers else scenarios, *shard]


def _machine(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: options[name] for name in ("mirror", "qemu", "kernel", "image", "locked", "offline")}


def _write_reports(results: Results, out: Path) -> None:
    for name, text in (("junit.xml", junit(results)), ("summary.md", markdown(results))):
        (out / name).write_text(text, encoding="utf-8")


def _shown(path: Path) -> Path:
    """As the user would write it: relative to where they are, if it is below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
