"""The suite as pytest items: a collector is a scenario on a driver and device, recorded once and judged by all its checks.

Under the user's own pytest its items are the checks (`CheckItem`): the first one that is set up records and judges the
scenario. ``nvme-lab run`` shows no items, and an item costs more than most checks do: there a scenario has only two,
`RecordStep` and `JudgeStep`. With xdist the scenario is the unit that a worker gets. Verdicts travel on the items' reports
(`conformance.run.scheduler.ScenarioReport`) to the controlling process, which alone writes the results.

Where the lab fails (a guest was killed, a worker died) the scenario is recorded once more, and its results say so.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

import lab.recording.record
from conformance.judging.flaky import settle
from conformance.judging.judge import Verdict, judge, place
from conformance.judging.models import Occurrence, RunEntry, VerdictEntry
from conformance.record.record import Record
from conformance.run.folders import CONFIRMATION, evidence_folder
from conformance.run.plan import DEVICES, Campaign, Job, RunRequest
from conformance.run.scheduler import ScenarioReport
from conformance.run.unready import UnreadyGuests
from conformance.suite.check import EVERY, MANDATORY, Check, Outcome
from conformance.suite.measure import measurements
from conformance.suite.selection import CHECKS
from lab.data.backtrace import read_backtraces
from lab.data.evidence import Evidence
from lab.data.machine import TOO_SLOW
from lab.data.manifest import PARTS, part_name
from lab.errors import LabError, UsageError
from lab.recording.stopping import EVENTS, Judge
from lab.toolchain.cache import HEALED

LOG = logging.getLogger(__name__)

PACKAGE = Path(__file__).parents[1]
ROOT = "conformance"
"""The first part of every item's node id."""
SHOWN_VIOLATIONS = 3
OTHER_STAGES = "other-stages"
"""The name of the item that holds the rules of all stages that were not selected."""
LEVELS = {"M": "mandatory", "R": "recommended", "O": "optional"}
"""Markers by the level of a check."""
MARKERS: dict[str, str] = {
    **{level: f"NVMe checks that are {level}" for level in LEVELS.values()},
    **{part: f"NVMe checks of {part_name(part)}" for part in PARTS},
    **{str(device): f"NVMe scenarios recorded in front of the device {device}" for device in DEVICES},
    EVERY: "NVMe checks of every stage",
}
"""What ``-m`` takes, and what it selects."""


class ConformanceWarning(pytest.PytestWarning):
    """A recommended or optional rule was not met."""


class CheckFailedError(Exception):
    """The driver broke a rule; carries the finding as text."""


class LabFailedError(Exception):
    """The lab could not judge: its own failure."""


class Explained:
    """The text of a failure, as pytest shows it. ``reprcrash`` is where pytest looks for the reason of its short summary."""

    def __init__(self, text: str) -> None:
        """Take the whole text."""
        self.text = text

    def __str__(self) -> str:
        return self.text

    def toterminal(self, writer: Any) -> None:
        """Write the text to pytest's terminal."""
        writer.line(self.text)

    @property
    def reprcrash(self) -> Explained:
        """Return what holds the message."""
        return self

    @property
    def message(self) -> str:
        """Return the reason in a line: what was expected and what came, or else the first line."""
        lines = [line.strip() for line in self.text.splitlines()]
        sides = [line.split(maxsplit=1)[1] for line in lines if line.startswith(("expected ", "actual "))][:2]
        return f"expected {sides[0]}, actual {sides[1]}" if len(sides) == 2 else next(iter(lines), "")


def other_checks(job: Job, request: RunRequest) -> tuple[str, ...]:
    """Return the checks of a job that belong to no selected stage or profile; none where no stage was selected."""
    asked = {*request.stages, *request.profiles}
    return tuple(check for check in job.checks if asked and CHECKS[check].stage not in {*asked, EVERY})


class Suite(pytest.Directory):
    """The package's folder, collected as the campaign's jobs."""

    campaign: Campaign
    kind: type[Recording]

    def collect(self) -> Iterator[pytest.Collector]:
        """Yield the jobs in the order in which they start."""
        for job in self.campaign.in_rounds:
            yield self.kind.of(self, job, self.campaign)


