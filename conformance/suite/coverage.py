"""The page docs/coverage-of-the-specification.md: which rules of the host are judged by which checks, and why some are not.

The rules are data (`coverage.toml`). ``python -m conformance.suite.coverage`` prints the page.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from conformance.suite.check import MANDATORY
from conformance.suite.selection import CHECKS

DATA = Path(__file__).with_name("coverage.toml")
DOCUMENTS = {
    "base": "NVM Express Base Specification 2.0",
    "nvm": "NVM Command Set Specification 1.0",
    "pcie": "NVMe over PCIe Transport Specification 1.0",
}
HEAD = """# Coverage of the specification

This page lists the rules that the specifications lay on the host, in our own words, and the checks that judge them.
A rule without a check has the reason beside it.
The list follows Base 2.0 (chapters 3 to 5, 8 and 9), NVM Command Set 1.0 and PCIe Transport 1.0 by section.
It is made from `conformance/suite/coverage.toml`; a test holds that every check named here exists and that every mandatory
check is named.
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


def rules() -> tuple[Rule, ...]:
    """Return the rules of the host that coverage.toml lists."""
    table = tomllib.loads(DATA.read_text(encoding="utf-8"))["rule"]
    return tuple(Rule(**{**row, "checks": tuple(row.get("checks", ()))}) for row in table)


def page() -> str:
    """Return docs/coverage-of-the-specification.md."""
    text, named = [HEAD], set[str]()
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
