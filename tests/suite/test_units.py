"""A driver that reads in whole units may read more than it was asked for, and must read all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.proof.recording import record
from conformance.record.record import Record
from conformance.suite.check import CHECKS

PAGE = 4096


@pytest.fixture
def basic(tmp_path: Path) -> Record:
    """Return the reference driver, which reads single blocks of 512 bytes: one, one, eight and one."""
    return Record(record("read/basic", 3, tmp_path / "evidence"))


def test_reads_are_held_to_the_unit_that_the_driver_declares(basic: Record) -> None:
    assert basic.unit == 0
    assert all(finding.ok for finding in CHECKS["read/extra"].find(basic))
    identity = basic.evidence.identity
    driver = identity.driver.model_copy(update={"unit": PAGE})
    basic.evidence.identity = identity.model_copy(update={"driver": driver})
    assert basic.unit == PAGE
    found = list(CHECKS["read/extra"].find(basic))
    assert found, "a block lies within its unit"
    assert all(finding.ok for finding in found), "a block lies within its unit"
    assert any(finding.expected == "within LBA 0 to 7" and finding.ok for finding in found)
