"""What the specification asks of a controller and the model once did otherwise. Base 2.0 and PCIe Transport 1.0."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from lab.data.events import ConfigWrite, Doorbell, Interrupt
from lab.data.plan import Fault, Namespace
from lab.nvme import commands as nvme
from lab.nvme.async_events import AsyncEvent, EventType, SmartEvent
from lab.nvme.features import Fid, Timestamp
from lab.nvme.identify import (
    Cns,
    IdentifyController,
    IdentifyNamespace,
    NamespaceList,
    NamespaceManagementData,
)
from lab.nvme.logs import ErrorInformation, Lid, Smart
from lab.nvme.ranges import LbaStatus, LbaStatusDescriptor
from lab.nvme.registers import CC, CSTS, INTMC, INTMS
from lab.nvme.status import Status

if TYPE_CHECKING:
    from tests.controller.conftest import Host, MakeHost

READY = CC.of(EN=1, IOSQES=6, IOCQES=4)
GIB = 1 << 30
ALL = nvme.BROADCAST_NSID


def create(host: Host, blocks: int) -> nvme.Command:
    """Return Namespace Management for a namespace of so many blocks."""
    data = host.pages()
    host.poke(data, NamespaceManagementData.of(NSZE=blocks, NCAP=blocks))
    return nvme.NamespaceManagement.of(PRP1=data)


def controller_of(host: Host) -> IdentifyController:
    return IdentifyController(host.data(nvme.Identify.of(CNS=Cns.CONTROLLER)))


# -- namespaces and capacity ----------------------------------------------------------------------------------------


def test_a_namespace_is_created_after_all_were_deleted(host: Host) -> None:
    host.admin(nvme.NamespaceManagement.of(SEL=1, NSID=ALL))
    assert NamespaceList(host.data(nvme.Identify.of(CNS=Cns.ALLOCATED_NAMESPACES))).ids == ()
    common = IdentifyNamespace(host.data(nvme.Identify.of(CNS=Cns.NAMESPACE, NSID=ALL)))
    assert common.formats[0].block_size == 512, "it is answered without namespaces too"
    assert host.admin(create(host, 100)).DW0 == 1


@pytest.mark.parametrize("blocks", [GIB, (1 << 64) - 1, 1 << 54])
def test_a_namespace_larger_than_the_capacity(host: Host, blocks: int) -> None:
    assert host.do(create(host, blocks)).status == Status.NAMESPACE_INSUFFICIENT_CAPACITY
    assert host.do(nvme.Flush.of(NSID=1), 1).ok


def test_a_namespace_for_which_the_machine_has_no_disk(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    command = create(host, 100)
    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", full)
        assert host.do(command).status == Status.NAMESPACE_INSUFFICIENT_CAPACITY
    assert host.admin(command).DW0 == 2
    assert host.remarks() == ["host-disk"]


def test_capacity_is_accounted_for(host: Host) -> None:
    before = controller_of(host)
    assert before.TNVMCAP - before.UNVMCAP == 4096 * 512
    host.admin(create(host, 1000))
    assert before.UNVMCAP - controller_of(host).UNVMCAP == 1000 * 512
    rest = controller_of(host).UNVMCAP // 512
    assert host.do(create(host, rest + 1)).status == Status.NAMESPACE_INSUFFICIENT_CAPACITY
    host.admin(create(host, rest))
    assert controller_of(host).UNVMCAP == 0
    host.admin(nvme.NamespaceManagement.of(SEL=1, NSID=ALL))
    assert controller_of(host).UNVMCAP == before.TNVMCAP


# -- doorbells, interrupts, events ----------------------------------------------------------------------------------


def test_doorbell_errors_leave_an_entry_about_no_command(host: Host) -> None:
    host.ring(700, completion=False, value=0)
    entry = ErrorInformation(host.data(nvme.GetLogPage.reading(Lid.ERROR_INFORMATION, 64), 64))
    assert (entry.ERROR_COUNT, entry.SQID, entry.CID, entry.PEL) == (1, 0xFFFF, 0xFFFF, 0xFFFF)


def test_ineffective_doorbells_keep_their_queue(make_host: MakeHost) -> None:
    host = make_host(Fault(name="f", behaviour="removed", armed=False)).up()
    host.device.device.arm("f")
    host.ring(1, completion=True, value=0)
    host.function.write(0x100A, 4, 0)
    last = [event for event in host.events() if isinstance(event, Doorbell)][-2:]
    assert [(event.qid, event.completion) for event in last] == [(1, True), (-1, False)]


def test_a_message_that_the_mask_held_back_is_sent_when_it_is_cleared(make_host: MakeHost) -> None:
    host = make_host()
    host.function.config_write(0x52, 2, 0x0031)  # MSI, eight messages
    host.up()
    host.function.write(INTMS.OFFSET, 4, 0b10)
    host.submit(nvme.Flush.of(NSID=1), 1)
    host.function.write(INTMC.OFFSET, 4, 0b10)
    host.function.write(INTMC.OFFSET, 4, 0b10)
    assert len(host.completions(1)) == 1
    host.function.write(INTMS.OFFSET, 4, 0b10)
    host.submit(nvme.Flush.of(NSID=1), 1)
    assert len(host.completions(1)) == 1, "polled"
    host.function.write(INTMC.OFFSET, 4, 0b10)
    seen = [(event.how, event.vector) for event in host.events() if isinstance(event, Interrupt)]
    assert seen.count(("msi", 1)) == 1, "no status, no message"


def test_interrupt_status_of_the_function(make_host: MakeHost) -> None:
    host = make_host(vectors=0)
    host.enable()
    host.create_queues(vector=0)
    assert not host.function.config_read(6, 2) & 8
    host.submit(nvme.Flush.of(NSID=1), 1)
    assert host.function.config_read(6, 2) & 8
    host.completions(1)
    assert not host.function.config_read(6, 2) & 8


def test_a_warning_that_is_there_is_reported_when_it_is_asked_for(host: Host) -> None:
    host.device.device.warn("nv0", 0b100)
    host.submit(nvme.AsyncEventRequest.of())
    assert host.completions() == []
    host.submit(nvme.SetFeatures.of(FID=Fid.ASYNC_EVENT_CONFIG, CDW11=0xFF))
    event, _ = host.completions()
    asked = AsyncEvent(event.DW0)
    assert (asked.AET, asked.AEI, asked.LID) == (EventType.SMART, SmartEvent.RELIABILITY, Lid.SMART)


def test_a_vector_is_configured_only_with_a_queue_on_it(host: Host) -> None:
    assert host.do(nvme.SetFeatures.of(FID=Fid.INTERRUPT_VECTOR_CONFIG, CDW11=0x1_0001)).ok
    assert host.do(nvme.SetFeatures.of(FID=Fid.INTERRUPT_VECTOR_CONFIG, CDW11=0x1_0002)).status == Status.INVALID_FIELD
    assert host.remarks() == ["vector-unused"]


@pytest.mark.parametrize(("sizes", "status"), [({}, Status.QUEUE_SIZE_INVALID), ({"IOCQES": 5}, Status.INVALID_FIELD)])
def test_entry_sizes_that_were_never_set(make_host: MakeHost, sizes: dict[str, int], status: Status) -> None:
    host = make_host()
    host.enable(cc=CC.of(EN=1, **sizes))
    assert host.do(nvme.CreateIoCq.of(QID=1, QSIZE=3, PC=1, PRP1=host.pages())).status == status


# -- features -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("select", [nvme.Select.DEFAULT, nvme.Select.SAVED])
def test_the_default_of_a_feature_with_data_is_returned(host: Host, select: int) -> None:
    buffer = host.pages()
    host.poke(buffer, b"\x01" * 512)
    host.admin(nvme.SetFeatures.of(FID=Fid.HOST_BEHAVIOR_SUPPORT, PRP1=buffer))
    assert host.data(nvme.GetFeatures.of(FID=Fid.HOST_BEHAVIOR_SUPPORT), 512) == b"\x01" * 512
    host.poke(buffer, b"\xee" * 512)
    host.admin(nvme.GetFeatures.of(FID=Fid.HOST_BEHAVIOR_SUPPORT, SEL=select, PRP1=buffer))
    assert host.peek(buffer, 512) == bytes(512)


def test_the_timestamp_counts_from_the_reset_until_the_host_sets_it(host: Host) -> None:
    host.device.device.clock.advance(3)
    first = Timestamp(host.data(nvme.GetFeatures.of(FID=Fid.TIMESTAMP), 8))
    assert first.ORIGIN == 0
    assert 3000 <= first.TIMESTAMP < 60_000
    buffer = host.pages()
    host.poke(buffer, Timestamp.of(TIMESTAMP=1_700_000_000_000))
    host.admin(nvme.SetFeatures.of(FID=Fid.TIMESTAMP, PRP1=buffer))
    host.device.device.clock.advance(2)
    then = Timestamp(host.data(nvme.GetFeatures.of(FID=Fid.TIMESTAMP), 8))
    assert then.ORIGIN == 1
    assert 2000 <= then.TIMESTAMP - 1_700_000_000_000 < 60_000


def test_keep_alive_is_rounded_up_and_restarted_and_fatal_in_the_end(make_host: MakeHost) -> None:
    host = make_host(identify={"KAS": 10}).up()
    host.admin(nvme.SetFeatures.of(FID=Fid.KEEP_ALIVE_TIMER, CDW11=1500))
    assert host.admin(nvme.GetFeatures.of(FID=Fid.KEEP_ALIVE_TIMER)).DW0 == 2000
    for _ in range(3):
        assert not host.device.wait(1.9)
        host.admin(nvme.KeepAlive.of())
    assert host.device.wait(2)
    assert host.csts.CFS
    host.disable()
    host.up()
    entry = ErrorInformation(host.data(nvme.GetLogPage.reading(Lid.ERROR_INFORMATION, 64), 64))
    assert (entry.SQID, entry.STATUS) == (0xFFFF, Status.KEEP_ALIVE_EXPIRED)
    assert not host.device.wait(10), "a reset ends the timer"


def test_keep_alive_can_be_switched_off(make_host: MakeHost) -> None:
    host = make_host(identify={"KAS": 1}).up()
    host.admin(nvme.SetFeatures.of(FID=Fid.KEEP_ALIVE_TIMER, CDW11=100))
    host.admin(nvme.SetFeatures.of(FID=Fid.KEEP_ALIVE_TIMER, CDW11=0))
    assert not host.device.wait(10)
    assert host.do(nvme.KeepAlive.of()).ok


def test_without_kas_there_is_no_keep_alive(host: Host) -> None:
    assert host.do(nvme.KeepAlive.of()).status == Status.INVALID_OPCODE
    assert host.do(nvme.GetFeatures.of(FID=Fid.KEEP_ALIVE_TIMER)).status == Status.INVALID_FIELD


# -- transfers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mdts", [1, 0])
def test_a_log_page_of_16_gib_is_refused_at_once(make_host: MakeHost, mdts: int) -> None:
    host = make_host(mdts=mdts).up()
    command = nvme.GetLogPage.of(LID=Lid.SMART, NUMDL=0xFFFF, NUMDU=0xFFFF, PRP1=host.pages(), PRP2=host.pages())
    assert host.do(command).status == Status.INVALID_FIELD
    assert host.remarks() == ["mdts"]


def test_mdts_counts_metadata_between_the_blocks(make_host: MakeHost) -> None:
    host = make_host(mdts=1, namespaces=(Namespace(blocks=64, metadata_size=8),)).up()
    command = nvme.Read.of(NSID=1, NLB=15, PRP1=host.pages(2), MPTR=host.pages())
    assert host.do(command.but(PRP2=command.PRP1 + 4096), 1).ok, "8 KiB of data, and metadata elsewhere"
    host.admin(nvme.FormatNvm.of(NSID=1, LBAFL=2, MSET=1))
    assert host.do(command.but(PRP2=command.PRP1 + 4096, MPTR=0), 1).status == Status.INVALID_FIELD
    assert "mdts" in host.remarks()


@pytest.mark.parametrize(("alignment", "address", "ok"), [(1, 2, True), (2, 2, False), (2, 4, True)])
def test_data_blocks_that_must_be_dword_aligned(make_host: MakeHost, alignment: int, address: int, ok: bool) -> None:
    host = make_host(sgl=True, identify={"SGLS": alignment}).up()
    buffer = host.pages(2) + address
    descriptor = buffer.to_bytes(8, "little") + (512).to_bytes(4, "little") + bytes(4)
    completion = host.do(nvme.Read.of(NSID=1, PSDT=1, SGL1=descriptor), 1)
    assert completion.status == (Status.SUCCESS if ok else Status.SGL_GRANULARITY_INVALID)


def test_a_queue_may_lie_at_address_0(make_host: MakeHost) -> None:
    host = make_host().up()
    assert host.do(nvme.CreateIoCq.of(QID=2, QSIZE=1, PC=1, PRP1=0)).ok, "0 is an address like any other"
    assert host.remarks() == ["cq-memory"]


# -- fused operations -----------------------------------------------------------------------------------------------


@pytest.fixture
def fused(make_host: MakeHost) -> Host:
    """Return the host of a device that has fused Compare and Write."""
    return make_host(identify={"FUSES": 1}).up()


def pair(host: Host, old: bytes, new: bytes, *, lba: int = 3, second_lba: int = 3) -> list[nvme.Command]:
    """Return the commands that replace the block ``old`` by ``new``."""
    buffers = host.pages(2)
    host.poke(buffers, old.ljust(512, b"\0"))
    host.poke(buffers + 4096, new.ljust(512, b"\0"))
    return [
        nvme.Compare.of(NSID=1, SLBA=lba, PRP1=buffers, FUSE=1, CID=100),
        nvme.Write.of(NSID=1, SLBA=second_lba, PRP1=buffers + 4096, FUSE=2, CID=101),
    ]


def statuses(host: Host) -> list[tuple[int, int]]:
    return [(completion.CID, completion.status) for completion in host.completions(1)]


def test_compare_and_write_replaces_what_is_there(fused: Host) -> None:
    first, second = pair(fused, b"", b"new")
    fused.submit(first, 1)
    assert fused.completions(1) == [], "it waits for its second command"
    fused.submit(second, 1)
    assert statuses(fused) == [(100, 0), (101, 0)]
    assert fused.data(nvme.Read.of(NSID=1, SLBA=3), 512, qid=1)[:3] == b"new"
    for command in pair(fused, b"old", b"newer"):
        fused.submit(command, 1, ring=False)
    fused.ring(1, completion=False, value=fused.rings[1].tail)
    assert statuses(fused) == [(100, Status.COMPARE_FAILURE), (101, Status.ABORTED_FAILED_FUSED)]
    assert fused.data(nvme.Read.of(NSID=1, SLBA=3), 512, qid=1)[:5] == b"new\0\0"
    assert fused.remarks() == []


def test_half_a_pair_is_aborted_and_others_go_on(fused: Host) -> None:
    first, second = pair(fused, b"", b"new")
    fused.submit(first, 1)
    fused.submit(nvme.Flush.of(NSID=1, CID=102), 1)
    fused.submit(second, 1)
    missing = Status.ABORTED_MISSING_FUSED
    assert statuses(fused) == [(100, missing), (102, 0), (101, missing)]
    assert fused.remarks() == ["fused-pair", "fused-pair"]


def test_a_pair_over_other_blocks_is_refused(fused: Host) -> None:
    for command in pair(fused, b"", b"new", second_lba=4):
        fused.submit(command, 1)
    assert statuses(fused) == [(100, Status.INVALID_FIELD), (101, Status.INVALID_FIELD)]


def test_a_first_command_does_not_outlive_a_reset(fused: Host) -> None:
    first, second = pair(fused, b"", b"new")
    fused.submit(first, 1)
    fused.disable()
    fused.up()
    fused.submit(second, 1)
    assert statuses(fused) == [(101, Status.ABORTED_MISSING_FUSED)]


def test_without_fuses_there_are_no_fused_operations(host: Host) -> None:
    for command in pair(host, b"", b"new"):
        host.submit(command, 1)
    assert statuses(host) == [(100, Status.INVALID_FIELD), (101, Status.INVALID_FIELD)]
    assert host.remarks() == ["fuse", "fuse"]


# -- logs and LBA status --------------------------------------------------------------------------------------------


def test_smart_is_kept_per_namespace_where_lpa_says_so(make_host: MakeHost) -> None:
    two = (Namespace(blocks=64), Namespace(nsid=2, blocks=64))
    host = make_host(namespaces=two, identify={"LPA": 0b111}).up()
    for nsid in (1, 2, 2):
        host.admin(nvme.Read.of(NSID=nsid, PRP1=host.pages()), 1)
    host.admin(nvme.Write.of(NSID=1, PRP1=host.pages()), 1)
    found = {}
    for nsid in (1, 2, ALL):
        smart = Smart(host.data(nvme.GetLogPage.reading(Lid.SMART, 512, NSID=nsid), 512))
        found[nsid] = smart.HOST_READS, smart.HOST_WRITES, smart.DATA_UNITS_READ
    assert found == {1: (1, 1, 1), 2: (2, 0, 1), ALL: (3, 1, 1)}


def test_lba_status_names_what_cannot_be_read(make_host: MakeHost) -> None:
    host = make_host(identify={"OACS": 1 << 9}).up()
    for lba, blocks in ((10, 5), (100, 1), (15, 2)):
        host.admin(nvme.WriteUncorrectable.of(NSID=1, SLBA=lba, NLB=blocks - 1), 1)
    asked = nvme.GetLbaStatus.of(NSID=1, MNDW=1023, ATYPE=0x10)

    def ranges(command: nvme.Command) -> tuple[int, list[tuple[int, int]]]:
        data = host.data(command)
        head = LbaStatus(data)
        entries = [LbaStatusDescriptor(data[8 + 16 * n :]) for n in range(head.NLSD)]
        return head.CMPC, [(entry.DSLBA, entry.NLB + 1) for entry in entries if entry.STATUS == 3]

    assert ranges(asked) == (2, [(10, 7), (100, 1)])
    assert ranges(asked.but(SLBA=12, RL=3)) == (2, [(12, 3)])
    assert ranges(asked.but(MNDW=5)) == (1, [(10, 7)]), "there is room for one"
    assert host.do(asked.but(SLBA=4096, PRP1=host.pages())).status == Status.LBA_OUT_OF_RANGE
    assert host.do(asked.but(ATYPE=1, PRP1=host.pages())).status == Status.INVALID_FIELD


# -- the function ---------------------------------------------------------------------------------------------------


def test_without_memory_space_nothing_answers(make_host: MakeHost) -> None:
    host = make_host()
    host.function.config_write(4, 2, 0)
    assert host.csts == 0xFFFF_FFFF
    host.function.write(CC.OFFSET, 4, READY)
    host.memory_space()
    assert CC(host.read(CC)) == 0
    assert host.remarks() == ["access-without-memory-space"] * 2


def test_a_function_in_d3hot_neither_answers_nor_reaches_memory(host: Host) -> None:
    host.function.config_write(0x44, 2, 3)
    assert host.csts == 0xFFFF_FFFF
    host.submit(nvme.Flush.of(NSID=1), 1)
    host.function.config_write(0x44, 2, 0)
    assert host.csts.RDY, "No_Soft_Reset: it is as it was"
    assert host.completions(1) == []
    host.ring(1, completion=False, value=host.rings[1].tail)
    assert len(host.completions(1)) == 1
    events = host.events()
    assert any(isinstance(event, ConfigWrite) and event.offset == 0x44 for event in events)


def test_flush_of_all_namespaces_is_announced_from_version_1_4_on(make_host: MakeHost) -> None:
    announced = {}
    for version, cache in (("1.3", True), ("1.4", True), ("1.4", False), ("2.0", True)):
        host = make_host(version=version, write_cache=cache).up()
        announced[version, cache] = controller_of(host).VWC.FLUSH_BROADCAST
    assert announced == {("1.3", True): 0, ("1.4", True): 3, ("1.4", False): 3, ("2.0", True): 3}


def test_many_commands_of_one_doorbell_are_executed_in_batches(make_host: MakeHost) -> None:
    host = make_host(cap={"MQES": 4095})
    host.enable()
    host.create_queues(entries=4096)
    for _ in range(3000):
        host.submit(nvme.Flush.of(NSID=1), 1, ring=False)
    host.ring(1, completion=False, value=3000)
    assert len(host.completions(1, ring=False)) == 1024
    while host.device.wait(1):
        pass
    assert len(host.completions(1)) == 3000 - 1024
    assert CSTS(host.csts).RDY
