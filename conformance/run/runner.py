"""Run pytest over a campaign, once or several times, and keep the displays informed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from conformance.judging.files import write
from conformance.judging.flaky import confirm, merge_repetitions, new_failures
from conformance.judging.manifest import write_manifest
from conformance.judging.models import Results
from conformance.judging.summary import fails
from conformance.report.junit import junit
from conformance.report.markdown import markdown
from conformance.run import costs, signals
from conformance.run.controller import TRACEBACK, ControllerPlugin, finish
from conformance.run.folders import CONFIRMATION
from conformance.run.items import ROOT
from conformance.run.journal import Journal
from conformance.run.plan import Campaign
from conformance.run.progress import Display, Progress
from conformance.run.scheduler import ATTEMPTS
from conformance.suite.check import Outcome
from lab import drivers
from lab.errors import LabError

SCENARIOS_PER_WORKER = 2
"""With fewer, a worker is not worth its start, which takes about as long as a guest's scenario."""
IN_PROCESS_PER_WORKER = 8
"""The same for drivers in the lab's process, whose scenarios take a tenth of that."""
SESSIONS = 3
"""Sessions of pytest at most: another one continues where workers died before they had work, or the lab made a mistake."""
EXTRA_WORKERS = 2
"""Workers beside one per processor: some scenario always waits for a driver's time-out."""
_OURS = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "", "PYTEST_PLUGINS": ""}
"""Pytest without what a machine adds to it: other plugins and options could change what is collected and reported."""
_WORKER_ENV = "".join(f"//env:{name}={value}" for name, value in _OURS.items())
"""The same for workers, in xdist's words."""
_UNUSED = ("cacheprovider", "terminal", "logging", "doctest", "unraisableexception", "threadexception")
"""Pytest's plugins that would look at each of thousands of verdicts for nothing."""


def record_and_judge(campaign: Campaign, workers: Sequence[str], displays: Sequence[Display]) -> Results:
    """Record and judge a campaign in this process, or with ``workers`` in xdist's words (``2*popen``, ``ssh=HOST``).

    What the journal of its folder holds is kept. LabError where no worker can be started.
    """
    journal = Journal(campaign.out)
    jobs = {job.name: job for job in campaign.jobs}
    journal.forget_incomplete(jobs, campaign.out)
    reason = "ended early"
    try:
        for session in range(1, SESSIONS + 1):
            pending = replace(campaign, jobs=tuple(job for job in campaign.jobs if job.name not in journal.verdicts))
            if not pending.jobs:
                break
            controller = ControllerPlugin(pending, journal)
            status = _run_pytest(controller, workers, displays)
            if signals.interrupted() or (status == pytest.ExitCode.INTERRUPTED and not workers):
                reason = "interrupted"
                break
            if controller.worker_start_error:
                reason = f"a worker could not be started ({controller.worker_start_error})"
                if session == SESSIONS and not journal.verdicts:
                    what = f"A worker could not be started: {controller.worker_start_error}"
                    raise LabError(what, remedy="see docs/scale.md for other machines")
            elif controller.internal_error:
                reason = f"a mistake in the lab itself ({controller.internal_error}; see {TRACEBACK})"
        return finish(campaign, journal, reason)
    finally:
        journal.close()


def _run_pytest(controller: ControllerPlugin, workers: Sequence[str], displays: Sequence[Display]) -> int:
    """Run one session of pytest over the controller's campaign; return its exit status."""
    campaign = controller.campaign
    # xdist takes an argument that is an existing path for a test, so options and values stand together.
    arguments = [
        *("--pyargs", ROOT, f"--config-file={os.devnull}", f"--rootdir={campaign.out}", "--noconftest", "--capture=no"),
        *(part for name in _UNUSED for part in ("-p", f"no:{name}")),
        *("-p", "xdist.plugin", "-p", "conformance.plugin"),
        *(("--dist=loadscope", f"--max-worker-restart={ATTEMPTS * len(campaign.jobs)}") if workers else ()),
        *(f"--tx={worker}{_WORKER_ENV}" for worker in workers),
    ]
    with _own_pytest(), chdir(campaign.out):
        return int(pytest.main(arguments, plugins=[controller, Progress(campaign, displays)]))


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