class Recording(pytest.Collector):
    """One scenario on one driver and device.

    It is judged in an item of its own: xdist hands its worker the next scenario meanwhile.
    """

    job: Job
    campaign: Campaign

    evidence: Evidence
    verdicts: dict[str, Verdict]
    run: RunEntry | None
    made_of: Sequence[Path] = ()
    """What of the cache the guest of the evidence was made of."""

    @classmethod
    def of(cls, parent: Suite, job: Job, campaign: Campaign) -> Recording:
        """Return the collector of a job."""
        made: Recording = cls.from_parent(parent, name=job.name)
        made.job, made.campaign = job, campaign
        made.verdicts, made.run = {}, None
        return made

    def collect(self) -> Iterator[pytest.Item]:
        """Yield one item that records and one that judges."""
        yield RecordStep.from_parent(self, name="record")
        yield JudgeStep.from_parent(self, name="judge")

    def record(self) -> None:
        """Record the evidence."""
        LOG.info("record %s", self.job.name)
        with self._lab_errors_as_verdicts():
            self._take(*self._record_with_retry())

    def _take(self, evidence: Evidence, retry_reason: str) -> None:
        """Take this evidence for the one to judge; ``retry_reason`` says why an earlier one does not count."""
        if retry_reason:
            LOG.info("%s was recorded again: %s", self.job.name, retry_reason)
        self.evidence = evidence
        self.run = RunEntry(
            driver=self.job.driver.name,
            device=self.job.device,
            scenario=self.job.scenario.id,
            stage=self.job.scenario.stage,
            evidence=str(evidence.folder.relative_to(self.campaign.out)),
            seconds=evidence.end.seconds if evidence.end else 0.0,
            build=evidence.end.build if evidence.end else "",
            retry_reason=retry_reason,
            measurements=measurements(evidence),
            stops=[line for stop in read_backtraces(evidence.folder) for line in stop.lines()],
        )

    def judge(self) -> None:
        """Judge the evidence, unless recording it has failed and the verdicts say so already.

        Where a failure need not be the driver's, since the machine was too slow or the cache was damaged, the scenario is
        recorded once more, alone.
        """
        if not self.verdicts:
            with self._lab_errors_as_verdicts():
                verdicts = self._judged()
                if why := self._excuse(verdicts):
                    self._take(self._record_once(alone=True), why)
                    verdicts = self._judged()
                    if damage := self._damage(verdicts):
                        raise LabError(damage, remedy=HEALED)
                self.verdicts = {verdict.check.id: verdict for verdict in verdicts}

    def _judged(self) -> list[Verdict]:
        return judge(self.evidence, [CHECKS[check] for check in self.job.checks])

    def _excuse(self, verdicts: Iterable[Verdict]) -> str:
        """Return why a failure need not be the driver's; "" if nothing speaks for that."""
        slow = (verdict.reason for verdict in verdicts if verdict.reason.startswith(TOO_SLOW))
        return next(slow, "") or self._damage(verdicts)

    def _damage(self, verdicts: Iterable[Verdict]) -> str:
        """Return what was damaged of all that the guest was made of, which is asked before a driver is blamed anew."""
        cache = self.campaign.toolchain.cache
        if cache is None or not any(verdict.outcome is Outcome.FAIL and verdict.known is None for verdict in verdicts):
            return ""
        damage = cache.heal(self.made_of, trust_times=True)
        return f"the cache was damaged: {'; '.join(damage)}" if damage else ""

    @contextmanager
    def _lab_errors_as_verdicts(self) -> Iterator[None]:
        """Turn any error into ERROR verdicts of all checks; raise it again if it is a mistake in the lab."""
        try:
            yield
        except Exception as error:
            reason = str(error) if isinstance(error, LabError) else f"{type(error).__name__}: {error}"
            self.verdicts = {check: error_verdict(self.job, check, reason) for check in self.job.checks}
            if not isinstance(error, LabError):
                raise

    def _record_with_retry(self) -> tuple[Evidence, str]:
        """Record once, and once more if the lab fails. Return the evidence and why the first attempt failed ("" if not).

        LabError if a guest of this driver did not come to it (`conformance.run.unready`).
        """
        unready = UnreadyGuests(self.campaign.out, self.job.driver.name)
        if why := unready.why_not():
            raise LabError(why)
        try:
            evidence = self._record_once()
            unready.note(self.job.scenario.id, evidence.end)
            if evidence.end is None or evidence.end.outcome != "lab-error" or unready.is_unready(evidence.end):
                return evidence, ""
            failure = evidence.end.reason
        except UsageError:
            raise
        except LabError as error:
            failure = str(error)
        return self._record_once(alone=True), failure

    def _record_once(self, *, alone: bool = False, out: Path | None = None) -> Evidence:
        """Record into the folder of results, or below ``out``."""
        job = self.job
        folder = evidence_folder(out or self.campaign.out, job.name)
        lab.recording.record.record(
            job.driver,
            job.scenario,
            job.device,
            folder,
            toolchain=self.campaign.toolchain,
            alone=alone,
            coverage=self.campaign.request.coverage,
            stop_at=self.campaign.request.stop_at,
            stop_when=stop_judge(self.campaign.request.stop_at),
            made_of=self._note_sources,
        )
        return Evidence(folder)

    def _note_sources(self, made_of: Sequence[Path]) -> None:
        self.made_of = made_of

    def report(self, verdicts: Iterable[Verdict]) -> ScenarioReport:
        """Return these verdicts for the controlling process, the first time with the recording itself."""
        run, self.run = self.run, None
        return ScenarioReport(run=run, verdicts=[VerdictEntry.model_validate(verdict.to_json()) for verdict in verdicts])


