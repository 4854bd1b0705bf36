"""Recordings of a driver that is replaced are judged by what holds on every wire, too."""

from __future__ import annotations

import pytest

from conformance.proof.recording import verdicts
from conformance.suite.check import Outcome
from conformance.suite.selection import select


def test_a_hand_over_is_judged_by_the_invariants_of_the_stages() -> None:
    judging = {check.id for check in select(profiles_named=["servicing"]).checks_of("servicing/two")}
    assert {"servicing/no-reset", "read/prp2", "admin-queue/sqe-clean", "every/load"} <= judging


def test_commands_of_an_sdk_are_not() -> None:
    judging = {check.id for check in select(profiles_named=["passthrough"]).checks_of("passthrough/commands")}
    assert "read/prp2" not in judging


@pytest.mark.parametrize(
    ("defect", "scenario", "check"),
    [
        ("admin-queue/sqe-clean:junk", "servicing/two", "admin-queue/sqe-clean"),
        ("admin-queue/doorbell-unchanged:twice", "servicing/full", "admin-queue/doorbell-unchanged"),
        ("servicing/written:clears", "servicing/two", "read/exact"),
    ],
)
def test_a_violation_beside_a_hand_over_is_seen(defect: str, scenario: str, check: str) -> None:
    found = {one.check.id: one for one in verdicts(scenario, 0, defect)}
    assert found[check].outcome in (Outcome.FAIL, Outcome.WARN) or found[found[check].because].outcome is Outcome.FAIL
