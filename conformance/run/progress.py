"""What is seen while a run lasts: one changing line on a terminal, one line a scenario elsewhere, events for programs.

`Progress` is the pytest plugin that follows the items; a `Tally` is what it knows; displays show it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

import pytest
from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from conformance.judging.models import VerdictEntry
from conformance.run.plan import Campaign
from conformance.run.scheduler import ScenarioReport
from conformance.suite.check import Outcome

BAD = {Outcome.FAIL: "bold red", Outcome.ERROR: "bold magenta", Outcome.WARN: "yellow"}
ORDER = ("fail", "error", "warn", "known", "pass", "inconclusive", "unsupported")

LEAST_COST = 0.1
"""Seconds, of a scenario that is recorded at once."""


@dataclass(frozen=True)
class Finished:
    """A scenario of which all verdicts are there. ``counts`` are verdicts by outcome, known failures apart."""

    name: str
    seconds: float
    counts: Mapping[str, int]
    again: str


class Tally:
    """Which scenarios are done, being recorded and left, and how long that will take."""

    def __init__(self, campaign: Campaign) -> None:
        self._left = {job.name for job in campaign.jobs}
        self._costs = {job.name: max(campaign.costs.get(job.name, 1.0), LEAST_COST) for job in campaign.jobs}
        self._since: dict[str, float] = {}
        self._began = time.monotonic()
        self.total = len(campaign.jobs)

    @property
    def done(self) -> int:
        return self.total - len(self._left)

    @property
    def now(self) -> list[str]:
        """The scenarios that are being recorded."""
        return list(self._since)

    def started(self, name: str) -> bool:
        """Notes a scenario; whether it is a new one."""
        new = name in self._left and name not in self._since
        if new:
            self._since[name] = time.monotonic()
        return new

    def finished(self, report: ScenarioReport) -> Finished:
        """Notes the verdicts of a scenario."""
        self._left.discard(report.name)
        seconds = time.monotonic() - self._since.pop(report.name, time.monotonic())
        words = (v.outcome.lower() if v.known is None else "known" for v in report.verdicts)
        return Finished(report.name, seconds, Counter(words), report.run.retry_reason if report.run else "")

    def lost(self, name: str) -> bool:
        """What was said of a scenario does not count; whether there is such a one."""
        self._since.pop(name, None)
        if name in self._costs:
            self._left.add(name)
        return name in self._costs

    def seconds_left(self) -> float | None:
        """By what the scenarios that are left were expected to cost, and how that has fitted so far; None: too early to say."""
        if self.done < min(2, self.total):
            return None
        left = sum(self._costs[name] for name in self._left)
        done = sum(self._costs.values()) - left
        return (time.monotonic() - self._began) / done * left


class Display(Protocol):
    """Shows a run to somebody."""

    def started(self, name: str) -> None: ...

    def judged(self, verdict: VerdictEntry) -> None: ...

    def finished(self, tally: Tally, scenario: Finished) -> None: ...

    def lost(self, name: str) -> None:
        """The worker that recorded it has died."""

    def changed(self, tally: Tally) -> None:
        """After any of these."""

    def stopping(self) -> None: ...


class Progress:
    """A pytest plugin of the controlling process: follows the items, counts scenarios."""

    def __init__(self, campaign: Campaign, displays: Iterable[Display]) -> None:
        self._tally = Tally(campaign)
        self._displays = list(displays)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        name = _job(nodeid)
        if self._tally.started(name):
            for display in self._displays:
                display.started(name)
            self._changed()

    def pytest_runtest_logreport(self, report: Any) -> None:
        scenario_report: ScenarioReport | None = getattr(report, "nvme", None)
        if scenario_report is None:
            return
        finished = self._tally.finished(scenario_report)
        for display in self._displays:
            for verdict in scenario_report.verdicts:
                display.judged(verdict)
            display.finished(self._tally, finished)
        self._changed()

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str) -> None:
        name = _job(crashitem)
        if self._tally.lost(name):
            for display in self._displays:
                display.lost(name)
            self._changed()

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self) -> None:
        for display in self._displays:
            display.stopping()

    def _changed(self) -> None:
        for display in self._displays:
            display.changed(self._tally)


class Lines:
    """For people: a changing line on a terminal, where only what needs a look stays; elsewhere a line a scenario."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._stack = ExitStack()
        self._spinner: Spinner | None = None

    def __enter__(self) -> Lines:
        if self._console.is_terminal:
            self._spinner = Spinner("dots", Text(""))
            self._stack.enter_context(Live(self._spinner, console=self._console, transient=True, refresh_per_second=8))
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def started(self, name: str) -> None: ...

    def judged(self, verdict: VerdictEntry) -> None: ...

    def finished(self, tally: Tally, scenario: Finished) -> None:
        bad = next((colour for outcome, colour in BAD.items() if scenario.counts.get(outcome.lower())), "")
        if self._spinner and not bad and not scenario.again:
            return
        said = ", ".join(f"{scenario.counts[word]} {word}" for word in ORDER if word in scenario.counts)
        again = " again: the lab failed at the first attempt" if scenario.again else ""
        width = len(str(tally.total))
        place = f"[{tally.done:{width}}/{tally.total}]"
        self._console.print(Text(f"{place} {scenario.name}  {said}  ({scenario.seconds:.1f} s{again})", style=bad))

    def lost(self, name: str) -> None:
        self._console.print(Text(f"{name}: its worker died", style="bold magenta"))

    def changed(self, tally: Tally) -> None:
        if self._spinner is None:
            return
        left = tally.seconds_left()
        about = "" if left is None else f"about {left:.0f} s left"
        now = ", ".join(tally.now) or "…"
        self._spinner.update(text=Text(f"{tally.done} of {tally.total}  {about}  {now}", overflow="ellipsis", no_wrap=True))

    def stopping(self) -> None:
        self._console.print("Stopping: guests are being ended, what was judged is kept.")


def _job(nodeid: str) -> str:
    return nodeid.split("::")[1]
