"""The pytest plugins of xdist's workers, here and on other machines, and what they share with the controlling process."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conformance.run import signals
from conformance.run.items import PACKAGE, ROOT, CheckItem, Explained, JudgeStep, Recording, Suite
from conformance.run.plan import Campaign
from conformance.run.prepare import prepare_toolchain
from conformance.run.scenario_report import ScenarioReport
from conformance.run.scheduler import pack
from lab import drivers, log, settings
from lab.guest.folder import run_folder

Wrapper = Generator[None, Any, Any]
"""A hook that receives what other plugins made, and returns it."""


class SuitePlugin:
    """Collects the campaign and attaches verdicts to reports, in the controlling process and in workers."""

    def __init__(self, campaign: Campaign, kind: type[Recording]) -> None:
        """Take the campaign, and the class that records its scenarios."""
        self.campaign, self.kind = campaign, kind
        for manifest in campaign.drivers:  # a worker has only unpickled them
            drivers.import_python(manifest)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collect_directory(self, path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        """Collect the package's folder as the campaign."""
        if path != PACKAGE:
            return None
        suite: Suite = Suite.from_parent(parent, path=path, nodeid=ROOT)
        suite.campaign, suite.kind = self.campaign, self.kind
        return suite

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Wrapper:
        """Attach the verdicts of an item to its report."""
        report = yield
        if isinstance(item, JudgeStep | CheckItem):
            report.nvme = item.scenario_report(call.when)
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_report_to_serializable(self, report: Any) -> Wrapper:
        """Send verdicts from a worker as JSON."""
        data = yield
        if (scenario_report := getattr(report, "nvme", None)) is not None:
            data["nvme"] = scenario_report.model_dump_json()
        return data

    @pytest.hookimpl(wrapper=True)
    def pytest_report_from_serializable(self) -> Wrapper:
        """Receive verdicts from a worker."""
        report = yield
        if (text := getattr(report, "nvme", None)) is not None:
            report.nvme = ScenarioReport.model_validate_json(text)
            if report.failed and isinstance(report.longrepr, str):
                report.longrepr = Explained(report.longrepr)
        return report


class WorkerPlugin(SuitePlugin):
    """In a worker on this machine. A signal, or the controller's end, ends it in order: its guest ends first."""

    def __init__(self, campaign: Campaign, kind: type[Recording], controller: int) -> None:
        """End in order on a signal, and when the process ``controller`` ends."""
        super().__init__(campaign, kind)
        self._stack = ExitStack()
        self._stack.enter_context(signals.interrupting())
        signals.end_with(controller)

    def pytest_unconfigure(self) -> None:
        """Restore the signal handlers."""
        self._stack.close()


class RemotePlugin(SuitePlugin):
    """In a worker on another machine: it prepares its own toolchain and returns the evidence with the verdicts."""

    def __init__(self, campaign: Campaign, kind: type[Recording]) -> None:
        """Prepare the toolchain on this machine, which may take minutes, and record into a temporary folder."""
        self._stack = ExitStack()
        self._stack.enter_context(signals.interrupting())
        scratch = self._stack.enter_context(run_folder())
        toolchain = prepare_toolchain(campaign, settings.load(), lambda _: None)
        super().__init__(replace(campaign, out=scratch, toolchain=toolchain), kind)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: Any) -> None:
        """Attach the evidence to the report of the recording."""
        scenario_report: ScenarioReport | None = getattr(report, "nvme", None)
        if scenario_report is None or scenario_report.run is None:
            return
        folder = self.campaign.folder_of(scenario_report.repetition) / scenario_report.run.evidence
        if folder.exists():
            report.nvme_evidence = pack(folder)
            shutil.rmtree(folder)

    def pytest_unconfigure(self) -> None:
        """Remove the scratch folder and restore the signal handlers."""
        self._stack.close()


def worker(carried: bytes) -> SuitePlugin:
    """Return the plugin of a worker; ``carried`` is the pickled campaign, and the controller's process id if it is here."""
    log.show()
    campaign, kind, *parent = pickle.loads(carried)
    return WorkerPlugin(campaign, kind, *parent) if parent else RemotePlugin(campaign, kind)
