"""The end of a run: its results, in the order of the campaign, from what its journal holds."""

from __future__ import annotations

from conformance.judging.coverage import coverage_entries
from conformance.judging.files import write
from conformance.judging.models import Results
from conformance.run import costs
from conformance.run.identity import new_results
from conformance.run.journal import Journal
from conformance.run.plan import Campaign
from conformance.run.prepare import cache_root
from conformance.suite.check import Outcome
from lab.guest.folder import sweep_all

TRACEBACK = "internal-error.txt"
"""In the folder of results: the traceback of a mistake in the lab."""


def finish(campaign: Campaign, journal: Journal, reason: str, expected: int | None = None) -> Results:
    """Write the results of the journal, in the order of the campaign; partial ones name the ``reason``.

    ``expected`` is the number of verdicts of a run that nothing interrupts; None: every check of the campaign.
    """
    results = new_results(campaign)
    for job in campaign.jobs:
        judged = journal.verdicts.get(job.name, {})
        results.verdicts += [judged[check] for check in job.checks if check in judged]
        results.runs += [journal.runs[job.name]] if job.name in journal.runs else []
    results.coverage = coverage_entries(results.runs, campaign.out, results.verdicts) if campaign.request.coverage else []
    expected = sum(len(job.checks) for job in campaign.jobs) if expected is None else expected
    if missing := expected - len(results.verdicts):
        results.unfinished = f"{reason}: {missing} of {expected} verdicts are missing"
    write(results, campaign.out)
    failed = {"/".join(verdict.key[:3]) for verdict in results.verdicts if verdict.outcome is Outcome.ERROR}
    seconds = {name: took for name, took in costs.measured(results).items() if name not in failed}
    costs.remember(cache_root(campaign), seconds)
    sweep_all()  # remains of killed workers
    return results
