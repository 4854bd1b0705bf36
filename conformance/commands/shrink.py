"""``nvme-lab shrink``: the smallest scenario that still fails, as a file for a bug report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from conformance.commands import completing
from conformance.commands.options import JSON, machine, settings
from conformance.commands.running import MACHINE
from conformance.commands.wire import one_evidence
from conformance.discovery.oracles import RECOVERS, Failure, failures
from conformance.discovery.pool import default_jobs
from conformance.discovery.shrink import Goal, Shrunk, first_of, shrink
from conformance.discovery.shrunk_file import Story, commands, file_text
from conformance.discovery.trial import REFERENCE, Bench, reference_bench
from conformance.judging.files import read
from conformance.judging.models import FILE as RESULTS
from conformance.report import terminal
from conformance.run.folders import shown
from conformance.run.prepare import prepare_campaign
from conformance.run.replay import plan_again
from conformance.suite.check import Outcome
from conformance.suite.selection import CHECKS, select
from lab.data.events import ActionEnded
from lab.data.evidence import Evidence
from lab.data.plan import Scenario
from lab.errors import UsageError, nearest
from lab.files import write_atomically

MINUTES = 10.0


@click.command("shrink", epilog="Exit status: 0 it was shrunk, 2 it does not fail again or the lab failed, 4 wrong usage.")
@click.argument("failed", metavar="EVIDENCE|RESULT", type=click.Path(path_type=Path))
@click.option("--check", default="", metavar="ID", shell_complete=completing.checks,
              help="this one must still fail [default: the first that fails]")  # fmt: skip
@click.option("--driver", default="", metavar="NAME|FILE", shell_complete=completing.drivers, help="its manifest, if it moved")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), default=Path("shrunk.toml"), show_default=True,
              help="the scenario file")  # fmt: skip
@click.option(
    "--minutes", type=click.FloatRange(0, min_open=True), metavar="N", default=MINUTES, show_default=True, help="for all of it"
)
@click.option("--jobs", type=click.IntRange(1, 64), metavar="N", help="recordings at once [default: by the processors]")
@JSON
@machine
def shrink_command(failed: Path, check: str, driver: str, output: Path, minutes: float, as_json: bool, **options: Any) -> int:
    """Find the smallest device, faults, actions and bytes that still fail the same check in the same way.

    EVIDENCE is the folder of one scenario, or a place in it; of a RESULT, the first failure is taken (or that of --check). The
    scenario file that is written is commented, and nvme-lab run --scenario takes it.

    \b
    nvme-lab shrink nvme-lab-results/latest --check read/exact
    nvme-lab shrink swept/findings/001-read-exact/evidence -o report.toml
    """
    console = Console(stderr=True) if as_json else terminal.console()
    if check and check not in CHECKS and check != RECOVERS:
        raise UsageError(f"there is no check {check!r}{nearest(check, CHECKS)}")
    target = _target(failed, check)
    jobs = options.pop("jobs")
    chosen = settings({name: options[name] for name in MACHINE})
    planned = plan_again(target.evidence, driver)
    campaign = prepare_campaign(planned, chosen, lambda said: console.print(said, style="dim"))
    if not campaign.jobs:
        raise UsageError(f"{target.evidence.name} cannot be recorded here: {campaign.left_out[0].reason}.")
    job = campaign.jobs[0]
    bench = Bench(job.driver, job.device, campaign.toolchain)
    scenario = replace(job.scenario, checks=tuple(dict.fromkeys((*job.scenario.checks, *_tied(target.failure.check)))))
    goal = _goal(bench, target.failure, scenario)

    extents = [_extent(scenario)]

    def on_smaller(smaller: Scenario, trials: int) -> None:
        if (extent := _extent(smaller)) != extents[-1]:
            extents.append(extent)
            console.print(f"{extent}, after {trials} recordings", style="dim", highlight=False)

    console.print(f"{target.failure.check} in {job.name}: {extents[0]}", highlight=False)
    found = shrink(
        _shorter(scenario, goal, target), goal, jobs=jobs or default_jobs(bench), minutes=minutes, on_smaller=on_smaller
    )
    last = goal.failure(found.scenario) or target.failure
    story = Story(job.driver, job.device, job.name, last, _extent(scenario), found, goal.control)
    write_atomically(output.resolve(), file_text(story))
    _show(story, found, output, as_json=as_json)
    return 0


@dataclass(frozen=True)
class Target:
    """What is shrunk: the recording, and the failure in it."""

    evidence: Evidence
    failure: Failure
    answered: Sequence[float]
    """When each answer came."""


def _target(failed: Path, check: str) -> Target:
    """Return the recording and the failure. UsageError where nothing failed."""
    evidence = Evidence(_of_result(failed, check) if (failed / RESULTS).is_file() else one_evidence(failed))
    found, errors = failures(evidence, select().checks_for(evidence.scenario), recovers=True)
    wanted = [failure for failure in found if failure.check == check] if check else [f for f in found if f.check != RECOVERS]
    if not wanted:
        what = f"{check} does not fail" if check else "Nothing mandatory fails"
        why = f" ({errors[0]})" if errors else ""
        raise UsageError(f"{what} in {evidence.folder}{why}.", remedy="nvme-lab judge shows what does")
    answered = [event.t for event in evidence.events() if isinstance(event, ActionEnded)]
    return Target(evidence, wanted[0], answered)


def _of_result(folder: Path, check: str) -> Path:
    results = read(folder)
    bad = [v for v in results.verdicts if v.outcome is Outcome.FAIL and v.known is None and check in ("", v.check)]
    if not bad:
        raise UsageError(f"{check or 'Nothing'} {'does not fail' if check else 'new failed'} in {folder}.")
    run = next(run for run in results.runs if run.key == bad[0].key[:3])
    return folder / run.evidence


def _tied(check: str) -> tuple[str, ...]:
    """Return the check where it judges single scenarios only, so that the file must name it."""
    return (check,) if check in CHECKS and not CHECKS[check].invariant else ()


def _goal(bench: Bench, failure: Failure, scenario: Scenario) -> Goal:
    """Return the goal, with the reference driver as its control, unless that is the driver, or fails as well."""
    unmodified = bench.driver.name == REFERENCE and not {"defect", "variant"} & bench.driver.variables.keys()
    goal = Goal(bench, failure.kind)
    return replace(goal, control=not unmodified and goal.failure(scenario, reference_bench()) is None)


def _shorter(scenario: Scenario, goal: Goal, target: Target) -> Scenario:
    """Return the scenario without what was asked after the failure, if it still fails."""
    shorter = first_of(scenario, target.failure, target.answered)
    return shorter if shorter != scenario and goal.met(shorter) else scenario


def _extent(scenario: Scenario) -> str:
    controllers = scenario.device.controllers
    counts = {
        "action": len(scenario.actions),
        "fault": len(scenario.faults),
        "controller": len(controllers),
        "namespace": sum(len(one.namespaces) for one in controllers),
    }
    return ", ".join(f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts.items())


def _show(story: Story, found: Shrunk, output: Path, *, as_json: bool) -> None:
    if as_json:
        content = {
            "scenario": str(output),
            "check": story.failure.check,
            "expected": story.failure.expected,
            "actual": story.failure.actual,
            "recordings": found.trials,
            "complete": found.complete,
            "commands": commands(story, output),
        }
        click.echo(json.dumps(content, indent=1, ensure_ascii=False))
        return
    console = terminal.console()
    console.print(f"{_extent(found.scenario)}, after {found.trials} recordings", style="bold", highlight=False)
    if not found.complete:
        console.print("The time is over: perhaps more could be taken away (--minutes).", style="yellow")
    console.print(
        f"expected  {story.failure.expected}", f"actual    {story.failure.actual}", sep="\n", markup=False, highlight=False
    )
    for line in commands(story, output):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(f"Scenario: {shown(output)}", style="dim", soft_wrap=True)
