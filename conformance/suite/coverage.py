"""The page docs/coverage-of-the-specification.md: which rules of the host are judged by which checks, and why some are not.

The rules are data (`coverage.toml`). ``python -m conformance.suite.coverage`` prints the page.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.suite.check import MANDATORY
from conformance.suite.selection import CHECKS

SECTIONS = re.compile(r", | to ")
"""What stands between the sections that a rule cites."""
DATA = Path(__file__).with_name("coverage.toml")
DOCUMENTS = {
    "base": "NVM Express Base Specification 2.0",
    "nvm": "NVM Command Set Specification 1.0",
    "pcie": "NVMe over PCIe Transport Specification 1.0",
    "zoned": "Zoned Namespace Command Set Specification 1.1",
}
HEAD = """# Coverage of the specification

This page lists the rules that the specifications lay on the host, in our own words, and the checks that judge them.
A rule without a check has the reason beside it.
The list follows Base 2.0 (chapters 3 to 5, 7 to 9), NVM Command Set 1.0, PCIe Transport 1.0 and Zoned Namespace Command
Set 1.1 by section; what a section recommends to the host stands beside what it demands.
It is made from `conformance/suite/coverage.toml`; a test holds that every check named here exists, that every mandatory
check is named, and that every section cited lies in a chapter that was read.

## What was read

| document | chapter | read | rules of the host | without a check |
|---|---|---|---|---|
"""
TAIL = """
## Mandatory checks that rest on integrity, safety or practice

No sentence of a specification demands these, but a driver that fails one loses data, hangs, or takes its system down.

| check | statement |
|---|---|
"""


@dataclass(frozen=True)
class Rule:
    """A rule of the host. Exactly one of ``checks`` and ``none`` is there."""

    document: str
    section: str
    rule: str
    checks: tuple[str, ...] = ()
    none: str = ""


@dataclass(frozen=True)
class Walked:
    """A chapter of a document, "3.1", or several that were left out, "1 and 2", and how far it was read for rules."""

    document: str
    chapter: str
    title: str
    read: str

    def holds(self, rule: Rule) -> bool:
        """Return whether the first section that a rule cites lies in this chapter."""
        parts = SECTIONS.split(rule.section)[0].split(".")
        chapters = [chapter.split(".") for chapter in self.chapter.split(" and ")]
        return self.document == rule.document and any(parts[: len(chapter)] == chapter for chapter in chapters)


def _table(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = tomllib.loads(DATA.read_text(encoding="utf-8"))[name]
    return found


def rules() -> tuple[Rule, ...]:
    """Return the rules of the host that coverage.toml lists."""
    return tuple(Rule(**{**row, "checks": tuple(row.get("checks", ()))}) for row in _table("rule"))


def walked() -> tuple[Walked, ...]:
    """Return what was read of the documents, chapter by chapter."""
    return tuple(Walked(**row) for row in _table("walked"))


def page() -> str:
    """Return docs/coverage-of-the-specification.md."""
    text, named = [HEAD], set[str]()
    for chapter in walked():
        held = [rule for rule in rules() if chapter.holds(rule)]
        unjudged = sum(not rule.checks for rule in held)
        what = f"{DOCUMENTS[chapter.document]} | {chapter.chapter} {chapter.title} | {chapter.read}"
        text.append(f"| {what} | {len(held) or '-'} | {unjudged or '-'} |\n")
    for document, title in DOCUMENTS.items():
        text.append(f"\n## {title}\n\n| section | rule of the host | judged by |\n|---|---|---|\n")
        for rule in (rule for rule in rules() if rule.document == document):
            named.update(rule.checks)
            judged = ", ".join(f"[{check}](checks.md)" for check in rule.checks) or f"not judged: {rule.none}"
            text.append(f"| {rule.section} | {rule.rule} | {judged} |\n")
    text.append(TAIL)
    for check in CHECKS.values():
        if check.level == MANDATORY and check.id not in named:
            text.append(f"| [{check.id}](checks.md) | {check.statement.replace('|', '/')} |\n")
    return "".join(text)


if __name__ == "__main__":
    print(page(), end="")
