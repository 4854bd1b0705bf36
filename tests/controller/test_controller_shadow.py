"""Shadow doorbells in the programmable controller: when it looks, what it asks for, and what cannot be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lab.data.events import EventIndex, Remark, ShadowDoorbell, Submitted
from lab.data.plan import Fault
from lab.nvme import commands as nvme
from lab.nvme.commands import DoorbellBufferConfig, Flush
from lab.nvme.registers import shadow_offset
from lab.nvme.status import Status

if TYPE_CHECKING:
    from tests.controller.conftest import Host, MakeHost

LATE = Fault(name="late", behaviour="delay", queue="io", arguments={"ms": 10})


class Shadows:
    """The host's two buffers, configured in the controller."""

    def __init__(self, host: Host, *, dstrd: int = 0) -> None:
        self.host, self.dstrd = host, dstrd
        self.doorbells, self.indexes = host.pages(), host.pages()
        host.admin(DoorbellBufferConfig.of(PRP1=self.doorbells, PRP2=self.indexes))

    def place(self, qid: int, completion: bool) -> int:
        return shadow_offset(qid, completion=completion, dstrd=self.dstrd)

    def write(self, value: int, qid: int = 1, *, completion: bool = False) -> None:
        self.host.poke(self.doorbells + self.place(qid, completion), value.to_bytes(4, "little"))

    def index(self, qid: int = 1, *, completion: bool = False) -> int:
        return int.from_bytes(self.host.peek(self.indexes + self.place(qid, completion), 4), "little")

    def submit(self, count: int = 1, *, ring: bool = False) -> None:
        """Put commands into queue 1 and announce them by its shadow doorbell, and by its doorbell too."""
        for _ in range(count):
            self.host.submit(Flush.of(NSID=1), 1, ring=False)
        self.write(self.host.rings[1].tail)
        if ring:
            self.host.ring(1, completion=False, value=self.host.rings[1].tail)


@pytest.fixture
def slow(make_host: MakeHost) -> Host:
    """Return an enabled host with shadow doorbells on offer, an I/O queue pair, and commands that take 10 ms."""
    return make_host(LATE, shadow_doorbells=True).up()


def test_what_is_not_offered_is_unknown(host: Host) -> None:
    assert not host.function.controller.identity.OACS.DOORBELL_BUFFER
    refused = host.do(DoorbellBufferConfig.of(PRP1=host.pages(), PRP2=host.pages()))
    assert refused.status == Status.INVALID_OPCODE


def test_it_is_offered_and_listed_among_the_commands(slow: Host) -> None:
    assert slow.function.controller.identity.OACS.DOORBELL_BUFFER
    effects = slow.data(nvme.GetLogPage.of(LID=5, NUMDL=1023))
    assert effects[4 * 0x7C] & 1


@pytest.mark.parametrize(("prp1", "prp2"), [(8, 0), (0, 8), (-1, 0), (0, -1)])
def test_buffers_are_whole_pages(slow: Host, prp1: int, prp2: int) -> None:
    pages = slow.pages(), slow.pages()
    first, second = (0 if change < 0 else page + change for page, change in zip(pages, (prp1, prp2), strict=True))
    assert slow.do(DoorbellBufferConfig.of(PRP1=first, PRP2=second)).status == Status.INVALID_FIELD


def test_an_idle_controller_asks_for_the_next_doorbell_and_goes_by_the_shadow(slow: Host) -> None:
    shadows = Shadows(slow)
    shadows.submit()
    assert not slow.device.wait(1), "no doorbell was written"
    slow.ring(1, completion=False, value=9)  # whatever the doorbell says
    slow.device.wait(1)
    assert len(slow.completions(1, ring=False)) == 1
    assert shadows.index() == 1


def test_while_it_works_it_looks_by_itself(slow: Host) -> None:
    shadows = Shadows(slow)
    shadows.submit(ring=True)
    shadows.submit(2)
    assert shadows.index() == 0, "which makes the driver ring for nothing"
    slow.device.wait(1)
    assert len(slow.completions(1, ring=False)) == 1, "and with the end of the first it saw the others"
    while slow.device.wait(1):  # each has its own time
        pass
    assert len(slow.completions(1, ring=False)) == 2
    assert shadows.index() == 3, "it works no more"
    seen = [event.value for event in slow.events() if isinstance(event, ShadowDoorbell) and not event.completion]
    assert seen == [1, 3]


def test_what_comes_between_the_last_look_and_the_index_is_seen(slow: Host) -> None:
    """The host writes its tail while the controller is about to write the EventIdx, and reads the old one."""
    shadows = Shadows(slow)
    shadows.submit(ring=True)
    core = slow.function.controller.core
    write = core.dma_write

    def interrupted(address: int, data: bytes) -> None:
        if address == shadows.indexes + shadows.place(1, False):
            core.dma_write = write  # type: ignore[method-assign]
            shadows.submit()
        write(address, data)

    core.dma_write = interrupted  # type: ignore[method-assign]
    slow.device.wait(1)
    slow.device.wait(1)
    assert len(slow.completions(1, ring=False)) == 2


