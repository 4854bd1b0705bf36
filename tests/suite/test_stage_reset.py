"""What the stage reset says of a recovery: what the driver did, and whether the device bears its answer out."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.proof.recording import record
from conformance.record.record import Record
from conformance.suite.stages.reset import deeds, proven, struck


@pytest.mark.parametrize(
    ("scenario", "did"),
    [
        ("reset/stall", "abort"),
        ("reset/abort-refused", "abort, reset"),
        ("reset/fatal", "reset"),
        ("reset/removed", "removal"),
        ("reset/lost-interrupt", "no abort, no reset"),
    ],
)
def test_the_record_shows_what_the_driver_did(tmp_path: Path, scenario: str, did: str) -> None:
    seen = Record(record(scenario, 5, tmp_path / "evidence"))
    first, second = struck(seen)
    assert (deeds(seen, first), deeds(seen, second)) == (did, "no abort, no reset")
    assert proven(seen, first) == first.ok == (did != "removal")


def test_a_success_that_the_device_knows_nothing_of_is_not_proven(tmp_path: Path) -> None:
    seen = Record(record("reset/stall", 5, tmp_path / "evidence", "reset/stall:silent"))
    first, second = struck(seen)
    assert first.ok
    assert not proven(seen, first)
    assert second.ok
    assert proven(seen, second)


def test_a_completion_with_an_impossible_head_proves_nothing(tmp_path: Path) -> None:
    seen = Record(record("reset/unknown-head", 5, tmp_path / "evidence", "reset/bad-queue:ignored"))
    first = struck(seen)[0]
    assert proven(seen, first)
    assert not proven(seen, first, head=True)
