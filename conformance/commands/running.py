"""``nvme-lab run``: plan, prepare, record and judge, show and write the results."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from conformance.commands.bisecting import bisect_versions, bisected_driver
from conformance.commands.options import settings
from conformance.commands.watching import watch
from conformance.judging.files import read
from conformance.judging.flaky import Rate, new_failures, rates
from conformance.judging.models import Results
from conformance.judging.summary import DRIVER_FAILED, LAB_FAILED, NOTHING_JUDGED, UNTESTABLE, exit_status, stage_index
from conformance.report import terminal
from conformance.report.steps import Steps
from conformance.run import signals
from conformance.run.costs import remembered
from conformance.run.folders import check_free, default_folder, lock_folder, prepare_folder, prune, shown
from conformance.run.identity import new_results
from conformance.run.live_events import Ended, Events, Preparing, planned
from conformance.run.output import guarding
from conformance.run.plan import DEFAULT_SEED, Campaign, RunRequest, plan
from conformance.run.prepare import cache_root, prepare_campaign, prepare_offline
from conformance.run.progress import Lines
from conformance.run.resume import check_same, read_run, write_run
from conformance.run.runner import (
    confirm_failures,
    expected_seconds,
    failed,
    record_repeatedly,
    together,
    workers,
    write_reports,
)
from conformance.suite.check import Outcome
from conformance.suite.selection import CHECKS
from conformance.wire.decode import printable_lines
from lab import drivers
from lab.data.scenario_file import STAGE as FILE_STAGE
from lab.drivers.rehearsal import rehearse
from lab.errors import LabError, UsageError, nearest
from lab.recording.stopping import EVENTS
from lab.settings import Settings

EVIDENCE_BYTES = 4 << 20
"""A scenario's evidence, on average and generously."""
RESERVE_BYTES = 64 << 20
MACHINE = ("mirror", "qemu", "kernel", "image", "locked", "offline")
WORST_FIRST = (LAB_FAILED, UNTESTABLE, DRIVER_FAILED, NOTHING_JUDGED, 0)

Say = Callable[[str], None]


def run(**options: Any) -> int:
    """Run and return the exit status; --bisect turns a failure of the lab into 125, or goes through versions of a driver."""
    if options["watch"]:
        return watch(options, _run_aloud, terminal.console())
    if options["bisect"] and (name := bisected_driver(options)):
        return bisect_versions(name, options, lambda each: _run(each, terminal.console(), None), terminal.console())
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
    selected = _select(options)
    if selected is None:
        console.print(f"Nothing failed in {options['last_failed']}.")
        if events:
            events.write(Ended(status=0))
        return 0
    chosen = settings({name: options[name] for name in MACHINE})
    if options["console_text"]:
        if not options["dry_run"]:
            raise UsageError("--console-text is for --dry-run.", remedy="add --dry-run")
        return _rehearse(selected.request, options["console_text"], console)
    if options["dry_run"]:
        return _dry_run(selected.request, chosen, options, console, events)

    with Steps(console, what="planning, and looking for QEMU and the guests") as steps:

        def say(text: str) -> None:
            steps.say(text)
            if events:
                events.write(Preparing(text=text))

        campaign = prepare_campaign(plan(selected.request), chosen, say)
    out = _open_folder(selected, campaign, options)
    on = workers(options["jobs"], options["tx"], campaign)
    times = selected.times
    campaign = replace(campaign, out=out)
    every = campaign if times == 1 else campaign.repeated(times)
    console.print(terminal.header(new_results(campaign), _extent(campaign, on, f"{times} times" if times > 1 else "")))
    if events:
        for number, one in enumerate(every.repetitions, 1):
            events.write(planned(one, expected_seconds(one, on), one.out, number, times))
    with Lines(console) as lines:
        parts = record_repeatedly(every, on, [lines, *([events] if events else [])])
    seen = rates([part for _, part in parts])  # before the merge makes failures FLAKY
    results = parts[0][1] if times == 1 else together(parts, out)
    if times == 1 and options["confirm"] and not results.unfinished:
        _confirm(campaign, results, on, console, events)
    write_reports(results, out)
    terminal.show(terminal.summary(results, shown(out), verbose=options["verbose"]))
    if times > 1:
        _show_rates(seen, len(parts), console)
    console.print(f"Results: {shown(out)}", style="dim")
    if results.unfinished:
        console.print(f"Go on with: nvme-lab run --resume {shown(out)}", style="dim")
    statuses = {exit_status(part, bisect=options["bisect"]) for part in (results, *(p for _, p in parts if times > 1))}
    status = next(status for status in WORST_FIRST if status in statuses)
    if events:
        events.write(Ended(status=_status(status), results=str(out), unfinished=results.unfinished))
    return status


