"""No check passes a wire that breaks its rule: recorded wires of the unmodified driver are tampered with, by a table."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from conformance.judging.judge import judge
from conformance.proof.mutations import MUTATIONS, Mutation, TamperedEvidence, judge_mutation
from conformance.proof.recording import record
from conformance.suite.check import Outcome
from conformance.suite.selection import CHECKS, SCENARIOS
from lab.data.evidence import Evidence

SEED = 11
FEW, MANY = 2, 200
"""Draws of each mutation: in an ordinary test, and in a soak test."""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Record the unmodified driver, once a scenario."""
    folder: Path = tmp_path_factory.mktemp("wires")

    @cache
    def one(scenario: str) -> Evidence:
        return record(scenario, SEED, folder / scenario.replace("/", "-"))

    return one


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.id)
def test_a_broken_rule_is_not_passed(mutation: Mutation, recorded: Any) -> None:
    _never_passed(mutation, recorded(mutation.scenario), FEW)


@pytest.mark.soak
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.id)
def test_a_rule_broken_anywhere_is_not_passed(mutation: Mutation, recorded: Any) -> None:
    _never_passed(mutation, recorded(mutation.scenario), MANY)


def _never_passed(mutation: Mutation, evidence: Evidence, draws: int) -> None:
    for number in range(draws):
        verdict = judge_mutation(mutation, evidence, random.Random(number))
        assert verdict is not None, "the wire has no place for the change"
        assert verdict.outcome in (Outcome.FAIL, Outcome.WARN), (number, verdict.outcome, verdict.reason)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.id)
def test_the_wire_as_it_was_is_passed(mutation: Mutation, recorded: Any) -> None:
    evidence = recorded(mutation.scenario)
    (verdict,) = judge(TamperedEvidence(evidence.folder, list(evidence.events())), [CHECKS[mutation.rule]])
    assert verdict.outcome in (Outcome.PASS, Outcome.INCONCLUSIVE)


def test_the_table_names_what_there_is() -> None:
    assert {mutation.rule for mutation in MUTATIONS} <= set(CHECKS)
    assert {mutation.scenario for mutation in MUTATIONS} <= set(SCENARIOS)
    assert len({mutation.id for mutation in MUTATIONS}) == len(MUTATIONS)
