"""Record and judge a campaign in this process, one scenario after the other."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from contextlib import suppress

from conformance.run.finish import TRACEBACK
from conformance.run.journal import Journal
from conformance.run.plan import Campaign
from conformance.run.progress import Progress
from conformance.run.scenario_run import ScenarioRun

LOG = logging.getLogger(__name__)


def record_in_turn(campaign: Campaign, journals: Mapping[int, Journal], progress: Progress) -> str:
    """Record and judge what the journals do not hold; return why not all of it was done, if that is so."""
    try:
        for job in campaign.in_rounds:
            if job.name in journals[job.repetition].verdicts:
                continue
            progress.started(job.scope)
            scenario = ScenarioRun(job, campaign)
            for step in (scenario.record, scenario.judge):
                try:
                    step()
                except Exception:  # whatever it is, the verdicts say it
                    LOG.debug("%s", job.scope, exc_info=True)
            report = scenario.report(scenario.verdicts.values())
            journals[job.repetition].add(report)
            progress.reported(report)
    except KeyboardInterrupt:
        progress.stopping()
        return "interrupted"
    except Exception as error:
        with suppress(OSError):
            (campaign.out / TRACEBACK).write_text(traceback.format_exc(), encoding="utf-8")
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        return f"a mistake in the lab itself ({what}; see {TRACEBACK})"
    return "ended early"
