"""What the stage multiqueue reads out of a record: overlap, not seconds; and that a driver's word alone is not enough."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from conformance.proof.recording import record
from conformance.record.record import Record
from conformance.suite.check import CHECKS
from conformance.suite.stages.multiqueue import Load, loads


@pytest.fixture(scope="module")
def scaling(tmp_path_factory: pytest.TempPathFactory) -> list[Load]:
    return list(loads(Record(record("multiqueue/scaling", 3, tmp_path_factory.mktemp("scaling") / "evidence"))))


def test_a_load_is_what_the_device_saw_of_it(scaling: list[Load]) -> None:
    assert [load.wanted for load in scaling] == [12, 48, 192, 24, 96, 384]
    for load, most in zip(scaling, ({1: 1}, {1: 4}, {1: 16}, {1: 1, 2: 1}, {1: 4, 2: 4}, {1: 16, 2: 16}), strict=True):
        assert load.whole, "and the regions are read back"
        assert len(load.commands) > load.wanted, "and the regions are read back"
        assert load.most == most


def test_what_is_in_flight_is_counted_not_timed(scaling: list[Load]) -> None:
    assert [load.peak for load in scaling] == [1, 4, 16, 2, 8, 32]
    assert all(0 < load.overlap <= load.peak for load in scaling)


def test_operations_that_were_merged_are_counted_by_their_blocks(scaling: list[Load]) -> None:
    load = scaling[0]
    first, second, *others = load.own
    merged = *first[:2], first[2] + second[2], *first[3:]
    rest = load.commands[len(load.own) :]
    assert replace(load, commands=(merged, *others, *rest)).whole
    assert len(replace(load, commands=(merged, *others, *rest)).own) == load.wanted - 1
    assert not replace(load, commands=(first, *others)).whole


def test_a_driver_that_never_asked_the_device_is_not_judged(tmp_path: Path) -> None:
    evidence = record("multiqueue/latency", 3, tmp_path / "evidence", "liar")
    lied = Record(evidence)
    assert [asked.answer["operations"] for asked in lied.answers("load-mix")] == [160]
    assert list(loads(lied)) == []
    assert list(CHECKS["multiqueue/integrity"].find(lied)) == []
