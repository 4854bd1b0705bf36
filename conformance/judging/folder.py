"""Verdicts on an evidence folder for `lab.testing`, which finds this by the entry point ``nvme_lab.judges``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from conformance.judging.judge import judge
from conformance.suite.selection import select
from lab.data.evidence import Evidence


def judge_folder(folder: Path) -> list[dict[str, Any]]:
    """Return the verdicts as results.json holds them: of its scenario's checks and the invariants."""
    evidence = Evidence(folder)
    return [verdict.to_json() for verdict in judge(evidence, select().checks_for(evidence.scenario))]
