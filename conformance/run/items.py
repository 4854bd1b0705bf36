"""The suite as pytest sees it: a collector is a scenario on a driver and device, recorded once and judged by all its checks.

Under the user's own pytest its items are the checks. The first that is set up has the scenario recorded and judged; each says
what its verdict is. ``nvme-lab run`` shows nobody items, and one costs more than most checks do: there a scenario has only two,
`RecordStep` and `JudgeStep`. With xdist the scenario is the unit that a worker gets. Verdicts travel on the items' reports
(`conformance.run.scheduler.Told`) to the controlling process, which alone writes the results; from another machine the evidence
travels with them.

Where the lab fails (a guest was killed, a worker died) the scenario is recorded once more, and its results say so.
"""

from __future__ import annotations

import pickle
import shutil
import warnings
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import fields, replace
from os import getpid, kill
from pathlib import Path
from signal import SIGINT
from typing import Any

import pytest

import lab.recording.guest
from conformance.judging import results
from conformance.judging.judge import Verdict, judge, place
from conformance.report.terminal import plain_table
from conformance.run import costs, signals
from conformance.run.campaign import Campaign, Job, Request, cache_root, equip, plan, toolchain
from conformance.run.folders import default_folder, evidence_folder, prepare_folder
from conformance.run.handshake import WORKER_INPUT
from conformance.run.scheduler import ATTEMPTS, WORKER_DIED, Told, WholeScenarios, pack, unpack
from conformance.suite.check import Outcome
from conformance.suite.selection import CHECKS
from lab import settings
from lab.data.evidence import Evidence
from lab.errors import LabError, UsageError
from lab.guest.folder import run_folder, sweep_all

PACKAGE = Path(__file__).parents[1]
ROOT = "conformance"
"""The first part of every item's node id."""
AGAIN = "again"
"""The outcome that pytest reports where a worker died and another one does its scenario again."""

Wrapper = Generator[None, Any, Any]
"""Gets what other plugins have made, and returns it."""


class ConformanceWarning(pytest.PytestWarning):
    """A recommended or optional rule was not met."""


class CheckFailed(Exception):
    """The driver broke a rule; carries the finding as text."""


class LabFailed(Exception):
    """The lab could not judge: its own failure."""


class Suite(pytest.Directory):
    """The package's folder, collected as the campaign's jobs."""

    campaign: Campaign
    kind: type[Recording]

    def collect(self) -> Iterator[pytest.Collector]:
        for job in self.campaign.in_rounds:
            yield self.kind.of(self, job, self.campaign)


class Recording(pytest.Collector):
    """One scenario on one driver and device. It is judged in an item of its own: meanwhile its worker gets the next one."""

    job: Job
    campaign: Campaign

    evidence: Evidence
    verdicts: dict[str, Verdict]
    run: results.RunEntry | None

    @classmethod
    def of(cls, parent: Suite, job: Job, campaign: Campaign) -> Recording:
        made: Recording = cls.from_parent(parent, name=job.name)
        made.job, made.campaign = job, campaign
        made.verdicts, made.run = {}, None
        return made

    def collect(self) -> Iterator[pytest.Item]:
        yield RecordStep.from_parent(self, name="record")
        yield JudgeStep.from_parent(self, name="judge")

    def record(self) -> None:
        """Makes the evidence."""
        with self._failing():
            self.evidence, again = self._attempts()
            self.run = results.RunEntry(
                driver=self.job.driver.name,
                device=self.job.device,
                scenario=self.job.scenario.id,
                stage=self.job.scenario.stage,
                evidence=str(self.evidence.folder.relative_to(self.campaign.out)),
                seconds=self.evidence.end.seconds if self.evidence.end else 0.0,
                again=again,
                measurements=results.measured(self.evidence),
            )

    def judge(self) -> None:
        """Finds the verdicts, unless there is no evidence and they say so already."""
        if not self.verdicts:
            with self._failing():
                found = judge(self.evidence, [CHECKS[check] for check in self.job.checks])
                self.verdicts = {verdict.check.id: verdict for verdict in found}

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Whatever goes wrong is the lab's failure and belongs into the results."""
        try:
            yield
        except Exception as error:
            reason = str(error) if isinstance(error, LabError) else f"{type(error).__name__}: {error}"
            self.verdicts = {check: _error(self.job, check, reason) for check in self.job.checks}
            if not isinstance(error, LabError):
                raise

    def _attempts(self) -> tuple[Evidence, str]:
        """The evidence, and why the lab failed before it was there: "" at the first attempt. There is no third."""
        try:
            evidence = self._attempt()
            if evidence.end is None or evidence.end.outcome != "lab-error":
                return evidence, ""
            failure = evidence.end.reason
        except UsageError:
            raise
        except LabError as error:
            failure = str(error)
        return self._attempt(), failure

    def _attempt(self) -> Evidence:
        job = self.job
        folder = evidence_folder(self.campaign.out, job.name)
        lab.recording.guest.record(job.driver, job.scenario, job.device, folder, toolchain=self.campaign.toolchain)
        return Evidence(folder)

    def tell(self, verdicts: Iterable[Verdict]) -> Told:
        """These verdicts for the controlling process, which hears of the recording itself once."""
        run, self.run = self.run, None
        return Told(run=run, verdicts=[results.VerdictEntry.model_validate(verdict.to_json()) for verdict in verdicts])


