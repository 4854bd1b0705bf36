"""What is seen while a run lasts: one changing line on a terminal, one line a scenario elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest
from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from conformance.campaign import Campaign
from conformance.check import Outcome

BAD = {Outcome.FAIL: "bold red", Outcome.ERROR: "bold magenta", Outcome.WARN: "yellow"}


LEAST_COST = 0.1
"""Seconds, of a scenario that is recorded at once."""


class Progress:
    """A pytest plugin of the controlling process: follows the items, counts scenarios."""

    def __init__(self, campaign: Campaign, console: Console) -> None:
        self._console = console
        self._checks = {job.name: len(job.checks) for job in campaign.jobs}
        self._left = dict(self._checks)
        self._costs = {job.name: max(campaign.costs.get(job.name, 1.0), LEAST_COST) for job in campaign.jobs}
        self._total = len(campaign.jobs)
        self._done = 0
        self._now: dict[str, float] = {}  # the scenarios that are being recorded, and since when
        self._counts: dict[str, dict[str, int]] = {}
        self._began = time.monotonic()
        self._live: Live | None = None
        if console.is_terminal:
            self._spinner = Spinner("dots", Text(""))
            self._live = Live(self._spinner, console=console, transient=True, refresh_per_second=8)

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            self._live.stop()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._now.setdefault(_job(nodeid), time.monotonic())
        self._show()

    def pytest_runtest_logreport(self, report: Any) -> None:
        found: Mapping[str, Any] | None = getattr(report, "nvme", None)
        if found is None:
            return
        name, verdict = _job(report.nodeid), found["verdict"]
        counts = self._counts.setdefault(name, {})
        word = "known" if verdict["known"] is not None else verdict["outcome"].lower()
        counts[word] = counts.get(word, 0) + 1
        self._left[name] -= 1
        if self._left[name] == 0:
            self._done += 1
            again = " again: the lab failed at the first attempt" if found["run"] and found["run"]["again"] else ""
            self._finished(name, time.monotonic() - self._now.pop(name, time.monotonic()), again)
        self._show()

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str) -> None:
        """Its worker has died: what it has said of the scenario does not count."""
        name = _job(crashitem)
        if name in self._left:
            self._console.print(Text(f"{name}: its worker died", style="bold magenta"))
            self._left[name] = self._checks[name]
            self._counts.pop(name, None)

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self) -> None:
        self._console.print("Stopping: guests are being ended, what was judged is kept.")

    def _finished(self, name: str, seconds: float, again: str) -> None:
        counts = self._counts.pop(name)
        bad = next((colour for outcome, colour in BAD.items() if counts.get(outcome.lower())), "")
        if self._live and not bad and not again:
            return  # on a terminal only what needs a look stays
        order = ("fail", "error", "warn", "known", "pass", "inconclusive", "unsupported")
        said = ", ".join(f"{counts[word]} {word}" for word in order if word in counts)
        width = len(str(self._total))
        self._console.print(Text(f"[{self._done:{width}}/{self._total}] {name}  {said}  ({seconds:.1f} s{again})", style=bad))

    def _show(self) -> None:
        if self._live is None:
            return
        now = ", ".join(name for name, left in self._left.items() if name in self._now and left) or "…"
        self._spinner.update(text=Text(f"{self._done} of {self._total}  {now}  {self._time_left()}", overflow="ellipsis"))

    def _time_left(self) -> str:
        """By what the scenarios that are left were expected to cost, and how that has fitted so far."""
        if self._done < 2:
            return ""
        left = sum(self._costs[name] for name, checks in self._left.items() if checks)
        done = sum(self._costs.values()) - left
        return f"about {(time.monotonic() - self._began) / done * left:.0f} s left"


def _job(nodeid: str) -> str:
    return nodeid.split("::")[1]