@dataclass(frozen=True)
class Selected:
    """What to record: how often, and what the run in ``resume`` was, if that one goes on."""

    request: RunRequest
    times: int
    resume: Path | None = None
    before: Mapping[str, Any] = field(default_factory=dict)


def _select(options: Mapping[str, Any]) -> Selected | None:
    """Return what to record; None for --last-failed where nothing failed."""
    folder: Path | None = options["resume"]
    if folder is None:
        request = _request(options)
        return Selected(request, options["repeat"]) if request else None
    _check_resume()
    request, times, before = read_run(folder)
    return Selected(request, times, folder.resolve(), before)


def _open_folder(selected: Selected, campaign: Campaign, options: Mapping[str, Any]) -> Path:
    """Make or reopen the folder of results, and lock it."""
    need = RESERVE_BYTES + EVIDENCE_BYTES * len(campaign.jobs) * selected.times
    if selected.resume is not None:
        lock_folder(selected.resume)
        check_same(selected.before, campaign, selected.resume)
        check_free(selected.resume, need)
        return selected.resume
    out = prepare_folder(options["out"] or default_folder(Path.cwd()))
    check_free(out, need)
    write_run(out, campaign, selected.times)
    if not options["keep"]:
        prune(out)
    return out


def _confirm(campaign: Campaign, results: Results, on: Sequence[str], console: Console, events: Events | None) -> None:
    """Record scenarios with new failures once more, and say what came of it."""
    failed = {verdict.key for verdict in new_failures(results)}
    if not failed:
        return
    console.print(f"Recording again what failed, to confirm it: {len({key[:3] for key in failed})} of {len(campaign.jobs)}")
    with Lines(console) as lines:
        confirm_failures(campaign, results, on[: len(failed)], [lines])
    for verdict in results.verdicts:
        if events and verdict.key in failed and verdict.outcome is Outcome.FLAKY:
            events.judged(verdict)


def _check_resume() -> None:
    """Raise UsageError for options that a resumed run cannot change."""
    context = click.get_current_context()
    fixed = ("drivers", "devices", "stages", "checks", "scenarios", "shard", "times", "cover", "seed", "defect", "variant",
             "last_failed", "repeat", "coverage", "stop_at")  # fmt: skip
    for name in (*fixed, "out", "strict", "dry_run"):
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            option = next(p.opts[0] for p in context.command.params if p.name == name)
            raise UsageError(f"--resume goes on with the run as it was begun: {option} cannot be given with it.")


def _stop_at(event: str) -> str:
    """Return where to stop; UsageError where there is no such event and no such check."""
    known = (*EVENTS, *CHECKS)
    if event and event not in known:
        raise UsageError(f"--stop-at: there is no {event!r}{nearest(event, known)}", remedy="nvme-lab list checks")
    return event


def _request(options: Mapping[str, Any]) -> RunRequest | None:
    """Return the request; None for --last-failed where nothing failed."""
    request = RunRequest(
        drivers=options["drivers"],
        devices=options["devices"],
        stages=options["stages"],
        profiles=options["profiles"],
        checks=options["checks"],
        scenarios=options["scenarios"],
        seed=DEFAULT_SEED if options["seed"] is None else options["seed"],
        strict=options["strict"],
        defect=options["defect"],
        variant=options["variant"],
        shard=options["shard"],
        times=options["times"],
        cover=options["cover"],
        coverage=options["coverage"],
        stop_at=_stop_at(options["stop_at"]),
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
        scenarios=request.scenarios or _scenarios_again(only, asked.get("files", ())),
        drivers=request.drivers or tuple(asked["drivers"]),
        defect=request.defect or asked.get("defect", ""),
        variant=request.variant or asked.get("variant", ""),
        seed=before.lab.get("seed", DEFAULT_SEED) if options["seed"] is None else request.seed,
    )


def _scenarios_again(only: Sequence[str], files: Sequence[str]) -> tuple[str, ...]:
    """Return the scenarios of these recordings where files take part; () selects all of the suite."""
    shipped = dict.fromkeys(name.split("/", 2)[2] for name in only)
    return (*(name for name in shipped if not name.startswith(f"{FILE_STAGE}/")), *files) if files else ()


# -- nothing but words ----------------------------------------------------------------------------------------------


