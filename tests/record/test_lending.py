"""Whose doing it is that the device can reach memory: the driver's behind an IOMMU that is on, else the machine's."""

from __future__ import annotations

import pytest

from conformance.record.record import Record
from conformance.suite.selection import CHECKS, SCENARIOS
from lab.data.events import DmaMap, Event, RegisterWrite, Submitted
from lab.nvme.commands import Identify
from lab.nvme.registers import CC
from tests.toy.fixtures import MakeEvidence

RAM, FIRMWARE, PAGES = (0, 64 << 20), ((1 << 32) - (256 << 10), 256 << 10), (0xFFFF0000, 1 << 16)


def moved(span: tuple[int, int], mapped: bool = True, t: float = 0.0) -> DmaMap:
    return DmaMap(t=t, address=span[0], length=span[1], mapped=mapped)


@pytest.mark.parametrize(
    ("maps", "drivers"),
    [
        ([moved(RAM), moved(FIRMWARE)], False),
        ([moved(RAM), moved(FIRMWARE), moved(RAM, False), moved((0, 64 << 19)), moved((64 << 19, 64 << 19))], False),
        ([moved(RAM), moved(FIRMWARE), moved(RAM, False), moved(FIRMWARE, False), moved(PAGES)], True),
        ([moved((0, 2 << 20)), moved((2 << 20, 1 << 20))], True),  # a driver in user space that begins at 0
        ([moved(PAGES)], True),
    ],
    ids=["machine", "machine-again", "switched-on", "from-0", "pages"],
)
def test_maps_are_the_drivers_unless_all_of_a_pc_is_open(make_evidence: MakeEvidence, maps: list[Event], drivers: bool) -> None:
    enable = RegisterWrite(t=1.0, offset=CC.OFFSET, size=4, value=CC.of(EN=1))
    record = Record(make_evidence([*maps, enable]))
    assert record.sees_the_machine is not drivers


@pytest.mark.parametrize(("others", "violated"), [([moved(FIRMWARE)], False), ([], True)], ids=["machine", "driver"])
def test_only_a_driver_takes_a_buffer_away(make_evidence: MakeEvidence, others: list[Event], violated: bool) -> None:
    enable = RegisterWrite(t=1.0, offset=CC.OFFSET, size=4, value=CC.of(EN=1))
    sent = Submitted(t=2.0, sqid=0, raw=Identify.of(CNS=1, PRP1=0x10000))
    events = [moved(RAM), *others, enable, sent, moved(RAM, mapped=False, t=3.0), moved(RAM, t=3.0)]
    scenario = SCENARIOS["read/basic"].resolve(1).to_json() | {"guest": {"iommu": True}}
    record = Record(make_evidence(events, device="lab", scenario=scenario, qemu={"version": "10.0.0"}))
    assert any(not finding.ok for finding in CHECKS["read/owned-memory"].find(record)) is violated