def workers(asked: int | None, elsewhere: Sequence[str], campaign: Campaign) -> list[str]:
    """Return workers in xdist's words: one per processor here, or ``asked``, but none that would have nothing to do.

    There are two more where guests are started. Return none where one would be alone: its work is done in this process. None
    here either, unless asked for, beside others.
    """
    scenarios, processors = len(campaign.jobs), len(os.sched_getaffinity(0))
    if asked is not None:
        jobs = min(asked, max(scenarios, 1))
    elif elsewhere:
        jobs = 0
    elif any(drivers.in_qemu(job.driver) for job in campaign.jobs):
        jobs = max(1, min(processors + EXTRA_WORKERS, scenarios // SCENARIOS_PER_WORKER))
    else:
        jobs = max(1, min(processors, scenarios // IN_PROCESS_PER_WORKER))
    here = [f"{jobs}*popen"] if jobs > 1 or (jobs and elsewhere) else []
    return [*here, *elsewhere]


def expected_seconds(campaign: Campaign, workers: Sequence[str]) -> float:
    """Return the expected seconds from the first scenario to the last verdict."""
    counts = [int(count) if star else 1 for count, star, _ in (worker.partition("*") for worker in workers)]
    shares = costs.split({job.name: campaign.costs.get(job.name, 0.0) for job in campaign.jobs}, max(sum(counts), 1))
    return max(sum(campaign.costs.get(name, 0.0) for name in share) for share in shares)


def write_reports(results: Results, out: Path) -> None:
    """Write junit.xml, summary.md and the digests of all beside results.json."""
    for name, text in (("junit.xml", junit(results)), ("summary.md", markdown(results))):
        try:
            (out / name).write_text(text, encoding="utf-8")
        except OSError as error:
            raise LabError(f"{out / name} cannot be written: {error.strerror}.", remedy="free some space") from error
    write_manifest(out)


# -- again ----------------------------------------------------------------------------------------------------------


def failed(results: Results) -> tuple[str, ...]:
    """Return driver/device/scenario of every recording in which a driver or the lab failed."""
    bad = (v for v in results.verdicts if v.outcome is Outcome.ERROR or fails(results, v))
    return tuple(dict.fromkeys("/".join(verdict.key[:3]) for verdict in bad))


def together(parts: Sequence[tuple[Path, Results]], out: Path) -> Results:
    """Merge the results of repetitions and write them."""
    merged = merge_repetitions(parts, out)
    write(merged, out)
    return merged


def confirm_failures(campaign: Campaign, results: Results, workers: Sequence[str], displays: Sequence[Display]) -> int:
    """Record each scenario with a new failure once more; return the number of verdicts that are compared, 0 if none failed.

    A failure that does not come back becomes FLAKY in ``results``, which are written again.
    """
    names = {"/".join(verdict.key[:3]) for verdict in new_failures(results)}
    jobs = tuple(job for job in campaign.jobs if job.name in names)
    if not jobs:
        return 0
    folder = campaign.out / CONFIRMATION
    folder.mkdir(exist_ok=True)
    fresh = record_and_judge(replace(campaign, jobs=jobs, out=folder), workers, displays)
    compared = confirm(results, fresh, CONFIRMATION)
    if fresh.unfinished:
        results.unfinished = f"while failures were confirmed, {fresh.unfinished}"
    write(results, campaign.out)
    return len(compared)


def repetition(campaign: Campaign, out: Path, number: int) -> Campaign:
    """Return the campaign with a folder of its own for one repetition."""
    folder = out / str(number)
    folder.mkdir(exist_ok=True)
    return replace(campaign, out=folder)
