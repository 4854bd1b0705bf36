"""The nearest legal behaviour to a mistake passes the check that catches the mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

import lab.defects.defect
from conformance.judging.judge import judge
from conformance.proof.recording import record
from conformance.suite.check import Outcome
from conformance.suite.selection import select
from lab.defects import DEFECTS, NEIGHBOURS, Defect
from lab.reference.service import Service


@pytest.mark.parametrize("id", NEIGHBOURS)
def test_the_neighbour_passes(id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeded = DEFECTS[id]
    name = f"{id}-neighbour"
    neighbour = Defect(name, "legal", "test", seeded.scenarios, NEIGHBOURS[id], Service)
    monkeypatch.setitem(lab.defects.defect.DEFECTS, name, neighbour)
    scenario = seeded.scenarios[0]
    verdicts = judge(record(scenario, 11, tmp_path / "evidence", name), select().checks_of(scenario))
    own = next(verdict for verdict in verdicts if verdict.check.id == seeded.check)
    assert own.outcome is Outcome.PASS, own