class CheckedRecording(Recording):
    """One scenario whose items are its checks."""

    _occurrences: Mapping[str, Sequence[Occurrence]] = MappingProxyType({})
    """Of checks whose failure was confirmed or refuted by a fresh recording: the outcomes of both."""

    def collect(self) -> Iterator[pytest.Item]:
        """Yield an item for each check of a selected stage, and one for the rules of all other stages together."""
        others = other_checks(self.job, self.campaign.request)
        for check in self.job.checks:
            if check not in others and self._is_wanted(check):
                yield _marked(CheckItem.from_parent(self, name=check), self.job, CHECKS[check])
        if others and self._is_wanted(OTHER_STAGES):
            item = OtherStagesItem.from_parent(self, name=OTHER_STAGES)
            item.checks = others
            yield item

    def _is_wanted(self, name: str) -> bool:
        """Return whether an item was asked for by its id, or no item was."""
        ids = self.campaign.request.ids
        return not ids or f"{ROOT}::{self.job.name}::{name}" in ids or f"{ROOT}::{self.job.name}" in ids

    def verdict(self, check: str) -> Verdict:
        """Return the verdict of a check. The first call records the scenario and judges it."""
        if not self.verdicts:
            self.record()
            self.judge()
            if self.campaign.request.confirm:
                self._confirm()
        return self.verdicts[check]

    def _confirm(self) -> None:
        """Record once more where something failed in a new way: a failure that does not come back is FLAKY."""
        failed = [v for v in self.verdicts.values() if v.outcome is Outcome.FAIL and v.known is None]
        if not failed:
            return
        fresh = self._record_once(alone=True, out=self.campaign.out / CONFIRMATION)
        again = {verdict.check.id: verdict.outcome for verdict in judge(fresh, [CHECKS[check] for check in self.job.checks])}
        folders = [str(one.folder.relative_to(self.campaign.out)) for one in (self.evidence, fresh)]
        self._occurrences = {}
        for verdict in failed:
            outcomes = (verdict.outcome, again[verdict.check.id])
            found = [Occurrence(outcome=one, evidence=folder) for one, folder in zip(outcomes, folders, strict=True)]
            entry = VerdictEntry.model_validate(verdict.to_json())
            settle(entry, found)
            self._occurrences = {**self._occurrences, verdict.check.id: found}
            self.verdicts[verdict.check.id] = replace(verdict, outcome=entry.outcome, reason=entry.reason)

    def report(self, verdicts: Iterable[Verdict]) -> ScenarioReport:
        """Return these verdicts, with the outcomes of both recordings where there were two."""
        made = super().report(verdicts)
        for entry in made.verdicts:
            entry.occurrences = list(self._occurrences.get(entry.check, ()))
        return made


def stop_judge(stop_at: str) -> Judge | None:
    """Return what looks for the first violation of a check in unfinished evidence; None for events of the recording itself."""
    if stop_at in ("", *EVENTS):
        return None
    wanted = CHECKS[stop_at]

    def violated(folder: Path) -> str:
        try:
            finding = next((one for one in wanted.find(Record(Evidence(folder))) if not one.ok), None)
        except LabError:
            return ""  # what is there is not whole yet
        return f"{stop_at}: expected {finding.expected}, actual {finding.actual}" if finding else ""

    return violated


def error_verdict(job: Job, check: str, reason: str) -> Verdict:
    """Return the ERROR verdict of a check that the lab could not judge."""
    return Verdict(job.driver.name, job.device, job.scenario.id, CHECKS[check], Outcome.ERROR, reason=reason)


def _marked(item: CheckItem, job: Job, check: Check) -> CheckItem:
    """Return the item with the markers of its check: -m mandatory, -m "read and lab"."""
    for marker in (LEVELS[check.level], check.stage, job.device):
        item.add_marker(marker)
    return item


class RecordStep(pytest.Item):
    """Records its scenario."""

    parent: Recording

    def runtest(self) -> None:
        """Record the scenario."""
        self.parent.record()


class JudgeStep(pytest.Item):
    """Judges the recording, and reports all verdicts at once."""

    parent: Recording

    def runtest(self) -> None:
        """Judge the recording."""
        self.parent.judge()

    def scenario_report(self, when: str) -> ScenarioReport | None:
        """Return what pytest's report of this phase carries."""
        return self.parent.report(self.parent.verdicts.values()) if when == "call" else None