def _dry_run(request: RunRequest, chosen: Settings, options: Mapping[str, Any], console: Console, events: Events | None) -> int:
    campaign, unknown = prepare_offline(plan(request), chosen)
    on = workers(options["jobs"], options["tx"], campaign)
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
    known = remembered(cache_root(campaign))
    unknown_costs = sum(job.name not in known for job in campaign.jobs)
    if unknown_costs:
        console.print(
            f"The time is a guess for {unknown_costs} of {len(campaign.jobs)} scenarios, which were never recorded here; "
            f"a driver that does not answer costs its time-outs: up to {_duration(_longest(campaign))} in all.",
            style="dim", soft_wrap=True,
        )  # fmt: skip
    return 0


def _longest(campaign: Campaign) -> float:
    """Return the seconds that the boots may take where no guest becomes ready: a run gives up after one of a driver."""
    return sum(driver.boot.seconds for driver in {job.driver.name: job.driver for job in campaign.jobs}.values())


def _rehearse(request: RunRequest, file: Path, console: Console) -> int:
    """Print what the drivers' manifests read in a console's text; return 1 where something in it does not fit."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UsageError(f"--console-text: {file} cannot be read: {error.strerror}.", remedy="name a text file") from error
    status = 0
    for name in request.drivers:
        manifest = drivers.find(name)
        if manifest.adapter != "generic-serial":
            raise UsageError(
                f"--console-text: {name} has the adapter {manifest.adapter}, which reads no text.",
                remedy="name a driver of generic-serial",
            )
        for outcome in rehearse(manifest, text):
            mark, style = {True: ("ok  ", ""), False: ("no  ", "yellow"), None: ("-   ", "dim")}[outcome.ok]
            console.print(Text(f"{mark}{outcome.key}  {printable_lines(outcome.text)}", style=style), soft_wrap=True)
            status |= outcome.ok is False
    return status


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
    places = list(dict.fromkeys(key[:2] for key in rows))
    order = sorted(rows.items(), key=lambda row: (places.index(row[0][:2]), stage_index(row[0][2].partition("/")[0])))
    for key, (scenarios, verdicts, seconds) in order:
        grid.add_row(*key, f"{scenarios:.0f}", f"{verdicts:.0f}", f"{seconds:.1f}")
    return grid


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _extent(campaign: Campaign, workers: Sequence[str], times: str) -> list[str]:
    scenarios = f"{len(campaign.jobs)} scenario{'' if len(campaign.jobs) == 1 else 's'}"
    where = ", ".join(map(_in_words, workers))
    parts = [f"{scenarios} on {where}" if workers else scenarios]
    if campaign.request.only:
        parts.append("what failed before")
    for chosen in campaign.cover:
        parts.append(f"a cover of {chosen.of}")
    if campaign.shard:
        parts.append(f"shard {campaign.shard.number} of {campaign.shard.of}")
    return [*parts, times] if times else parts


def _in_words(worker: str) -> str:
    """Return xdist's specification of workers in words: ``4*popen`` is "4 workers", ``2*ssh=HOST`` "2 workers on HOST"."""
    count, star, place = worker.partition("//")[0].rpartition("*")
    workers = f"{count} workers" if star and count != "1" else "1 worker"
    return workers if place == "popen" else f"{workers} on {place.partition('=')[2] or place}"


def _show_rates(found: Sequence[Rate], times: int, console: Console) -> None:
    """Print how often each check failed, and how many were the same each time."""
    for rate in found:
        if rate.failed or not rate.is_steady:
            outcomes = ", ".join(f"{count} {outcome}" for outcome, count in rate.outcomes.items())
            line = f"rate  {rate.check}  {rate.driver} on {rate.device}: failed {rate.failed} of {rate.runs} ({outcomes})"
            console.print(Text(line, style="" if rate.is_steady else "yellow"))
    if all(rate.is_steady for rate in found):
        console.print(f"All verdicts were the same {times} times.")


# -- events ---------------------------------------------------------------------------------------------------------


@contextmanager
def _own_stdout() -> Iterator[TextIO]:
    """Reserve standard output for events: anything else that is written there goes to standard error."""
    sys.stdout.flush()
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as stream, guarding(stream) as guarded:
        os.dup2(2, 1)
        try:
            yield guarded
        finally:
            sys.stdout.flush()
            guarded.flush()
            os.dup2(stream.fileno(), 1)


def _status(status: int) -> int:
    """Return the exit status of this command line."""
    return signals.status(click.get_current_context().obj, status)
