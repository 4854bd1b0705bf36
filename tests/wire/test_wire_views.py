"""What `nvme-lab wire` leaves out, and what it finds."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from conformance.commands import nvme_lab
from lab.data.evidence import Evidence
from lab.errors import UsageError
from tests.record.recordings import unpack


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    return unpack("linux-lab-read-basic", tmp_path_factory.mktemp("wire") / "evidence")


def wire(evidence: Evidence, *options: str) -> Result:
    return CliRunner().invoke(nvme_lab, ["wire", str(evidence.folder), *options])


def test_bus_set_up_and_iommu_maps_are_left_out_and_counted(evidence: Evidence) -> None:
    short, whole = wire(evidence).output.splitlines(), wire(evidence, "--all").output.splitlines()
    hidden = len(whole) - len(short) + 1
    assert short[-1].startswith(f"{hidden} rows are left out")
    assert not any("IOMMU map" in line or "BAR" in line for line in short[:-1])
    assert sum("IOMMU map" in line or "PCI BAR" in line for line in whole) > 20
    assert "ask load" in "".join(short[2:6]), "the driver's first action stands at the top"
    assert any("bus master" in line for line in short[:-1]), "what the driver itself does to the bus stays"


def test_how_the_trace_was_sampled_is_left_out_and_its_marks_stay(tmp_path: Path) -> None:
    traced = unpack("u-boot-qemu-read-basic", tmp_path / "evidence")
    short, whole = wire(traced).output, wire(traced, "--all").output
    assert "trace_sample" not in short
    assert "trace_sample" in whole
    assert any("→~" in row for row in short.splitlines())


def test_grep_shows_matching_rows_only(evidence: Evidence) -> None:
    rows = [line for line in wire(evidence, "--grep", "csts|DOORBELL").output.splitlines() if line.startswith("   ")]
    assert rows
    assert all("CSTS" in row or "doorbell" in row for row in rows)


def test_mistakes_of_grep_are_errors(evidence: Evidence) -> None:
    assert "not a regular expression" in str(wire(evidence, "--grep", "(").exception)
    assert isinstance(wire(evidence, "--grep", "x", "--command", "1").exception, UsageError)
