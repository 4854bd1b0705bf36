"""The pytest plugins of the controlling process: under ``nvme-lab run``, and under the user's own pytest."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import fields, replace
from os import getpid, kill
from pathlib import Path
from signal import SIGINT
from typing import Any

import pytest

from conformance.judging.files import write
from conformance.judging.models import RunEntry, VerdictEntry
from conformance.report.terminal import plain_table
from conformance.run import costs, signals
from conformance.run.folders import default_folder, evidence_folder, prepare_folder
from conformance.run.handshake import WORKER_INPUT
from conformance.run.identity import new_results
from conformance.run.items import ROOT, CheckedRecording, Recording, error_verdict
from conformance.run.plan import Campaign, Request, plan
from conformance.run.prepare import cache_root, prepare_campaign
from conformance.run.scheduler import ATTEMPTS, WORKER_DIED, ScenarioReport, WholeScenarios, unpack
from conformance.run.worker import SuitePlugin
from conformance.suite.check import Outcome
from lab import settings
from lab.errors import LabError, UsageError
from lab.guest.folder import sweep_all

RETRIED = "again"
"""The outcome that pytest reports where a worker died and another one records its scenario again."""


class ControllerPlugin(SuitePlugin):
    """In the process that the user started: hands the campaign to workers, collects verdicts, writes the results."""

    def __init__(self, campaign: Campaign, kind: type[Recording] = Recording) -> None:
        super().__init__(campaign, kind)
        self.begin(campaign)
        self.written: Path | None = None
        self._runs: dict[str, RunEntry] = {}  # by the job's name
        self._verdicts: dict[str, dict[str, VerdictEntry]] = {}  # by the job's name and the check
        self._collected: set[str] = set()
        self._workers: list[int] = []  # process ids on this machine
        self._ready = False  # a worker has collected
        self.worker_start_error = ""  # why none has
        self._retried: set[str] = set()  # names of jobs whose worker has died

    def begin(self, campaign: Campaign) -> None:
        """Start with this campaign and results without a verdict."""
        self.campaign = campaign
        self.results = new_results(campaign)

    # -- before anything is recorded ------------------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Make a scenario the unit that xdist distributes."""
        # A scenario is a scope: node ids of its items share all but the last part. (xdist's loadgroup would do as well, but
        # it renames items, and under pytest 9.2 that no longer works.)
        if config.getoption("dist", "no") not in ("no", "loadscope", "loadfile"):
            config.option.dist = "loadscope"
        if hasattr(config.option, "loadscopereorder"):
            config.option.loadscopereorder = False  # by the number of checks; ours are in order of their cost

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        """Return the scheduler of whole scenarios."""
        return WholeScenarios(config, log) if config.getoption("dist") == "loadscope" else None

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Send the campaign to a worker."""
        here = node.gateway.spec.popen
        carried = (self.campaign, self.kind, getpid()) if here else (self.campaign.portable, self.kind)
        node.workerinput[WORKER_INPUT] = pickle.dumps(carried)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodeready(self, node: Any) -> None:
        """Note the process of a worker on this machine."""
        if node.gateway.spec.popen:
            self._workers.append(node.gateway._rinfo().pid)

    # -- what was collected, and what came of it ------------------------------------------------------------------------

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note what this process has collected."""
        self._collect(item.nodeid for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """Note what a worker has collected."""
        self._ready = True
        self._collect(ids)

    def _collect(self, ids: Iterable[str]) -> None:
        self._collected.update(id for id in ids if id.startswith(f"{ROOT}::"))

    @property
    def expected(self) -> int:
        """Return the number of verdicts of a run that nothing interrupts."""
        return sum(len(job.checks) for job in self.campaign.jobs)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: Any) -> None:
        """Keep the recording and the verdicts of a report."""
        scenario_report: ScenarioReport | None = getattr(report, "nvme", None)
        if scenario_report is None:
            return
        if scenario_report.run:
            if (archive := vars(report).pop("nvme_evidence", None)) is not None:
                unpack(archive, evidence_folder(self.campaign.out, scenario_report.name))
            if scenario_report.name in self._retried:
                scenario_report.run.retry_reason = scenario_report.run.retry_reason or WORKER_DIED
            self._runs[scenario_report.name] = scenario_report.run
        self._verdicts.setdefault(scenario_report.name, {}).update(
            {verdict.check: verdict for verdict in scenario_report.verdicts}
        )

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """End the run where a worker fails before it has collected: it would fail again."""
        if error and not self._ready and not self.worker_start_error:
            self.worker_start_error = f"{node.gateway.spec.ssh or 'here'}: {str(error).strip().splitlines()[-1]}"
            node.config.pluginmanager.get_plugin("dsession").shouldstop = self.worker_start_error

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: Any, sched: Any) -> None:
        """Drop what a dead worker reported of its scenario; another worker records it again, once."""
        scope, _, _ = crashitem.rpartition("::")
        job = next((job for job in self.campaign.jobs if scope == f"{ROOT}::{job.name}"), None)
        if job is None or not isinstance(sched, WholeScenarios):
            return
        self._verdicts.pop(job.name, None)
        self._runs.pop(job.name, None)
        if sched.deaths[scope] < ATTEMPTS:
            self._retried.add(job.name)
            report.outcome = RETRIED
            return
        errors = (error_verdict(job, check, f"{WORKER_DIED}, and so did the second one") for check in job.checks)
        self._verdicts[job.name] = {e.check.id: VerdictEntry.model_validate(e.to_json()) for e in errors}

    def pytest_internalerror(self, excinfo: pytest.ExceptionInfo[BaseException]) -> bool | None:
        """Report a machine that cannot be reached as such, not as a mistake in the lab."""
        if type(excinfo.value).__name__ != "HostNotFound":
            return None
        self.worker_start_error = f"{excinfo.value}: there is no way to this machine"
        return True

    # -- the end --------------------------------------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self) -> None:
        """Interrupt the workers on this machine."""
        for pid in self._workers:
            with suppress(ProcessLookupError):
                kill(pid, SIGINT)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write the results, partial ones too, in the order of the campaign."""
        if session.config.getoption("collectonly", False) or not self._collected:
            return
        for job in self.campaign.jobs:
            judged = self._verdicts.get(job.name, {})
            self.results.verdicts += [judged[check] for check in job.checks if check in judged]
            self.results.runs += [self._runs[job.name]] if job.name in self._runs else []
        missing = self.expected - len(self.results.verdicts)
        if missing:
            why = "interrupted" if exitstatus == pytest.ExitCode.INTERRUPTED else "ended early"
            self.results.unfinished = f"{why}: {missing} of {self.expected} verdicts are missing"
        self.written = write(self.results, self.campaign.out)
        failed = {"/".join(verdict.key[:3]) for verdict in self.results.verdicts if verdict.outcome is Outcome.ERROR}
        seconds = {name: took for name, took in costs.measured(self.results).items() if name not in failed}
        costs.remember(cache_root(self.campaign), seconds)
        sweep_all()  # remains of killed workers


class StandalonePlugin(ControllerPlugin):
    """Under the user's own pytest: prepares when the session starts, and adds its summary to pytest's."""

    def __init__(self, campaign: Campaign, out: Path | None) -> None:
        super().__init__(campaign, CheckedRecording)
        self._out = out
        self._stack = ExitStack()

    @property
    def expected(self) -> int:
        """Return the number of collected items: users select and deselect."""
        return len(self._collected)

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Prepare the campaign and its folder."""
        if session.config.getoption("collectonly", False):
            return
        self._stack.enter_context(signals.interrupting())
        reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
        say = (lambda text: reporter.write_line(f"NVMe Lab: {text}")) if reporter else (lambda _: None)
        with _errors_of_pytest():
            prepared = prepare_campaign(self.campaign, settings.load(), say)
            self.begin(replace(prepared, out=prepare_folder(self._out or default_folder(Path.cwd()))))

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: Any) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
        """Return the words for warnings, and for scenarios that are recorded again."""
        scenario_report: ScenarioReport | None = getattr(report, "nvme", None)
        if scenario_report and report.passed and scenario_report.verdicts[0].outcome is Outcome.WARN:
            return "warned", "W", ("WARN", {"yellow": True})
        if report.outcome == RETRIED:
            return RETRIED, "A", (RETRIED.upper(), {"yellow": True})
        return None

    def pytest_unconfigure(self) -> None:
        """Restore the signal handlers."""
        self._stack.close()

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Add the table of stages to pytest's summary."""
        if self.written is None:
            return
        terminalreporter.section("NVMe Lab")
        terminalreporter.write_line(plain_table(self.results))
        terminalreporter.write_line(f"results: {self.written}")


def controller(options: Mapping[str, Any]) -> StandalonePlugin:
    """Return the plugin of the user's own pytest; ``options`` are the ``--nvme-`` options by name."""
    request = Request(**{known.name: options[known.name] for known in fields(Request) if known.name in options})
    with _errors_of_pytest():
        return StandalonePlugin(plan(request), options.get("out"))


@contextmanager
def _errors_of_pytest() -> Iterator[None]:
    """Turn the lab's errors into pytest's: wrong usage ends with 4, the lab's failure with 2."""
    try:
        yield
    except UsageError as error:
        raise pytest.UsageError(str(error)) from error
    except LabError as error:
        pytest.exit(str(error), returncode=error.exit_status)
