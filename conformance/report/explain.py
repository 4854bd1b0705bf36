"""A check, explained to the author of a driver: the rule, why it matters, wrong and right, bugs of this kind, what to try."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from conformance.report.reference import LEVELS
from conformance.report.terminal import Unwrapped
from conformance.suite.check import EVERY, Check
from conformance.suite.findings import Page
from conformance.suite.guidance import Guidance
from lab.data.manifest import part_name

WIDTH = 100
"""Columns of text at most: longer lines are hard to read."""
INDENT, LABEL = 2, 14
WITNESSES = {
    "out": "what the driver answers",
    "wire": "what the device saw",
    "store": "what the disk holds",
    "fault": "a fault or an unusual device that the scenario brings",
    "memory": "the driver's own accesses to its memory",
}
SCENARIOS = 6
"""Scenarios that are named."""


@dataclass(frozen=True)
class Bug:
    """A mistake of this kind: the seeded defect, what it does, and the driver that shipped it ("" if none is known to have)."""

    defect: str
    does: str
    shipped: str = ""


@dataclass(frozen=True)
class Explanation:
    """Everything that is said of a check. ``legal``: peculiarities that it lets pass, each with what allows it."""

    check: Check
    guidance: Guidance
    bugs: Sequence[Bug] = ()
    legal: Sequence[tuple[str, str]] = ()
    pages: Sequence[Page] = ()

    @property
    def level(self) -> str:
        """Return how binding the rule is, and why."""
        return f"{LEVELS[self.check.level]} ({self.check.why})"

    @property
    def commands(self) -> list[tuple[str, str]]:
        """Return the command lines to try, each with what it shows."""
        check, found = self.check.id, []
        if self.bugs:
            defect = self.bugs[0].defect
            found.append((f"nvme-lab run --check {check} --defect {defect}", "see it fail, in the reference driver"))
        found.append((f"nvme-lab run --check {check} --driver my-os.toml", "your driver"))
        found += [(f"nvme-lab explain {page.name}", page.title) for page in self.pages]
        return found

    def to_json(self) -> Mapping[str, Any]:
        """Return it for programs."""
        check = self.check
        return {
            "id": check.id,
            "statement": check.statement,
            "level": check.level,
            "why": check.why,
            "cite": vars(check.cite),
            "witnesses": list(check.witnesses),
            "needs": list(check.needs),
            "uses": check.uses,
            "scenarios": list(check.scenarios),
            **vars(self.guidance),
            "bugs": [vars(bug) for bug in self.bugs],
            "legal": [{"does": does, "allowed": allowed} for does, allowed in self.legal],
            "findings": [{"name": page.name, "title": page.title} for page in self.pages],
        }


def rendered(explanation: Explanation, width: int) -> RenderableType:
    """Return the explanation for a terminal of a width."""
    room = min(width, WIDTH)
    return Group(*_parts(explanation, room))


def _parts(explanation: Explanation, room: int) -> Iterator[RenderableType]:
    check, guidance = explanation.check, explanation.guidance
    where = "every stage" if check.stage == EVERY else part_name(check.stage)
    yield Text.assemble((check.id, "bold"), (f"  {explanation.level}, {where}", "dim"))
    yield _paragraph(f"The driver {check.statement[:1].lower()}{check.statement[1:]}", room)
    yield ""
    yield _facts(check, room)
    yield from _section("Why it matters", [_paragraph(guidance.matters, room)])
    if guidance.wrong:
        yield from _section("Wrong", [_code(guidance.wrong, "red")])
        yield from _section("Right", [_code(guidance.right, "green")])
    if explanation.bugs:
        rows = [_bug(bug, room) for bug in sorted(explanation.bugs, key=lambda bug: not bug.shipped)]
        yield from _section("Bugs of this kind", rows)
    if explanation.legal:
        rows = [_paragraph(f"{does} ({allowed})", room) for does, allowed in explanation.legal]
        yield from _section("Legal, although unusual", rows)
    if explanation.pages:
        yield from _section("Found in drivers", [_paragraph(page.title, room) for page in explanation.pages])
    yield from _section("Try", [])
    for command, shows in explanation.commands:
        yield Unwrapped(f"{'':{INDENT}}{command}   # {shows}")


def _facts(check: Check, room: int) -> RenderableType:
    scenarios = ", ".join(check.scenarios[:SCENARIOS]) + (" …" if len(check.scenarios) > SCENARIOS else "")
    facts = {
        "stands in": str(check.cite),
        "seen by": ", ".join(WITNESSES[witness] for witness in check.witnesses),
        "judged in": scenarios or "every scenario",
        "about": f"{check.uses} (which a driver is free never to use)" if check.uses else "",
        "needs": f"{', '.join(check.needs)} (a driver that cannot be asked is UNSUPPORTED)" if check.needs else "",
    }
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True, min_width=LABEL - 2)
    grid.add_column(overflow="fold", max_width=room - LABEL - INDENT)
    for name, text in facts.items():
        if text:
            grid.add_row(name, Text(text))
    return Padding(grid, (0, 0, 0, INDENT))


def _section(title: str, parts: Sequence[RenderableType]) -> Iterator[RenderableType]:
    yield ""
    yield Text(title, style="bold")
    yield from parts


def _paragraph(text: str, room: int) -> RenderableType:
    grid = Table.grid()
    grid.add_column(overflow="fold", max_width=room - INDENT)
    grid.add_row(Text(text))
    return Padding(grid, (0, 0, 0, INDENT))


def _bug(bug: Bug, room: int) -> RenderableType:
    shipped = f"shipped in {bug.shipped}: " if bug.shipped else ""
    return _paragraph(f"{shipped}{bug.does} [{bug.defect}]", room)


def _code(text: str, colour: str) -> RenderableType:
    return Group(*(Unwrapped(f"{'':{INDENT + 2}}{line}", colour) for line in text.splitlines()))
