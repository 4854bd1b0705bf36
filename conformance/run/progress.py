"""Progress of a run: one changing line on a terminal, one line per scenario elsewhere, events for programs.

`Progress` follows the run, `Tally` counts, displays show.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from conformance.judging.models import VerdictEntry
from conformance.run.identity import selected_parts
from conformance.run.plan import Campaign
from conformance.run.scenario_report import ScenarioReport
from conformance.suite.check import EVERY, Outcome

BAD = {Outcome.FAIL: "bold red", Outcome.ERROR: "bold magenta", Outcome.WARN: "yellow"}
ORDER = ("fail", "error", "flaky", "warn", "known", "pass")
"""Outcomes that a line counts: the rules about which one scenario says nothing are most, and tell nothing of it."""

LEAST_COST = 0.1
"""Seconds, of a scenario that is recorded at once."""


@dataclass(frozen=True)
class Finished:
    """A scenario of which all verdicts are there. ``counts`` are verdicts by outcome, known failures apart."""

    scope: str
    seconds: float
    counts: Mapping[str, int]
    retry_reason: str
    passed_elsewhere: int = 0
    """Those that passed of stages that were not selected: people need no number of them."""


class Tally:
    """Counts the scenarios that are done, being recorded and left, and estimates the remaining time."""

    def __init__(self, campaign: Campaign) -> None:
        """Count from the beginning of the campaign: nothing is done, and its time runs from now."""
        self._left = {job.scope for job in campaign.jobs}
        self._asked = {driver.name: {*selected_parts(driver, campaign.request), EVERY} for driver in campaign.drivers}
        self._costs = {job.scope: max(campaign.costs.get(job.name, 1.0), LEAST_COST) for job in campaign.jobs}
        self._since: dict[str, float] = {}
        self._began = time.monotonic()
        self.total = len(campaign.jobs)

    @property
    def done(self) -> int:
        """Return the number of finished scenarios."""
        return self.total - len(self._left)

    @property
    def now(self) -> list[str]:
        """Return the scenarios that are being recorded."""
        return list(self._since)

    def started(self, scope: str) -> bool:
        """Note the start of a scenario; return whether it is new."""
        new = scope in self._left and scope not in self._since
        if new:
            self._since[scope] = time.monotonic()
        return new

    def finished(self, report: ScenarioReport) -> Finished:
        """Note the verdicts of a scenario."""
        self._left.discard(report.scope)
        seconds = time.monotonic() - self._since.pop(report.scope, time.monotonic())
        words = Counter(v.outcome.lower() if v.known is None else "known" for v in report.verdicts)
        elsewhere = sum(v.outcome is Outcome.PASS and v.stage not in self._asked[v.driver] for v in report.verdicts)
        return Finished(report.scope, seconds, words, report.run.retry_reason if report.run else "", elsewhere)

    def lost(self, scope: str) -> bool:
        """Forget what was reported of a scenario; return whether the campaign has it."""
        self._since.pop(scope, None)
        if scope in self._costs:
            self._left.add(scope)
        return scope in self._costs

    def seconds_left(self) -> float | None:
        """Estimate the remaining seconds by expected costs and how they fitted so far; None while it is too early."""
        if self.done < min(2, self.total):
            return None
        left = sum(self._costs[scope] for scope in self._left)
        done = sum(self._costs.values()) - left
        return (time.monotonic() - self._began) / done * left


class Display(Protocol):
    """A display of a run."""

    def started(self, scope: str) -> None:
        """Show that a scenario is being recorded."""

    def judged(self, verdict: VerdictEntry, repetition: int = 0) -> None:
        """Show a verdict."""

    def finished(self, tally: Tally, scenario: Finished) -> None:
        """Show that all verdicts of a scenario are there."""

    def lost(self, scope: str) -> None:
        """Show that the worker that recorded a scenario died."""

    def changed(self, tally: Tally) -> None:
        """Show the state after any of these."""

    def stopping(self) -> None:
        """Show that the run was interrupted."""


class Progress:
    """Follows a run and passes each change on to the displays. Scenarios are named by their scopes."""

    def __init__(self, campaign: Campaign, displays: Iterable[Display]) -> None:
        """Take the campaign, and the displays that each change is passed to."""
        self._tally = Tally(campaign)
        self._displays = list(displays)

    def started(self, scope: str) -> None:
        """Note the start of a scenario."""
        if self._tally.started(scope):
            for display in self._displays:
                display.started(scope)
            self._changed()

    def reported(self, report: ScenarioReport) -> None:
        """Note the verdicts of a scenario."""
        finished = self._tally.finished(report)
        for display in self._displays:
            for verdict in report.verdicts:
                display.judged(verdict, report.repetition)
            display.finished(self._tally, finished)
        self._changed()

    def lost(self, scope: str) -> None:
        """Note that the worker that recorded a scenario died."""
        if self._tally.lost(scope):
            for display in self._displays:
                display.lost(scope)
            self._changed()

    def stopping(self) -> None:
        """Show that the run was interrupted."""
        for display in self._displays:
            display.stopping()

    def _changed(self) -> None:
        for display in self._displays:
            display.changed(self._tally)


class Lines:
    """For people: a changing line on a terminal, where only what needs a look stays; elsewhere a line a scenario."""

    def __init__(self, console: Console) -> None:
        """Print to a console; only a terminal gets the changing line."""
        self._console = console
        self._stack = ExitStack()
        self._spinner: Spinner | None = None

    def __enter__(self) -> Lines:
        if self._console.is_terminal:
            self._spinner = Spinner("dots", Text("starting"))
            self._stack.enter_context(Live(self._spinner, console=self._console, transient=True, refresh_per_second=8))
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def started(self, scope: str) -> None:
        """Show nothing: the changing line does."""

    def judged(self, verdict: VerdictEntry, repetition: int = 0) -> None:
        """Show nothing: the end of the scenario does."""

    def finished(self, tally: Tally, scenario: Finished) -> None:
        """Print a line about a scenario; on a terminal only if it needs attention."""
        bad = next((colour for outcome, colour in BAD.items() if scenario.counts.get(outcome.lower())), "")
        if self._spinner and not bad and not scenario.retry_reason:
            return
        counts = Counter(scenario.counts) - Counter({"pass": scenario.passed_elsewhere})
        said = ", ".join(f"{counts[word]} {word}" for word in ORDER if counts[word])
        said = said or ("nothing broken" if scenario.passed_elsewhere else "nothing judged")
        said = "lab error" if set(counts) == {"error"} else said
        retried = " again: the lab failed at the first attempt" if scenario.retry_reason else ""
        width = len(str(tally.total))
        place = f"[{tally.done:{width}}/{tally.total}]"
        self._console.print(Text(f"{place} {scenario.scope}  {said}  ({scenario.seconds:.1f} s{retried})", style=bad))

    def lost(self, scope: str) -> None:
        """Print that a worker died."""
        self._console.print(Text(f"{scope}: its worker died", style="bold magenta"))

    def changed(self, tally: Tally) -> None:
        """Update the changing line."""
        if self._spinner is None:
            return
        left = tally.seconds_left()
        about = "" if left is None else f"about {left:.0f} s left"
        now = ", ".join(tally.now) or "…"
        self._spinner.update(text=Text(f"{tally.done} of {tally.total}  {about}  {now}", overflow="ellipsis", no_wrap=True))

    def stopping(self) -> None:
        """Print that the run stops."""
        self._console.print("Stopping: guests are being ended, what was judged is kept.")