class Checked(Recording):
    """One scenario whose items are its checks."""

    def collect(self) -> Iterator[pytest.Item]:
        for check in self.job.checks:
            yield Judgement.from_parent(self, name=check)

    def verdict(self, check: str) -> Verdict:
        """What the check says. The first question records the scenario and judges it."""
        if not self.verdicts:
            self.record()
            self.judge()
        return self.verdicts[check]


def _error(job: Job, check: str, reason: str) -> Verdict:
    return Verdict(job.driver.name, job.device, job.scenario.id, CHECKS[check], Outcome.ERROR, reason=reason)


class RecordStep(pytest.Item):
    """Has its scenario recorded."""

    parent: Recording

    def runtest(self) -> None:
        self.parent.record()


class JudgeStep(pytest.Item):
    """Has the recording judged, and tells all verdicts at once."""

    parent: Recording

    def runtest(self) -> None:
        self.parent.judge()

    def told(self, when: str) -> Told | None:
        """What the report of this phase carries."""
        return self.parent.tell(self.parent.verdicts.values()) if when == "call" else None


class Judgement(pytest.Item):
    """One check of one recording, which passes, fails or is skipped as its verdict says."""

    parent: Checked
    verdict: Verdict | None = None

    def setup(self) -> None:
        try:
            verdict = self.parent.verdict(self.name)
        finally:
            self.verdict = self.parent.verdicts.get(self.name)
        if verdict.outcome is Outcome.ERROR:
            raise LabFailed(verdict.reason)

    def runtest(self) -> None:
        assert self.verdict is not None
        verdict, strict = self.verdict, self.parent.campaign.request.strict
        match verdict.outcome:
            case Outcome.FAIL:
                if verdict.known is not None:
                    pytest.xfail(verdict.known)
                raise CheckFailed(self._explained())
            case Outcome.WARN if strict:
                raise CheckFailed(self._explained())
            case Outcome.WARN:
                warnings.warn(ConformanceWarning(self._explained()), stacklevel=1)
            case Outcome.INCONCLUSIVE if strict and verdict.check.level == "M":
                raise CheckFailed(f"{verdict.check.statement}\n  could not be judged: {verdict.reason}")
            case Outcome.UNSUPPORTED | Outcome.INCONCLUSIVE:
                pytest.skip(f"{verdict.outcome}: {verdict.reason}")

    def _explained(self) -> str:
        assert self.verdict is not None
        verdict, check = self.verdict, self.verdict.check
        lines = [f"{check.statement} ({check.cite})"]
        broken = [finding for finding in verdict.findings if not finding.ok]
        for finding in broken[:3]:
            where = verdict.evidence / place(finding.event) if finding.event else verdict.evidence
            lines += [f"  expected {finding.expected}", f"  actual   {finding.actual}", f"  evidence {where}"]
        if len(broken) > 3:
            lines.append(f"  and {len(broken) - 3} more")
        return "\n".join(lines)

    def told(self, when: str) -> Told | None:
        """What the report of this phase carries."""
        if self.verdict is None or when != ("setup" if self.verdict.outcome is Outcome.ERROR else "call"):
            return None
        return self.parent.tell([self.verdict])

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, CheckFailed | LabFailed | pytest.xfail.Exception):
            return str(excinfo.value)
        return super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, None, f"{self.parent.name} {self.name}"