class CheckItem(pytest.Item):
    """One check of one recording, which passes, fails or is skipped as its verdict says."""

    parent: CheckedRecording
    verdict: Verdict | None = None

    def setup(self) -> None:
        """Get the verdict; the first check of a scenario records it."""
        try:
            verdict = self.parent.verdict(self.name)
        finally:
            self.verdict = self.parent.verdicts.get(self.name)
        if verdict.outcome is Outcome.ERROR:
            raise LabFailedError(verdict.reason)

    def runtest(self) -> None:
        """Raise, warn or skip as the verdict says."""
        assert self.verdict is not None
        verdict, strict = self.verdict, self.parent.campaign.request.strict
        match verdict.outcome:
            case Outcome.FAIL:
                if verdict.known is not None:
                    pytest.xfail(verdict.known)
                raise CheckFailedError(self._explanation())
            case Outcome.WARN | Outcome.FLAKY if strict:
                raise CheckFailedError(self._explanation())
            case Outcome.FLAKY:
                warnings.warn(ConformanceWarning(f"flaky: {verdict.reason}\n{self._explanation()}"), stacklevel=1)
            case Outcome.WARN:
                warnings.warn(ConformanceWarning(self._explanation()), stacklevel=1)
            case Outcome.INCONCLUSIVE if strict and verdict.check.level == MANDATORY and not verdict.unused:
                raise CheckFailedError(f"{verdict.check.statement}\n  --strict: mandatory and not proven: {verdict.reason}")
            case Outcome.UNSUPPORTED | Outcome.INCONCLUSIVE:
                pytest.skip(f"{verdict.outcome}: {verdict.reason}")

    def _explanation(self) -> str:
        assert self.verdict is not None
        verdict, check = self.verdict, self.verdict.check
        lines = [f"{check.statement} ({check.cite})"]
        violations = [finding for finding in verdict.findings if not finding.ok]
        for finding in violations[:SHOWN_VIOLATIONS]:
            where = verdict.evidence / place(finding.event) if finding.event else verdict.evidence
            lines += [f"  expected {finding.expected}", f"  actual   {finding.actual}", f"  evidence {where}"]
            if finding is violations[0]:
                lines += [f"  device   {verdict.seen}"] if verdict.seen else []
                lines += [f"  wire     {row}" for row in verdict.wire]
        if len(violations) > SHOWN_VIOLATIONS:
            lines.append(f"  and {len(violations) - SHOWN_VIOLATIONS} more")
        lines.append(f"  next     nvme-lab explain {check.id}")
        return "\n".join(lines)

    def scenario_report(self, when: str) -> ScenarioReport | None:
        """Return what pytest's report of this phase carries."""
        if self.verdict is None or when != ("setup" if self.verdict.outcome is Outcome.ERROR else "call"):
            return None
        return self.parent.report([self.verdict])

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return the explanation of a failure, without a traceback; pytest's short summary shows its reason."""
        if isinstance(excinfo.value, CheckFailedError | LabFailedError):
            return Explained(str(excinfo.value))
        if isinstance(excinfo.value, pytest.xfail.Exception):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Return the place and the name that pytest shows."""
        return self.path, None, f"{self.parent.name} {self.name}"


class OtherStagesItem(CheckItem):
    """The rules of all stages that were not selected, which hold all the same: it fails where one of them is broken."""

    checks: tuple[str, ...] = ()

    def setup(self) -> None:
        """Get the verdicts, and keep the one that speaks for all: a failure of the driver's, if there is one."""
        self.parent.verdict(self.checks[0])
        found = [self.parent.verdicts[check] for check in self.checks]
        self.verdict = min(found, key=_urgency)
        if self.verdict.outcome is Outcome.ERROR:
            raise LabFailedError(self.verdict.reason)

    def runtest(self) -> None:
        """Fail where the driver broke a rule of another stage that its manifest does not know."""
        assert self.verdict is not None
        if _urgency(self.verdict) == NEW_FAILURE:
            raise CheckFailedError(self._explanation())

    def scenario_report(self, when: str) -> ScenarioReport | None:
        """Return the verdicts of all these checks."""
        if self.verdict is None or when != ("setup" if self.verdict.outcome is Outcome.ERROR else "call"):
            return None
        return self.parent.report([self.parent.verdicts[check] for check in self.checks])


NEW_FAILURE = 0


def _urgency(verdict: Verdict) -> int:
    """Return a sort key: a new failure first, then the lab's own, then all others."""
    if verdict.outcome is Outcome.FAIL and verdict.known is None:
        return NEW_FAILURE
    return 1 if verdict.outcome is Outcome.ERROR else 2
