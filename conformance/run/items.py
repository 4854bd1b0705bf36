"""The suite as pytest items: a collector is a scenario on a driver and device, recorded once and judged by all its checks.

Under the user's own pytest its items are the checks (`CheckItem`): the first one that is set up records and judges the
scenario. ``nvme-lab run`` shows no items, and an item costs more than most checks do: there a scenario has only two,
`RecordStep` and `JudgeStep`. With xdist the scenario is the unit that a worker gets. Verdicts travel on the items' reports
(`conformance.run.scheduler.ScenarioReport`) to the controlling process, which alone writes the results.

What a recording does is in `conformance.run.scenario_run`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conformance.judging.judge import Verdict, place
from conformance.run.plan import DEVICES, Campaign, Job, RunRequest
from conformance.run.scenario_report import ScenarioReport
from conformance.run.scenario_run import ScenarioRun
from conformance.suite.check import EVERY, MANDATORY, Check, Outcome
from conformance.suite.selection import CHECKS
from lab.data.manifest import PARTS, part_name

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

    scenario: ScenarioRun

    @classmethod
    def of(cls, parent: Suite, job: Job, campaign: Campaign) -> Recording:
        """Return the collector of a job."""
        made: Recording = cls.from_parent(parent, name=job.scope)
        made.scenario = ScenarioRun(job, campaign)
        return made

    @property
    def job(self) -> Job:
        """The scenario, its driver, its device and its checks."""
        return self.scenario.job

    @property
    def campaign(self) -> Campaign:
        """The campaign that it belongs to."""
        return self.scenario.campaign

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """The verdicts by check; none before it was judged."""
        return self.scenario.verdicts

    def collect(self) -> Iterator[pytest.Item]:
        """Yield one item that records and one that judges."""
        yield RecordStep.from_parent(self, name="record")
        yield JudgeStep.from_parent(self, name="judge")


class CheckedRecording(Recording):
    """One scenario whose items are its checks."""

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
            self.scenario.record()
            self.scenario.judge()
            if self.campaign.request.confirm:
                self.scenario.confirm()
        return self.verdicts[check]


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
        self.parent.scenario.record()


class JudgeStep(pytest.Item):
    """Judges the recording, and reports all verdicts at once."""

    parent: Recording

    def runtest(self) -> None:
        """Judge the recording."""
        self.parent.scenario.judge()

    def scenario_report(self, when: str) -> ScenarioReport | None:
        """Return what pytest's report of this phase carries."""
        return self.parent.scenario.report(self.parent.verdicts.values()) if when == "call" else None


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
        return self.parent.scenario.report([self.verdict])

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
        return self.parent.scenario.report([self.parent.verdicts[check] for check in self.checks])


NEW_FAILURE = 0


def _urgency(verdict: Verdict) -> int:
    """Return a sort key: a new failure first, then the lab's own, then all others."""
    if verdict.outcome is Outcome.FAIL and verdict.known is None:
        return NEW_FAILURE
    return 1 if verdict.outcome is Outcome.ERROR else 2