class SuitePlugin:
    """What controller and workers have in common: they collect the campaign, and put verdicts on reports."""

    def __init__(self, campaign: Campaign, kind: type[Recording]) -> None:
        self.campaign, self.kind = campaign, kind

    @pytest.hookimpl(tryfirst=True)
    def pytest_collect_directory(self, path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        if path != PACKAGE:
            return None
        suite: Suite = Suite.from_parent(parent, path=path, nodeid=ROOT)
        suite.campaign, suite.kind = self.campaign, self.kind
        return suite

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Wrapper:
        report = yield
        if isinstance(item, JudgeStep | Judgement):
            report.nvme = item.told(call.when)
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_report_to_serializable(self, report: Any) -> Wrapper:
        data = yield
        if (told := getattr(report, "nvme", None)) is not None:
            data["nvme"] = told.model_dump_json()
        return data

    @pytest.hookimpl(wrapper=True)
    def pytest_report_from_serializable(self) -> Wrapper:
        report = yield
        if (told := getattr(report, "nvme", None)) is not None:
            report.nvme = Told.model_validate_json(told)
        return report


class WorkerPlugin(SuitePlugin):
    """In an xdist worker. A signal, or the end of the controller, ends it in order: its guest is gone before it is."""

    def __init__(self, campaign: Campaign, kind: type[Recording], controller: int) -> None:
        super().__init__(campaign, kind)
        self._stack = ExitStack()
        self._stack.enter_context(signals.interrupting())
        signals.end_with(controller)

    def pytest_unconfigure(self) -> None:
        self._stack.close()


class RemotePlugin(SuitePlugin):
    """In an xdist worker on another machine, which has a toolchain of its own and returns the evidence with the verdicts."""

    def __init__(self, campaign: Campaign, kind: type[Recording]) -> None:
        self._stack = ExitStack()
        self._stack.enter_context(signals.interrupting())
        scratch = self._stack.enter_context(run_folder())
        equipped = toolchain(campaign, settings.load(), lambda text: None)
        super().__init__(replace(campaign, out=scratch, toolchain=equipped), kind)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: Any) -> None:
        """Attaches the evidence to the report that tells of the recording."""
        told: Told | None = getattr(report, "nvme", None)
        if told and told.run and (folder := self.campaign.out / told.run.evidence).exists():
            report.nvme_evidence = pack(folder)
            shutil.rmtree(folder)

    def pytest_unconfigure(self) -> None:
        self._stack.close()


