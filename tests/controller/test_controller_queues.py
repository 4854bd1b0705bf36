"""Queues and doorbells: wraps, back-pressure, arbitration, and every way to ring wrongly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lab.data.events import Completed, Doorbell, Interrupt, Remark, Submitted
from lab.nvme import commands as nvme
from lab.nvme.async_events import AsyncEvent, ErrorEvent, EventType
from lab.nvme.prp import build
from lab.nvme.status import Status

if TYPE_CHECKING:
    from tests.controller.conftest import Host, MakeHost

PAGE = 4096


@pytest.mark.parametrize("entries", [2, 3, 16])
def test_rings_wrap_many_times(make_host: MakeHost, entries: int) -> None:
    host = make_host()
    assert host.enable(entries=entries).RDY
    host.create_queues(entries=entries)
    for _ in range(5 * entries):
        host.admin(nvme.Flush.of(NSID=1), 1)
        host.admin(nvme.GetFeatures.of(FID=7))
    assert host.remarks() == []


def test_a_full_completion_queue_holds_the_controller_back(host: Host) -> None:
    cids = [host.submit(nvme.Flush.of(NSID=1), 1) for _ in range(15)]
    assert len(host.completions(1, ring=False)) == 15, "all slots but one"
    more = [host.submit(nvme.Flush.of(NSID=1), 1) for _ in range(3)]
    assert host.completions(1, ring=False) == [], "there is no room to post"
    sq = host.function.controller.queues.submission[1]
    assert sq.pending == 3, "and so nothing more is fetched"
    host.ring(1, completion=True, value=15)
    assert [c.CID for c in host.completions(1)] == more
    assert len(set(cids + more)) == 18
    assert host.remarks() == []


def test_a_full_queue_keeps_what_completes_later(make_host: MakeHost) -> None:
    host = make_host()
    host.enable(entries=2)
    host.admin(nvme.GetFeatures.of(FID=7))
    first = host.submit(nvme.AsyncEventRequest.of(CID=77))
    host.submit(nvme.GetFeatures.of(FID=7))
    host.ring(9000, completion=False, value=0)  # an error: the event request completes, and there is no free slot
    (done,) = host.completions()
    assert done.CID != first
    (event,) = host.completions()
    assert event.CID == first
    assert AsyncEvent(event.DW0).AET == EventType.ERROR
    assert "cq-full" in host.remarks()


def test_several_commands_by_one_doorbell_and_one_interrupt(host: Host) -> None:
    host.function.interrupts.clear()
    for _ in range(4):
        host.submit(nvme.Flush.of(NSID=1), 1, ring=False)
    host.ring(1, completion=False, value=4)
    assert len(host.completions(1)) == 4
    assert len(host.function.interrupts) == 1


def test_arbitration_is_round_robin(host: Host) -> None:
    host.create_queues(qid=2, vector=2)
    controller = host.function.controller
    controller.queues.completion[1].head = 1  # as if full: both queues fill before anything is fetched
    for qid in (1, 2):
        for _ in range(3):
            host.submit(nvme.Flush.of(NSID=1), qid, ring=False)
    for qid in (1, 2):
        controller.queues.submission[qid].tail = 3
        controller.queues.schedule(controller.queues.submission[qid])
    controller.queues.completion[1].head = 0
    controller.executor.run()
    fetched = [event.sqid for event in host.events() if isinstance(event, Submitted) and event.sqid]
    assert fetched == [1, 2, 1, 2, 1, 2]


@pytest.mark.parametrize(
    ("ring", "rule"),
    [
        (lambda host: host.ring(7, completion=False, value=1), "doorbell-undefined"),
        (lambda host: host.ring(7, completion=True, value=1), "doorbell-undefined"),
        (lambda host: host.ring(1, completion=False, value=16), "doorbell-value"),
        (lambda host: host.ring(1, completion=False, value=0xFFFF), "doorbell-value"),
        (lambda host: host.ring(1, completion=True, value=1), "doorbell-value"),
        (lambda host: host.function.write(0x1006, 4, 1), "doorbell-undefined"),
    ],
)
def test_wrong_doorbells_are_remarked_and_reported_by_an_event(host: Host, ring: object, rule: str) -> None:
    host.submit(nvme.AsyncEventRequest.of(CID=99))
    ring(host)  # type: ignore[operator]
    (reported,) = host.completions()
    event = AsyncEvent(reported.DW0)
    assert reported.CID == 99
    assert event.AET == EventType.ERROR
    expected = ErrorEvent.INVALID_DOORBELL_VALUE if rule == "doorbell-value" else ErrorEvent.INVALID_DOORBELL_REGISTER
    assert event.AEI == expected
    assert host.do(nvme.Flush.of(NSID=1), 1).ok, "the queue goes on"
    assert rule in host.remarks()


def test_doorbells_of_wrong_width_and_with_reserved_bits(host: Host) -> None:
    host.submit(nvme.Flush.of(NSID=1), 1, ring=False)
    host.function.write(0x1008, 2, 1)
    assert host.completions(1) == [], "a narrow write has no effect"
    host.function.write(0x1008, 4, 0xABCD_0001)
    assert len(host.completions(1)) == 1
    assert host.remarks() == ["doorbell-width", "doorbell-reserved"]


def test_a_doorbell_before_ready(make_host: MakeHost) -> None:
    host = make_host()
    host.ring(0, completion=False, value=1)
    (remark,) = [event for event in host.events() if isinstance(event, Remark)]
    assert remark.name == "doorbell-while-not-ready"
    assert (remark.detail["ready"], remark.detail["fatal"]) == (False, False)


def test_the_same_value_twice(host: Host) -> None:
    host.admin(nvme.Flush.of(NSID=1), 1)
    host.ring(1, completion=False, value=1)
    assert host.remarks() == ["doorbell-unchanged"]


@pytest.mark.parametrize("dstrd", [0, 2, 9, 15])
def test_doorbell_strides(make_host: MakeHost, dstrd: int) -> None:
    host = make_host(cap={"DSTRD": dstrd}, io_queues=2).up()
    host.admin(nvme.Flush.of(NSID=1), 1)
    assert host.function.bar_size >= 0x1000 + 6 * (4 << dstrd)
    doorbells = [event for event in host.events() if isinstance(event, Doorbell)]
    assert (doorbells[-2].qid, doorbells[-2].completion) == (1, False)
    assert (doorbells[-1].qid, doorbells[-1].completion) == (1, True)


def test_a_command_identifier_in_flight_twice(host: Host) -> None:
    host.submit(nvme.AsyncEventRequest.of(CID=5))
    completion = host.do(nvme.GetFeatures.of(FID=7, CID=5))
    assert completion.status == Status.COMMAND_ID_CONFLICT
    assert host.remarks() == ["cid-conflict"]


def test_dirty_completion_memory_is_remarked(make_host: MakeHost) -> None:
    host = make_host().up()
    dirty = host.pages()
    host.poke(dirty + 14, b"\x01")
    host.admin(nvme.CreateIoCq.of(QID=2, QSIZE=7, PC=1, PRP1=dirty))
    assert host.remarks() == ["cq-not-zeroed"]


def test_queues_that_are_not_contiguous(make_host: MakeHost) -> None:
    host = make_host(cap={"CQR": 0, "MQES": 255})
    host.enable()
    pages = [host.pages() for _ in range(9)]
    sq_pages = [pages[5], pages[2], pages[7], pages[0]]  # 256 entries of 64 bytes
    cq_pages = [pages[1]]
    lists = [host.pages(), host.pages()]
    for address, named in zip(lists, (cq_pages, sq_pages), strict=True):
        host.poke(address, b"".join(page.to_bytes(8, "little") for page in named))
    host.admin(nvme.CreateIoCq.of(QID=1, QSIZE=255, PC=0, IEN=1, IV=1, PRP1=lists[0]))
    host.admin(nvme.CreateIoSq.of(QID=1, QSIZE=255, PC=0, CQID=1, PRP1=lists[1]))
    for slot in range(256):
        host.poke(sq_pages[slot // 64] + slot % 64 * 64, nvme.Flush.of(NSID=1, CID=slot))
        host.ring(1, completion=False, value=(slot + 1) % 256)
        assert host.peek(cq_pages[0] + 16 * slot, 16)[12] == slot & 0xFF
        host.ring(1, completion=True, value=(slot + 1) % 256)
    assert host.remarks() == []


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (nvme.CreateIoCq.of(QID=0, QSIZE=7, PC=1), Status.QID_INVALID),
        (nvme.CreateIoCq.of(QID=1, QSIZE=7, PC=1), Status.QID_INVALID),
        (nvme.CreateIoCq.of(QID=9, QSIZE=7, PC=1), Status.QID_INVALID),
        (nvme.CreateIoCq.of(QID=2, QSIZE=0, PC=1), Status.QUEUE_SIZE_INVALID),
        (nvme.CreateIoCq.of(QID=2, QSIZE=2048, PC=1), Status.QUEUE_SIZE_INVALID),
        (nvme.CreateIoCq.of(QID=2, QSIZE=7, PC=0), Status.INVALID_FIELD),
        (nvme.CreateIoCq.of(QID=2, QSIZE=7, PC=1, IEN=1, IV=9), Status.INTERRUPT_VECTOR_INVALID),
        (nvme.CreateIoCq.of(QID=2, QSIZE=7, PC=1, PRP1=64), Status.PRP_OFFSET_INVALID),
        (nvme.CreateIoSq.of(QID=1, QSIZE=7, PC=1, CQID=1), Status.QID_INVALID),
        (nvme.CreateIoSq.of(QID=2, QSIZE=7, PC=1, CQID=0), Status.QID_INVALID),
        (nvme.CreateIoSq.of(QID=2, QSIZE=7, PC=1, CQID=3), Status.CQ_INVALID),
        (nvme.CreateIoSq.of(QID=2, QSIZE=0, PC=1, CQID=1), Status.QUEUE_SIZE_INVALID),
        (nvme.DeleteIoCq.of(QID=0), Status.QID_INVALID),
        (nvme.DeleteIoCq.of(QID=2), Status.QID_INVALID),
        (nvme.DeleteIoCq.of(QID=1), Status.QUEUE_DELETION_INVALID),
        (nvme.DeleteIoSq.of(QID=0), Status.QID_INVALID),
        (nvme.DeleteIoSq.of(QID=2), Status.QID_INVALID),
    ],
)
def test_queue_commands_that_cannot_be(host: Host, command: nvme.Command, status: Status) -> None:
    if not command.PRP1:
        command = command.but(PRP1=host.pages())
    completion = host.do(command)
    assert completion.status == status
    assert completion.DNR


def test_queues_are_deleted_and_made_again(host: Host) -> None:
    for _ in range(3):
        host.admin(nvme.DeleteIoSq.of(QID=1))
        host.admin(nvme.DeleteIoCq.of(QID=1))
        host.create_queues()
        host.admin(nvme.Flush.of(NSID=1), 1)
    assert host.remarks() == []


def test_two_submission_queues_share_a_completion_queue(host: Host) -> None:
    ring = host.rings[1]
    sq = host.pages()
    host.admin(nvme.CreateIoSq.of(QID=2, QSIZE=7, PC=1, CQID=1, PRP1=sq))
    host.poke(sq, nvme.Flush.of(NSID=1, CID=3))
    host.ring(2, completion=False, value=1)
    (completion,) = host.completions(1)
    assert (completion.SQID, completion.SQHD, completion.CID) == (2, 1, 3)
    assert ring.head == 1


def test_interrupts_by_vector_and_kind(host: Host) -> None:
    host.function.config_write(0x72, 2, 0x8000)
    host.admin(nvme.Flush.of(NSID=1), 1)
    assert host.function.interrupts[-1] == 1
    host.function.config_write(0x72, 2, 0)
    host.function.config_write(0x52, 2, 0x0031)  # MSI on, 8 vectors
    host.admin(nvme.Flush.of(NSID=1), 1)
    host.function.config_write(0x52, 2, 0)
    host.admin(nvme.Flush.of(NSID=1), 1)
    host.function.write(0x0C, 4, 1)
    host.admin(nvme.Flush.of(NSID=1), 1)
    seen = [(event.how, event.vector) for event in host.events() if isinstance(event, Interrupt)]
    assert seen[-3:] == [("msix", 1), ("msi", 1), ("intx", 0)], "and a masked pin is silent"


def test_events_of_one_command_in_order(host: Host) -> None:
    host.admin(nvme.Read.of(NSID=1, PRP1=host.pages(), NLB=7), 1)
    kinds = [type(event).__name__ for event in host.events()][-6:]
    assert kinds == ["Doorbell", "Submitted", "Dma", "Completed", "Interrupt", "Doorbell"]


def test_memory_that_the_host_withholds(make_host: MakeHost) -> None:
    host = make_host(strict=True)
    assert host.enable().RDY
    host.submit(nvme.GetFeatures.of(FID=7))
    assert host.csts.CFS, "the controller cannot fetch"
    remarks = host.remarks()
    assert remarks[0] == "cq-memory"
    assert remarks[-1] == "controller-fatal-status"


def test_without_bus_mastering_nothing_is_fetched(host: Host) -> None:
    host.function.config_write(4, 2, 0b010)
    host.submit(nvme.Flush.of(NSID=1), 1)
    assert host.csts.CFS
    assert not [event for event in host.events() if isinstance(event, Completed) and event.cqid == 1]


def test_build_helper_agrees_with_the_walk(host: Host) -> None:
    pages = [host.pages() for _ in range(4)]
    pointers = build(pages, 0, 4 * PAGE, PAGE, host.pages)
    for address, content in pointers.lists:
        host.poke(address, content)
    host.admin(nvme.Read.of(NSID=1, NLB=31, PRP1=pointers.prp1, PRP2=pointers.prp2), 1)
    assert host.remarks() == []
