"""One scenario on one driver and device: recorded, recorded once more where the lab fails, and judged.

Where the lab fails (a guest was killed, the machine was too slow) the scenario is recorded once more, and its results say so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import lab.recording.record
from conformance.judging.flaky import is_new_failure, settle
from conformance.judging.judge import Verdict, judge
from conformance.judging.models import Occurrence, RunEntry, VerdictEntry
from conformance.judging.slowness import gave_up
from conformance.record.record import Record
from conformance.run.folders import CONFIRMATION, evidence_folder
from conformance.run.plan import Campaign, Job
from conformance.run.scenario_report import ScenarioReport
from conformance.run.unready import UnreadyGuests
from conformance.suite.check import Outcome
from conformance.suite.measure import measurements
from conformance.suite.selection import CHECKS
from lab.data.backtrace import read_backtraces
from lab.data.evidence import Evidence
from lab.data.machine import TOO_SLOW
from lab.errors import LabError, UsageError
from lab.recording.stopping import EVENTS, Judge
from lab.toolchain.cache import HEALED

LOG = logging.getLogger(__name__)


class ScenarioRun:
    """A job of a campaign while it is recorded and judged: `record`, `judge`, `report`."""

    def __init__(self, job: Job, campaign: Campaign) -> None:
        """Take the job; nothing is recorded yet."""
        self.job, self.campaign = job, campaign
        self.verdicts: dict[str, Verdict] = {}
        """By check; none before it was judged, or recording it has failed."""
        self.evidence: Evidence
        self._entry: RunEntry | None = None  # until it was reported
        self._made_of: Sequence[Path] = ()  # what of the cache the guest of the evidence was made of
        self._occurrences: dict[str, list[Occurrence]] = {}
        """Of checks whose failure was confirmed or refuted by a fresh recording: the outcomes of both."""
        self._out = campaign.folder_of(job.repetition)

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
        self._entry = RunEntry(
            driver=self.job.driver.name,
            device=self.job.device,
            scenario=self.job.scenario.id,
            stage=self.job.scenario.stage,
            evidence=str(evidence.folder.relative_to(self._out)),
            seconds=evidence.end.seconds if evidence.end else 0.0,
            build=evidence.end.build if evidence.end else "",
            retry_reason=retry_reason,
            measurements=measurements(evidence),
            stops=[line for stop in read_backtraces(evidence.folder) for line in stop.lines()],
        )

    def judge(self) -> None:
        """Judge the evidence, unless recording it has failed and the verdicts say so already.

        Where a failure, or what the driver left undone, need not be its own, since the machine was too slow or the cache was
        damaged, the scenario is recorded once more, alone.
        """
        if not self.verdicts:
            with self._lab_errors_as_verdicts():
                verdicts = self._judged(self.evidence)
                if why := self._excuse(verdicts):
                    self._take(self._record_once(alone=True), why)
                    verdicts = self._judged(self.evidence)
                    if damage := self._damage(verdicts):
                        raise LabError(damage, remedy=HEALED)
                    if slow := gave_up(self.evidence):
                        raise LabError(slow)
                self.verdicts = {verdict.check.id: verdict for verdict in verdicts}

    def confirm(self) -> None:
        """Record once more where something failed in a new way: a failure that does not come back is FLAKY."""
        strict = self.campaign.request.strict
        failed = [verdict for verdict in self.verdicts.values() if is_new_failure(verdict, strict)]
        if not failed:
            return
        fresh = self._record_once(alone=True, out=self._out / CONFIRMATION)
        again = {verdict.check.id: verdict.outcome for verdict in self._judged(fresh)}
        folders = [str(one.folder.relative_to(self._out)) for one in (self.evidence, fresh)]
        for verdict in failed:
            outcomes = (verdict.outcome, again[verdict.check.id])
            found = [Occurrence(outcome=one, evidence=folder) for one, folder in zip(outcomes, folders, strict=True)]
            entry = VerdictEntry.model_validate(verdict.to_json())
            settle(entry, found, strict)
            self._occurrences[verdict.check.id] = found
            self.verdicts[verdict.check.id] = replace(verdict, outcome=entry.outcome, reason=entry.reason)

    def _judged(self, evidence: Evidence) -> list[Verdict]:
        return judge(evidence, [CHECKS[check] for check in self.job.checks])

    def _excuse(self, verdicts: Iterable[Verdict]) -> str:
        """Return why what went wrong need not be the driver's doing; "" if nothing speaks for that."""
        slow = (verdict.reason for verdict in verdicts if verdict.reason.startswith(TOO_SLOW))
        return next(slow, "") or gave_up(self.evidence) or self._damage(verdicts)

    def _damage(self, verdicts: Iterable[Verdict]) -> str:
        """Return what was damaged of all that the guest was made of, which is asked before a driver is blamed anew."""
        cache = self.campaign.toolchain.cache
        if cache is None or not any(verdict.outcome is Outcome.FAIL and verdict.known is None for verdict in verdicts):
            return ""
        damage = cache.heal(self._made_of, trust_times=True)
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
        with unready.turn() as reached:
            if why := unready.why_not():
                raise LabError(why)
            try:
                evidence = self._record_once(reached=reached)
                unready.note(self.job.scenario.id, evidence.end)
                if evidence.end is None or evidence.end.outcome != "lab-error" or unready.is_unready(evidence.end):
                    return evidence, ""
                failure = evidence.end.reason
            except UsageError:
                raise
            except LabError as error:
                failure = str(error)
        return self._record_once(alone=True), failure

    def _record_once(
        self, *, alone: bool = False, out: Path | None = None, reached: Callable[[], None] = lambda: None
    ) -> Evidence:
        """Record into the folder of results, or below ``out``; ``reached`` is called once the driver has been loaded."""
        job = self.job
        folder = evidence_folder(out or self._out, job.name)
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
            loaded=reached,
        )
        return Evidence(folder)

    def _note_sources(self, made_of: Sequence[Path]) -> None:
        self._made_of = made_of

    def report(self, verdicts: Iterable[Verdict]) -> ScenarioReport:
        """Return these verdicts for the controlling process, the first time with the recording itself."""
        entry, self._entry = self._entry, None
        judged = [VerdictEntry.model_validate(verdict.to_json()) for verdict in verdicts]
        for verdict_entry in judged:
            verdict_entry.occurrences = list(self._occurrences.get(verdict_entry.check, ()))
        return ScenarioReport(run=entry, verdicts=judged, repetition=self.job.repetition)


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
