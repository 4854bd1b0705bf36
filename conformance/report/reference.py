"""The check reference as Markdown, from the checks themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from conformance.suite.check import Check

LEVELS = {"M": "mandatory", "R": "recommended", "O": "optional"}
HEAD = """# Check reference

Every check: what the driver must do, how binding it is and why, who testifies, where the rule stands, where it is judged,
and which seeded defects it catches. *Invariants* are judged on all evidence.

This file is written by `nvme-lab list checks --write docs/checks.md`.
"""


def check_reference(checks: Iterable[Check], defects: Mapping[str, Sequence[str]]) -> str:
    """One section a stage, one entry a check. ``defects`` are the ids of those that each check catches."""
    lines, stage = [HEAD], ""
    for check in checks:
        if check.stage != stage:
            stage = check.stage
            lines.append(f"## {stage}\n")
        level = LEVELS[check.level] + (f" ({check.why})" if check.why else "")
        facts = {
            "": f"{level} · {', '.join(check.witnesses)} · {check.cite}",
            "needs": ", ".join(check.needs),
            "judged in": ", ".join(check.scenarios) or "every scenario (invariant)",
            "catches": ", ".join(f"`{defect.partition(':')[2]}`" for defect in defects.get(check.id, ())),
        }
        lines.append(f"### {check.id}\n\n{check.statement}\n")
        lines.extend(f"- {name}{': ' if name else ''}{text}" for name, text in facts.items() if text)
        lines.append("")
    return "\n".join(lines)
