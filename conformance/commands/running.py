"""``nvme-lab run``: plan, prepare, record and judge, show and write the results."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from conformance.commands.options import settings
from conformance.judging.files import read
from conformance.judging.models import Results
from conformance.judging.summary import DRIVER_FAILED, LAB_FAILED, NOTHING_JUDGED, UNTESTABLE, exit_status
from conformance.report import terminal
from conformance.report.steps import Steps
from conformance.run import signals
from conformance.run.folders import check_free, default_folder, prepare_folder, prune, shown
from conformance.run.identity import new_results
from conformance.run.live_events import Ended, Events, Preparing, planned
from conformance.run.plan import DEFAULT_SEED, Campaign, Request, plan
from conformance.run.prepare import prepare_campaign, prepare_offline
from conformance.run.progress import Lines
from conformance.run.runner import (
    Unsteady,
    expected_seconds,
    failed,
    record_and_judge,
    repetition,
    together,
    unsteady,
    workers,
    write_reports,
)
from lab.errors import LabError, UsageError
from lab.settings import Settings

EVIDENCE_BYTES = 4 << 20
"""A scenario's evidence, on average and generously."""
RESERVE_BYTES = 64 << 20
MACHINE = ("mirror", "qemu", "kernel", "image", "locked", "offline")
WORST_FIRST = (LAB_FAILED, UNTESTABLE, DRIVER_FAILED, NOTHING_JUDGED, 0)

Say = Callable[[str], None]


def run(**options: Any) -> int:
    """Run and return the exit status; --bisect turns a failure of the lab into 125."""
    try:
        return _run_aloud(options)
    except LabError as error:
        if not options["bisect"] or error.exit_status != LAB_FAILED:
            raise
        print(f"nvme-lab: {error}", file=sys.stderr)
        return UNTESTABLE


def _run_aloud(options: Mapping[str, Any]) -> int:
    """Run, with events for programs where they are requested."""
    if not options["as_json"]:
        return _run(options, terminal.console(), None)
    with _own_stdout() as stream:
        events = Events(stream)
        try:
            return _run(options, terminal.console(), events)
        except LabError as error:
            events.write(Ended(status=error.exit_status, error=str(error)))
            raise
        except KeyboardInterrupt:
            events.write(Ended(status=_status(LAB_FAILED), error="interrupted"))
            raise


def _run(options: Mapping[str, Any], console: Console, events: Events | None) -> int:
    request = _request(options)
    if request is None:
        console.print(f"Nothing failed in {options['last_failed']}.")
        if events:
            events.write(Ended(status=0))
        return 0
    chosen = settings({name: options[name] for name in MACHINE})
    if options["dry_run"]:
        return _dry_run(request, chosen, options, console, events)

    with Steps(console) as steps:

        def say(text: str) -> None:
            steps.say(text)
            if events:
                events.write(Preparing(text=text))

        campaign = prepare_campaign(plan(request), chosen, say)
    times = options["repeat"]
    out = prepare_folder(options["out"] or default_folder(Path.cwd()))
    check_free(out, RESERVE_BYTES + EVIDENCE_BYTES * len(campaign.jobs) * times)
    if not options["keep"]:
        prune(out)
    on = workers(options["jobs"], options["tx"], len(campaign.jobs))
    parts: list[tuple[Path, Results]] = []
    for number in range(1, times + 1):
        turn = replace(campaign, out=out) if times == 1 else repetition(campaign, out, number)
        console.print(terminal.header(new_results(turn), _extent(turn, on, f"time {number} of {times}" if times > 1 else "")))
        if events:
            events.write(planned(turn, expected_seconds(turn, on), turn.out, number, times))
        with Lines(console) as lines:
            parts.append((turn.out, record_and_judge(turn, on, [lines, *([events] if events else [])])))
        if parts[-1][1].unfinished:
            break
    results = parts[0][1] if times == 1 else together(parts, out)
    write_reports(results, out)
    terminal.show(terminal.summary(results, shown(out), verbose=options["verbose"]))
    if times > 1:
        _show_unsteady(unsteady([part for _, part in parts]), len(parts), console)
    console.print(f"Results: {shown(out)}", style="dim")
    statuses = {exit_status(part, bisect=options["bisect"]) for part in (results, *(part for _, part in parts))}
    status = next(status for status in WORST_FIRST if status in statuses)
    if events:
        events.write(Ended(status=_status(status), results=str(out), unfinished=results.unfinished))
    return status