def test_heads_come_the_same_way(make_host: MakeHost) -> None:
    host = make_host(shadow_doorbells=True)
    host.enable()
    host.create_queues(entries=4)
    shadows = Shadows(host)
    shadows.submit(3, ring=True)
    assert len(host.completions(1, ring=False)) == 3
    host.rings[1].tail = 3
    shadows.submit(1, ring=True)
    assert host.completions(1, ring=False) == [], "the completion queue is full"
    assert shadows.index(completion=True) == 0, "so it wants to hear of its head"
    shadows.write(3, completion=True)
    host.ring(1, completion=True, value=3)
    assert len(host.completions(1, ring=False)) == 1


def test_tails_wrap(make_host: MakeHost) -> None:
    host = make_host(shadow_doorbells=True)
    host.enable()
    host.create_queues(entries=4)
    shadows = Shadows(host)
    for _ in range(11):
        shadows.submit(ring=True)
        assert len(host.completions(1, ring=False)) == 1
        shadows.write(host.rings[1].head, completion=True)
        host.ring(1, completion=True, value=host.rings[1].head)
    assert shadows.index() == 11 % 4
    assert "shadow-doorbell-value" not in host.remarks()


@pytest.mark.parametrize("value", [16, 0x10001, 0xFFFF])
def test_a_tail_that_cannot_be_is_remarked_once(slow: Host, value: int) -> None:
    shadows = Shadows(slow)
    shadows.write(value)
    for _ in range(2):
        slow.ring(1, completion=False, value=1)
    events = slow.events()
    assert [e.detail["value"] for e in events if isinstance(e, Remark) and e.name == "shadow-doorbell-value"] == [value]
    assert not [e for e in events if isinstance(e, Submitted) and e.sqid]


def test_the_stride_counts_here_too(make_host: MakeHost) -> None:
    host = make_host(shadow_doorbells=True, cap={"DSTRD": 3}).up()
    shadows = Shadows(host, dstrd=3)
    assert shadows.place(1, True) == 3 * 32
    shadows.submit(ring=True)
    assert len(host.completions(1, ring=False)) == 1


def test_a_queue_whose_place_lies_beyond_the_page_keeps_its_doorbell(make_host: MakeHost) -> None:
    host = make_host(shadow_doorbells=True, cap={"DSTRD": 9}).up()  # doorbells 2 KiB apart
    host.admin(DoorbellBufferConfig.of(PRP1=host.pages(), PRP2=host.pages()))
    assert host.do(Flush.of(NSID=1), 1).ok


def test_the_admin_queue_keeps_its_doorbells(slow: Host) -> None:
    shadows = Shadows(slow)
    slow.admin(nvme.KeepAlive.of()) if slow.function.controller.identity.KAS else slow.data(nvme.Identify.of(CNS=1))
    assert shadows.index(0) == shadows.index(0, completion=True) == 0


def test_a_reset_gives_the_buffers_back(slow: Host) -> None:
    shadows = Shadows(slow)
    slow.disable()
    slow.up()
    shadows.write(5)
    slow.submit(Flush.of(NSID=1), 1)
    slow.device.wait(1)
    assert len(slow.completions(1)) == 1
    assert len([e for e in slow.events() if isinstance(e, ShadowDoorbell)]) == 0


def test_a_queue_made_anew_starts_anew(make_host: MakeHost) -> None:
    host = make_host(shadow_doorbells=True).up()
    shadows = Shadows(host)
    shadows.submit(5, ring=True)
    assert len(host.completions(1, ring=False)) == 5
    host.admin(nvme.DeleteIoSq.of(QID=1))
    host.admin(nvme.DeleteIoCq.of(QID=1))
    for completion in (False, True):
        shadows.write(0, completion=completion)
    host.create_queues()
    shadows.submit(5, ring=True)
    assert len(host.completions(1, ring=False)) == 5


def test_memory_that_cannot_be_reached_is_fatal(make_host: MakeHost) -> None:
    host = make_host(shadow_doorbells=True, strict=True)
    memory = host.memory
    memory.own(memory.base, 16 * 4096)
    host.up()
    shadows = Shadows(host)
    memory.unmap(memory.base, memory.size)
    assert not host.csts.CFS
    host.ring(1, completion=False, value=1)
    assert host.csts.CFS
    assert shadows.doorbells


def test_the_event_index_is_recorded_when_it_changes(slow: Host) -> None:
    shadows = Shadows(slow)
    shadows.submit(ring=True)
    slow.device.wait(1)
    recorded = [(e.qid, e.completion, e.value) for e in slow.events() if isinstance(e, EventIndex)]
    assert recorded == [(1, False, 0), (1, True, 0), (1, False, 1)]
