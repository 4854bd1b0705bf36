"""Whose doing it is that the device can reach memory: the driver's behind an IOMMU that is on, else the machine's."""

from __future__ import annotations

import pytest

from conformance.record.record import Record
from lab.data.events import DmaMap, Event, RegisterWrite
from lab.nvme.registers import CC
from tests.toy.fixtures import MakeEvidence

RAM, FIRMWARE, PAGES = (0, 64 << 20), ((1 << 32) - (256 << 10), 256 << 10), (0xFFFF0000, 1 << 16)


def moved(span: tuple[int, int], mapped: bool = True) -> DmaMap:
    return DmaMap(t=0.0, address=span[0], length=span[1], mapped=mapped)


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