def _request(options: Mapping[str, Any]) -> Request | None:
    """Return the request; None for --last-failed where nothing failed."""
    request = Request(
        drivers=options["drivers"],
        devices=options["devices"],
        stages=options["stages"],
        profiles=options["profiles"],
        checks=options["checks"],
        scenarios=options["scenarios"],
        seed=DEFAULT_SEED if options["seed"] is None else options["seed"],
        strict=options["strict"],
        defect=options["defect"],
        shard=options["shard"],
        times=options["times"],
    )
    if options["last_failed"] is None:
        return request
    before = read(options["last_failed"])
    only = failed(before.model_copy(update={"strict": before.strict or request.strict}))
    if not only:
        return None
    asked = before.lab.get("asked", {})
    if not asked and not request.drivers:
        raise UsageError(
            f"{options['last_failed']} does not say which manifests its drivers were.", remedy="name them with --driver"
        )
    return replace(
        request,
        only=only,
        drivers=request.drivers or tuple(asked["drivers"]),
        defect=request.defect or asked.get("defect", ""),
        seed=before.lab.get("seed", DEFAULT_SEED) if options["seed"] is None else request.seed,
    )


# -- nothing but words ----------------------------------------------------------------------------------------------


def _dry_run(request: Request, chosen: Settings, options: Mapping[str, Any], console: Console, events: Events | None) -> int:
    campaign, unknown = prepare_offline(plan(request), chosen)
    on = workers(options["jobs"], options["tx"], len(campaign.jobs))
    times = options["repeat"]
    seconds = expected_seconds(campaign, on) * times
    if events:
        events.write(planned(campaign, seconds, None, 1, times))
        events.write(Ended(status=0))
        return 0
    console.print(_table(campaign, each=options["verbose"]))
    for left in campaign.left_out if options["verbose"] else ():
        console.print(f"left out  {left.driver}/{left.device}/{left.scenario}: {left.reason}", style="dim")
    if unknown:
        console.print(f"Not known yet: what this machine's QEMU cannot serve ({unknown}); nvme-lab fetch brings it.")
    left_out = f", {len(campaign.left_out)} left out" if campaign.left_out else ""
    extent = " · ".join(_extent(campaign, on, f"{times} times" if times > 1 else ""))
    console.print(f"Would record {extent}{left_out}, in about {_duration(seconds)}. Nothing was done.")
    return 0


def _table(campaign: Campaign, *, each: bool) -> Table:
    """Return one row per stage or scenario: scenarios, verdicts, seconds."""
    rows: dict[tuple[str, str, str], list[float]] = {}
    for job in campaign.jobs:
        key = (job.driver.name, str(job.device), job.scenario.id if each else job.scenario.stage)
        row = rows.setdefault(key, [0, 0, 0.0])
        for column, more in enumerate((1, len(job.checks), campaign.costs.get(job.name, 0.0))):
            row[column] += more
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("driver", "device", "scenario" if each else "stage"):
        grid.add_column(heading, no_wrap=True)
    for heading in ("scenarios", "verdicts", "seconds"):
        grid.add_column(heading, justify="right")
    for key, (scenarios, verdicts, seconds) in rows.items():
        grid.add_row(*key, f"{scenarios:.0f}", f"{verdicts:.0f}", f"{seconds:.1f}")
    return grid


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _extent(campaign: Campaign, workers: Sequence[str], times: str) -> list[str]:
    scenarios = f"{len(campaign.jobs)} scenario{'' if len(campaign.jobs) == 1 else 's'}"
    where = ", ".join(worker.partition("//")[0] for worker in workers)
    parts = [f"{scenarios} on {where}" if workers else scenarios]
    if campaign.request.only:
        parts.append("what failed before")
    if campaign.shard:
        parts.append(f"shard {campaign.shard.number} of {campaign.shard.of}")
    return [*parts, times] if times else parts


def _show_unsteady(found: Sequence[Unsteady], times: int, console: Console) -> None:
    for one in found:
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in one.outcomes.items())
        console.print(Text(f"unsteady  {one.check}  {one.name}: {outcomes}", style="yellow"))
    if not found:
        console.print(f"All verdicts were the same {times} times.")


# -- events ---------------------------------------------------------------------------------------------------------


@contextmanager
def _own_stdout() -> Iterator[TextIO]:
    """Reserve standard output for events: anything else that is written there goes to standard error."""
    sys.stdout.flush()
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as stream:
        os.dup2(2, 1)
        try:
            yield stream
        finally:
            sys.stdout.flush()
            stream.flush()
            os.dup2(stream.fileno(), 1)


def _status(status: int) -> int:
    """Return the exit status of this command line."""
    return signals.status(click.get_current_context().obj, status)
