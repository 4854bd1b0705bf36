"""The pytest plugins of the controlling process: under ``nvme-lab run``, and under the user's own pytest."""

from __future__ import annotations

import logging
import pickle
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import fields, replace
from os import getpid, kill
from pathlib import Path
from signal import SIGINT
from typing import Any

import pytest

from conformance.judging.models import FILE, Results, VerdictEntry
from conformance.report.terminal import plain_table
from conformance.run import signals
from conformance.run.finish import TRACEBACK, finish
from conformance.run.folders import default_folder, evidence_folder, prepare_folder
from conformance.run.handshake import WORKER_INPUT
from conformance.run.items import OTHER_STAGES, ROOT, CheckedRecording, Recording, other_checks
from conformance.run.journal import Journal
from conformance.run.plan import Campaign, RunRequest, plan
from conformance.run.prepare import prepare_campaign
from conformance.run.progress import Progress
from conformance.run.scenario_report import WORKER_DIED, ScenarioReport
from conformance.run.scenario_run import error_verdict
from conformance.run.scheduler import ATTEMPTS, WholeScenarios, unpack
from conformance.run.worker import SuitePlugin
from conformance.suite.check import Outcome
from conformance.wire.decode import printable
from lab import settings
from lab.errors import LabError, UsageError

LOG = logging.getLogger(__name__)

SSH = re.compile(r"(?:^|\*)ssh=(.+?)(?://|$)")
"""The machine in a specification of workers."""
RERUNS = ("reruns", "retries", "force_flaky")
"""Options of plugins that run a failed item once more."""
RETRIED = "again"
"""The outcome that pytest reports where a worker died and another one records its scenario again."""


class ControllerPlugin(SuitePlugin):
    """In the process that the user started: hands the campaign to workers, and collects verdicts in the journals."""

    def __init__(self, campaign: Campaign, journals: Mapping[int, Journal], kind: type[Recording] = Recording) -> None:
        """Take the campaign to distribute, and the journal of each repetition."""
        super().__init__(campaign, kind)
        self.journals = journals
        self._scopes = {job.scope for job in campaign.jobs}
        self.worker_start_error = ""
        """Why no worker has collected; "" if one has, or none was needed."""
        self.internal_error = ""
        """What ended pytest; "" if it ended in order."""
        self._collected: set[str] = set()
        self._workers: list[int] = []  # process ids on this machine
        self._machines: list[str] = []  # others, as --tx names them
        self._ready = False  # a worker has collected
        self._retried: set[str] = set()  # scopes of jobs whose worker has died

    # -- before anything is recorded ------------------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Make a scenario the unit that xdist distributes."""
        # A scenario is a scope: node ids of its items share all but the last part. (xdist's loadgroup would do as well, but
        # it renames items, and under pytest 9.2 that no longer works.)
        if config.getoption("dist", "no") not in ("no", "loadscope", "loadfile"):
            config.option.dist = "loadscope"
        self._machines = [found[1] for spec in config.getoption("tx", []) if (found := SSH.search(spec))]
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
        LOG.info("worker %s is ready: process %s", node.gateway.id, node.gateway._rinfo().pid)
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

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: Any) -> None:
        """Keep the recording and the verdicts of a report."""
        scenario_report: ScenarioReport | None = getattr(report, "nvme", None)
        if scenario_report is None or not self.journals:
            return
        if scenario_report.run and scenario_report.scope not in self._scopes:
            raise LabError(f"A worker reported a scenario that is not in the campaign: {printable(scenario_report.name)}")
        if scenario_report.run:
            if (archive := vars(report).pop("nvme_evidence", None)) is not None:
                out = self.campaign.folder_of(scenario_report.repetition)
                folder = evidence_folder(out, scenario_report.name)
                unpack(archive, folder)
                scenario_report.run.evidence = str(folder.relative_to(out))
                _forget_evidence_elsewhere(scenario_report, out)
            if scenario_report.scope in self._retried:
                scenario_report.run.retry_reason = scenario_report.run.retry_reason or WORKER_DIED
        self.journals[scenario_report.repetition].add(scenario_report)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """End the run where a worker fails before it has collected: it would fail again."""
        LOG.info("worker %s is down: %s", node.gateway.id, error or "nothing is left for it")
        if error and not self._ready and not self.worker_start_error:
            self.worker_start_error = f"{node.gateway.spec.ssh or 'here'}: {str(error).strip().splitlines()[-1]}"
            node.config.pluginmanager.get_plugin("dsession").shouldstop = self.worker_start_error

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: Any, sched: Any) -> None:
        """Drop what a dead worker reported of its scenario; another worker records it again, once."""
        scope, _, _ = crashitem.rpartition("::")
        job = next((job for job in self.campaign.jobs if scope == f"{ROOT}::{job.scope}"), None)
        if job is None or not self.journals or not isinstance(sched, WholeScenarios):
            return
        journal = self.journals[job.repetition]
        journal.drop(job.name)
        if sched.deaths[scope] < ATTEMPTS:
            self._retried.add(job.scope)
            report.outcome = RETRIED
            return
        errors = (error_verdict(job, check, f"{WORKER_DIED}, and so did the second one") for check in job.checks)
        verdicts = [VerdictEntry.model_validate(error.to_json()) for error in errors]
        journal.add(ScenarioReport(run=None, verdicts=verdicts, repetition=job.repetition))

    def pytest_internalerror(self, excrepr: Any, excinfo: pytest.ExceptionInfo[BaseException]) -> bool | None:
        """Keep what ended pytest, its traceback in a file; a machine that cannot be reached is no mistake in the lab."""
        if type(excinfo.value).__name__ == "HostNotFound":
            self.worker_start_error = f"{excinfo.value}: there is no way to this machine"
            return True
        if isinstance(excinfo.value, OSError) and self._machines and not self._ready:  # it ended before it was told all
            self.worker_start_error = f"{' or '.join(self._machines)}: there is no way to this machine, or no such Python there"
            return True
        if isinstance(excinfo.value, EOFError) and not self._ready:
            self.worker_start_error = "here: it died while it started"
            return True
        self.internal_error = f"{type(excinfo.value).__name__}: {excinfo.value}".strip().splitlines()[0]
        with suppress(OSError):
            (self.campaign.out / TRACEBACK).write_text(f"{excrepr}\n", encoding="utf-8")
        return True

    # -- the end --------------------------------------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self) -> None:
        """Interrupt the workers on this machine."""
        for pid in self._workers:
            with suppress(ProcessLookupError):
                kill(pid, SIGINT)