class ControllerPlugin(SuitePlugin):
    """In the process that the user started: prepares, tells the workers, keeps the verdicts, writes the results."""

    def __init__(self, campaign: Campaign, kind: type[Recording] = Recording) -> None:
        super().__init__(campaign, kind)
        self.begin(campaign)
        self.written: Path | None = None
        self._runs: dict[str, results.RunEntry] = {}  # by the job's name
        self._verdicts: dict[str, dict[str, results.VerdictEntry]] = {}  # by the job's name and the check
        self._collected: set[str] = set()
        self._workers: list[int] = []  # process ids on this machine
        self._ready = False  # has a worker collected?
        self.unborn = ""  # why none did
        self._again: set[str] = set()  # jobs whose worker has died

    def begin(self, campaign: Campaign) -> None:
        """This campaign it is, with results that hold no verdict yet."""
        self.campaign = campaign
        self.results = campaign.results()

    # -- before anything is recorded ------------------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        # A scenario is a scope: node ids of its items share all but the last part. (xdist's loadgroup would do as well, but
        # it renames items, and under pytest 9.2 that no longer works.)
        if config.getoption("dist", "no") not in ("no", "loadscope", "loadfile"):
            config.option.dist = "loadscope"
        if hasattr(config.option, "loadscopereorder"):
            config.option.loadscopereorder = False  # by the number of checks; ours are in order of their cost

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        return WholeScenarios(config, log) if config.getoption("dist") == "loadscope" else None

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        here = node.gateway.spec.popen
        carried = (self.campaign, self.kind, getpid()) if here else (self.campaign.portable, self.kind)
        node.workerinput[WORKER_INPUT] = pickle.dumps(carried)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodeready(self, node: Any) -> None:
        if node.gateway.spec.popen:
            self._workers.append(node.gateway._rinfo().pid)

    # -- what was collected, and what came of it ------------------------------------------------------------------------

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._collect(item.nodeid for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        self._ready = True
        self._collect(ids)

    def _collect(self, ids: Iterable[str]) -> None:
        self._collected.update(id for id in ids if id.startswith(f"{ROOT}::"))

    @property
    def expected(self) -> int:
        """How many verdicts there will be if nothing comes in between."""
        return sum(len(job.checks) for job in self.campaign.jobs)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: Any) -> None:
        told: Told | None = getattr(report, "nvme", None)
        if told is None:
            return
        if told.run:
            if (archive := vars(report).pop("nvme_evidence", None)) is not None:
                unpack(archive, evidence_folder(self.campaign.out, told.name))
            if told.name in self._again:
                told.run.again = told.run.again or WORKER_DIED
            self._runs[told.name] = told.run
        self._verdicts.setdefault(told.name, {}).update({verdict.check: verdict for verdict in told.verdicts})

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """A worker that fails before it has collected would fail again: that ends the run."""
        if error and not self._ready and not self.unborn:
            self.unborn = f"{node.gateway.spec.ssh or 'here'}: {str(error).strip().splitlines()[-1]}"
            node.config.pluginmanager.get_plugin("dsession").shouldstop = self.unborn

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: Any, sched: Any) -> None:
        """A worker has died over a scenario: what it has said of it does not count, another one records it again, or none."""
        scope, _, _ = crashitem.rpartition("::")
        job = next((job for job in self.campaign.jobs if scope == f"{ROOT}::{job.name}"), None)
        if job is None or not isinstance(sched, WholeScenarios):
            return
        self._verdicts.pop(job.name, None)
        self._runs.pop(job.name, None)
        if sched.deaths[scope] < ATTEMPTS:
            self._again.add(job.name)
            report.outcome = AGAIN
            return
        errors = (_error(job, check, f"{WORKER_DIED}, and so did the second one") for check in job.checks)
        self._verdicts[job.name] = {e.check.id: results.VerdictEntry.model_validate(e.to_json()) for e in errors}

    def pytest_internalerror(self, excinfo: pytest.ExceptionInfo[BaseException]) -> bool | None:
        """A machine that cannot be reached is no mistake of ours."""
        if type(excinfo.value).__name__ != "HostNotFound":
            return None
        self.unborn = f"{excinfo.value}: there is no way to this machine"
        return True

    # -- the end --------------------------------------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self) -> None:
        for pid in self._workers:
            with suppress(ProcessLookupError):
                kill(pid, SIGINT)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Writes the results, partial ones too: in the order of the campaign, whichever worker was faster."""
        if session.config.getoption("collectonly", False) or not self._collected:
            return
        for job in self.campaign.jobs:
            found = self._verdicts.get(job.name, {})
            self.results.verdicts += [found[check] for check in job.checks if check in found]
            self.results.runs += [self._runs[job.name]] if job.name in self._runs else []
        missing = self.expected - len(self.results.verdicts)
        if missing:
            why = "interrupted" if exitstatus == pytest.ExitCode.INTERRUPTED else "ended early"
            self.results.unfinished = f"{why}: {missing} of {self.expected} verdicts are missing"
        self.written = results.write(self.results, self.campaign.out)
        failed = {"/".join(verdict.key[:3]) for verdict in self.results.verdicts if verdict.outcome is Outcome.ERROR}
        seconds = {name: took for name, took in costs.measured(self.results).items() if name not in failed}
        costs.remember(cache_root(self.campaign), seconds)
        sweep_all()  # what killed workers have left


class StandalonePlugin(ControllerPlugin):
    """Under the user's own pytest: prepares when the session starts, and adds the summary to pytest's."""

    def __init__(self, campaign: Campaign, out: Path | None) -> None:
        super().__init__(campaign, Checked)
        self._out = out
        self._stack = ExitStack()

    @property
    def expected(self) -> int:
        return len(self._collected)  # users select and deselect

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        if session.config.getoption("collectonly", False):
            return
        self._stack.enter_context(signals.interrupting())
        reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
        say = (lambda text: reporter.write_line(f"NVMe Lab: {text}")) if reporter else (lambda text: None)
        with _errors_of_pytest():
            equipped = equip(self.campaign, settings.load(), say)
            self.begin(replace(equipped, out=prepare_folder(self._out or default_folder(Path.cwd()))))

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: Any) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
        told: Told | None = getattr(report, "nvme", None)
        if told and report.passed and told.verdicts[0].outcome is Outcome.WARN:
            return "warned", "W", ("WARN", {"yellow": True})
        if report.outcome == AGAIN:
            return AGAIN, "A", (AGAIN.upper(), {"yellow": True})
        return None

    def pytest_unconfigure(self) -> None:
        self._stack.close()

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.written is None:
            return
        terminalreporter.section("NVMe Lab")
        terminalreporter.write_line(plain_table(self.results))
        terminalreporter.write_line(f"results: {self.written}")


def worker(carried: bytes) -> SuitePlugin:
    """What a worker registers, with the campaign that came from the controller, and its process id if it is on this machine."""
    campaign, kind, *parent = pickle.loads(carried)
    return WorkerPlugin(campaign, kind, *parent) if parent else RemotePlugin(campaign, kind)


def controller(given: Mapping[str, Any]) -> StandalonePlugin:
    """What the user's own pytest registers; ``given`` are the options by name."""
    request = Request(**{known.name: given[known.name] for known in fields(Request) if known.name in given})
    with _errors_of_pytest():
        return StandalonePlugin(plan(request), given.get("out"))


@contextmanager
def _errors_of_pytest() -> Iterator[None]:
    """Our errors as pytest ends on them: wrong usage with 4, the lab's failure with 2."""
    try:
        yield
    except UsageError as error:
        raise pytest.UsageError(str(error)) from error
    except LabError as error:
        pytest.exit(str(error), returncode=error.exit_status)
