"""Which memory is open to a device, and which of it a command needs."""

from __future__ import annotations

import pytest

from conformance.record.iommu import Opened, needed
from conformance.record.state import State
from lab.data.events import DmaMap, Submitted
from lab.data.plan import Controller, Namespace
from lab.nvme.commands import AsyncEventRequest, Command, Identify, Psdt, Read

PAGE = 4096
SPEC = Controller(serial="x", namespaces=(Namespace(blocks=1000),))


def moved(address: int, length: int, mapped: bool) -> DmaMap:
    return DmaMap(t=0.0, address=address, length=length, mapped=mapped)


def test_what_is_open_is_what_was_opened_and_not_closed() -> None:
    opened = Opened()
    for address in (0x3000, 0x1000, 0x2000):
        opened.follow(moved(address, PAGE, True))
    assert opened.cover(0x1000, 3 * PAGE)
    assert opened.cover(0x1FFC, 8)
    assert not opened.cover(0x0FFF, 2)
    assert not opened.cover(0x3FFF, 2)
    opened.follow(moved(0x2000, PAGE, False))
    assert opened.cover(0x1FF8, 8)
    assert not opened.cover(0x1FFC, 8)
    assert opened.cover(0x3000, PAGE)
    opened.follow(moved(0, 1 << 40, False))
    assert not opened.cover(0x1000, 1)


@pytest.mark.parametrize(
    ("command", "sqid", "ranges"),
    [
        (Read.of(NSID=1, NLB=0, PRP1=0x1200), 1, [range(0x1200, 0x1400)]),
        (Read.of(NSID=1, NLB=8, PRP1=0x1200, PRP2=0x9000), 1, [range(0x1200, 0x2000), range(0x9000, 0x9400)]),
        (Read.of(NSID=1, NLB=63, PRP1=0x1000, PRP2=0x9010), 1, [range(0x1000, 0x2000), range(0x9010, 0x9018)]),
        (Read.of(NSID=1, NLB=0, PSDT=Psdt.SGL_MPTR_BUFFER, PRP1=0x1200), 1, []),
        (Read.of(NSID=9, NLB=0, PRP1=0x1200), 1, []),
        (Identify.of(PRP1=0x1000), 0, [range(0x1000, 0x2000)]),
        (AsyncEventRequest.of(), 0, []),
    ],
    ids=["one page", "two pages", "list", "SGL", "unknown namespace", "admin", "no data"],
)
def test_what_a_command_needs(command: Command, sqid: int, ranges: list[range]) -> None:
    assert list(needed(State(SPEC, None), Submitted(t=0.0, sqid=sqid, raw=command))) == ranges