def _forget_evidence_elsewhere(report: ScenarioReport, out: Path) -> None:
    """Leave out the evidence of fresh recordings that stayed on another machine."""
    for occurrence in (one for verdict in report.verdicts for one in verdict.occurrences):
        if not (out / occurrence.evidence).exists():
            occurrence.evidence = ""


class ProgressPlugin:
    """Tells `Progress` what the items of the controlling process do."""

    def __init__(self, progress: Progress) -> None:
        """Take what follows the run."""
        self._progress = progress

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Note the start of a scenario."""
        self._progress.started(_scope(nodeid))

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Note the verdicts of a scenario."""
        scenario_report: ScenarioReport | None = getattr(report, "nvme", None)
        if scenario_report is not None:
            self._progress.reported(scenario_report)

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str) -> None:
        """Note a scenario whose worker died."""
        self._progress.lost(_scope(crashitem))

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self) -> None:
        """Show that the run stops."""
        self._progress.stopping()


def _scope(nodeid: str) -> str:
    return nodeid.split("::")[1]


class StandalonePlugin(ControllerPlugin):
    """Under the user's own pytest: prepares when the session starts, and adds its summary to pytest's."""

    def __init__(self, campaign: Campaign, out: Path | None) -> None:
        """Take the campaign; results go to ``out``, or to a new folder below the current one."""
        super().__init__(campaign, {}, CheckedRecording)
        self.results: Results | None = None
        self._out = out
        self._stack = ExitStack()

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Prepare the campaign and its folder."""
        rerunning = next((option for option in RERUNS if session.config.getoption(option, None)), "")
        if rerunning:
            raise pytest.UsageError(
                f"--{rerunning.replace('_', '-')} would judge the same recording again, and change nothing\n"
                "  remedy: --nvme-confirm records anew what failed; nvme-lab run --repeat 20 records all of it anew"
            )
        if session.config.getoption("collectonly", False):
            return
        self._stack.enter_context(signals.interrupting())
        reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
        say = (lambda text: reporter.write_line(f"NVMe Lab: {text}")) if reporter else (lambda _: None)
        with _errors_of_pytest():
            prepared = prepare_campaign(self.campaign, settings.load(), say)
            self.campaign = replace(prepared, out=prepare_folder(self._out or default_folder(Path.cwd())))
            self.journals = {0: Journal(self.campaign.out)}
            self._scopes = {job.scope for job in self.campaign.jobs}

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: Any) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
        """Return the words for warnings, and for scenarios that are recorded again."""
        scenario_report: ScenarioReport | None = getattr(report, "nvme", None)
        if scenario_report and report.passed and scenario_report.verdicts[0].outcome is Outcome.WARN:
            return "warned", "W", ("WARN", {"yellow": True})
        if scenario_report and report.passed and scenario_report.verdicts[0].outcome is Outcome.FLAKY:
            return "flaky", "K", ("FLAKY", {"yellow": True})
        if report.outcome == RETRIED:
            return RETRIED, "A", (RETRIED.upper(), {"yellow": True})
        return None

    def pytest_internalerror(self, excrepr: Any, excinfo: pytest.ExceptionInfo[BaseException]) -> bool | None:
        """Leave it to pytest, which shows it."""

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Write the results of what the user has not deselected."""
        if self.journals and self._collected:
            reason = "interrupted" if exitstatus == pytest.ExitCode.INTERRUPTED else "ended early"
            self.results = finish(self.campaign, self.journals[0], reason, expected=self._expected())

    def _expected(self) -> int:
        """Return the number of verdicts of all collected items."""
        jobs = {job.name: job for job in self.campaign.jobs}
        names = (id.split("::")[1:] for id in self._collected)
        return sum(len(other_checks(jobs[job], self.campaign.request)) if item == OTHER_STAGES else 1 for job, item in names)

    def pytest_unconfigure(self) -> None:
        """Restore the signal handlers."""
        self._stack.close()

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Add the table of stages to pytest's summary."""
        if self.results is None:
            return
        terminalreporter.section("NVMe Lab")
        terminalreporter.write_line(plain_table(self.results))
        terminalreporter.write_line(f"results: {self.campaign.out / FILE}")


def controller(options: Mapping[str, Any], ids: Sequence[str] = ()) -> StandalonePlugin:
    """Return the plugin of the user's own pytest; ``options`` are the ``--nvme-`` options by name, ``ids`` items to run."""
    request = RunRequest(**{known.name: options[known.name] for known in fields(RunRequest) if known.name in options})
    if ids:
        only = tuple(dict.fromkeys(id.split("::")[1] for id in ids))
        drivers = request.drivers or tuple(dict.fromkeys(job.partition("/")[0] for job in only))
        request = replace(request, only=only, drivers=drivers, ids=tuple(ids))
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
