"""What a sweep found, for people; and its progress, a line on a terminal or lines in a log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.text import Text

from conformance.discovery.groups import Group
from conformance.discovery.sweep import SweepReport
from conformance.run.folders import shown

SHOWN_CASES = 3
LINE_SECONDS = 10.0
"""Between two lines of progress where there is no terminal."""


def duration(seconds: float) -> str:
    """Return a time in words."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


class Lines:
    """Progress of a sweep: how many trials, how many groups of failures, how long yet."""

    def __init__(self, console: Console) -> None:
        """Show it on this console."""
        self._console, self._began, self._last = console, time.monotonic(), 0.0
        self._total = self._done = self._before = 0
        self._groups = 0

    def began(self, total: int, done: int) -> None:
        """Begin with so many trials, of which some are done."""
        self._total, self._done, self._before = total, done, done
        self._began = time.monotonic()
        kept = f", {done} of them done before" if done else ""
        self._console.print(f"{total} faults{kept}")

    def tried(self, count: int) -> None:
        """Count trials."""
        self._done += count
        now = time.monotonic()
        if now - self._last >= (1.0 if self._console.is_terminal else LINE_SECONDS):
            self._last = now
            left = (now - self._began) / max(self._done - self._before, 1) * (self._total - self._done)
            groups = f", kinds of failures: {self._groups}" if self._groups else ""
            line = f"[{self._done}/{self._total}]{groups}, {duration(left)} left"
            self._console.print(line, end="\r" if self._console.is_terminal else "\n", style="dim", highlight=False)

    def found(self, group: Group) -> None:
        """Show a new kind of failure."""
        self._groups += 1
        self._console.print(_head(group))
        self._console.print(Text(f"      {group.cases[0]}", style="dim"))


def text(report: SweepReport, out: Path) -> Iterator[Text]:
    """Yield the lines of a report."""
    for group in report.groups:
        yield Text()
        yield _head(group)
        yield from (Text(f"      {line}") for line in _facts(group, report, out))
    for reason, count in sorted(report.errors.items(), key=lambda item: -item[1])[:SHOWN_CASES]:
        yield Text(f"lab   {count} could not be judged: {reason.splitlines()[0]}", style="magenta")
    yield Text()
    counted = [group for group in report.groups if group.counts]
    of = f"{report.done} of {report.total} faults" if report.done < report.total else f"{report.total} faults"
    kinds = {0: "no failure", 1: "1 kind of failure"}.get(len(counted), f"{len(counted)} kinds of failures")
    more = len(report.groups) - len(counted)
    also = f" ({more} more that do not count)" if more else ""
    yield Text(
        f"{report.request.driver} on {report.request.device}: {of} in {duration(report.elapsed)}, {kinds}{also}.", "bold"
    )
    if report.ignored:
        yield Text(f"Not counted, for it fails without a fault too: {', '.join(report.ignored)}", style="dim")
    if report.unfinished:
        yield Text(f"Not finished: {report.unfinished}. Go on with: nvme-lab sweep --resume {shown(out)}", style="yellow")


def _head(group: Group) -> Text:
    line = Text.assemble((f"{group.outcome:5} ", "bold red" if group.counts else "yellow"), (group.check, "bold"))
    if len(group.cases) > 1:
        line.append(f"  {len(group.cases)} times")
    if group.confirmed is False:
        line.append("  did not come back", style="yellow")
    if group.control == "fails too":
        line.append("  the reference driver fails too: look at the check first", style="yellow")
    return line


def _facts(group: Group, report: SweepReport, out: Path) -> Iterator[str]:
    yield f"expected  {group.expected}"
    yield f"actual    {group.actual}"
    if group.also:
        yield f"also      {', '.join(group.also)}"
    if group.where:
        yield f"parts at  {group.where}"
    if group.function:
        yield f"came to   {group.function}"
    for case in group.cases[:SHOWN_CASES]:
        yield f"fault     {case}"
    if len(group.cases) > SHOWN_CASES:
        yield f"          and {len(group.cases) - SHOWN_CASES} more"
    if group.control and group.control != "fails too":
        yield f"control   the reference driver {group.control}"
    if group.scenario:
        yield f"evidence  {shown(out / group.evidence)}"
        driver, file = report.request.driver, shown(out / group.scenario)
        yield f"again     nvme-lab run --driver {driver} --device {report.request.device} --scenario {file}"
        yield f"smaller   nvme-lab shrink {shown(out / group.evidence)} --check {group.check}"
