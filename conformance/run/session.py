"""Sessions of pytest over a campaign: its workers share the scenarios, here or on other machines."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from dataclasses import replace

import pytest

from conformance.run import signals
from conformance.run.controller import ControllerPlugin, ProgressPlugin
from conformance.run.finish import TRACEBACK
from conformance.run.items import ROOT
from conformance.run.journal import Journal
from conformance.run.plan import Campaign
from conformance.run.progress import Display, Progress
from conformance.run.scheduler import ATTEMPTS
from lab.errors import LabError

SESSIONS = 3
"""Sessions at most: another one continues where workers died before they had work, or the lab made a mistake."""
_OURS = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "", "PYTEST_PLUGINS": ""}
"""Pytest without what a machine adds to it: other plugins and options could change what is collected and reported."""
_WORKER_ENV = "".join(f"//env:{name}={value}" for name, value in _OURS.items())
"""The same for workers, in xdist's words."""
_UNUSED = ("cacheprovider", "terminal", "logging", "doctest", "unraisableexception", "threadexception")
"""Pytest's plugins that would look at each of thousands of verdicts for nothing."""


def record_by_pytest(
    campaign: Campaign, journals: Mapping[int, Journal], workers: Sequence[str], displays: Sequence[Display]
) -> str:
    """Record and judge what the journals do not hold; return why not all of it was done, if that is so.

    LabError where no worker can be started.
    """
    reason = "ended early"
    for session in range(1, SESSIONS + 1):
        left = tuple(job for job in campaign.jobs if job.name not in journals[job.repetition].verdicts)
        if not left:
            break
        pending = replace(campaign, jobs=left)
        controller = ControllerPlugin(pending, journals)
        _run_pytest(controller, workers, displays)
        if signals.interrupted():
            return "interrupted"
        if controller.worker_start_error:
            reason = f"a worker could not be started ({controller.worker_start_error})"
            if session == SESSIONS and not any(journal.verdicts for journal in journals.values()):
                what = f"A worker could not be started: {controller.worker_start_error}"
                raise LabError(what, remedy="see docs/scale.md for other machines")
        elif controller.internal_error:
            reason = f"a mistake in the lab itself ({controller.internal_error}; see {TRACEBACK})"
    return reason


def _run_pytest(controller: ControllerPlugin, workers: Sequence[str], displays: Sequence[Display]) -> None:
    """Run one session over the controller's campaign."""
    campaign = controller.campaign
    # xdist takes an argument that is an existing path for a test, so options and values stand together.
    arguments = [
        *("--pyargs", ROOT, f"--config-file={os.devnull}", f"--rootdir={campaign.out}", "--noconftest", "--capture=no"),
        *(part for name in _UNUSED for part in ("-p", f"no:{name}")),
        *("-p", "xdist.plugin", "-p", "conformance.plugin"),
        *("--dist=loadscope", f"--max-worker-restart={ATTEMPTS * len(campaign.jobs)}"),
        *(f"--tx={worker}{_WORKER_ENV}" for worker in workers),
    ]
    with _own_pytest(), chdir(campaign.out):
        pytest.main(arguments, plugins=[controller, ProgressPlugin(Progress(campaign, displays))])


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
