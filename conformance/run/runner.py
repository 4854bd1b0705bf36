"""Record and judge a campaign, in this process or by workers, and keep the displays informed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from conformance.judging.files import write
from conformance.judging.flaky import confirm, merge_repetitions, new_failures
from conformance.judging.manifest import write_manifest
from conformance.judging.models import Results
from conformance.judging.summary import fails
from conformance.report.junit import junit
from conformance.report.markdown import markdown
from conformance.run import costs
from conformance.run.finish import finish
from conformance.run.folders import CONFIRMATION
from conformance.run.in_turn import record_in_turn
from conformance.run.journal import Journal
from conformance.run.plan import Campaign
from conformance.run.progress import Display, Progress
from conformance.suite.check import Outcome
from lab import drivers
from lab.errors import LabError

SCENARIOS_PER_WORKER = 2
"""With fewer, a worker is not worth its start, which takes about as long as a guest's scenario."""
IN_PROCESS_PER_WORKER = 8
"""The same for drivers in the lab's process, whose scenarios take a tenth of that."""
EXTRA_WORKERS = 2
"""Workers beside one per processor: some scenario always waits for a driver's time-out."""


def record_and_judge(campaign: Campaign, workers: Sequence[str], displays: Sequence[Display]) -> Results:
    """Record and judge a campaign in this process, or with ``workers`` in xdist's words (``2*popen``, ``ssh=HOST``).

    What the journal of its folder holds is kept. LabError where no worker can be started.
    """
    ((_, results), *_) = record_repeatedly(campaign, workers, displays)
    return results


def record_repeatedly(campaign: Campaign, workers: Sequence[str], displays: Sequence[Display]) -> list[tuple[Path, Results]]:
    """Do the same for all repetitions of a campaign in one go; return the folder and the results of each.

    Repetitions of which an interruption left nothing are left out.
    """
    repetitions = campaign.repetitions
    journals: dict[int, Journal] = {}
    try:
        for one in repetitions:
            one.out.mkdir(exist_ok=True)
            journal = journals[one.jobs[0].repetition if one.jobs else 0] = Journal(one.out)
            journal.forget_incomplete({job.name: job for job in one.jobs}, one.out)
        if workers:
            from conformance.run.session import record_by_pytest  # pytest takes longer to import than one scenario to record

            reason = record_by_pytest(campaign, journals, workers, displays)
        else:
            reason = record_in_turn(campaign, journals, Progress(campaign, displays))
        found = [(one.out, finish(one, journal, reason)) for one, journal in zip(repetitions, journals.values(), strict=True)]
        return [(out, results) for out, results in found if results.verdicts] or found[:1]
    finally:
        for journal in journals.values():
            journal.close()


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
