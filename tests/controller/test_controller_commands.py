"""Each admin and I/O command: what it does, and what it answers when it cannot."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from lab.data.events import Remark
from lab.data.plan import Namespace
from lab.nvme import commands as nvme
from lab.nvme.async_events import AsyncEvent, EventType, NoticeEvent, SmartEvent
from lab.nvme.features import Fid, Timestamp
from lab.nvme.identify import (
    Cns,
    ControllerList,
    IdentifyController,
    IdentifyNamespace,
    NamespaceList,
    NamespaceManagementData,
    namespace_descriptors,
)
from lab.nvme.logs import ChangedNamespaces, CommandsSupported, ErrorInformation, FirmwareSlots, Lid, Smart
from lab.nvme.ranges import CopyRange, DsmRange, encode_ranges
from lab.nvme.status import Status

if TYPE_CHECKING:
    from tests.controller.conftest import Host, MakeHost

PAGE = 4096
BROADCAST = nvme.BROADCAST_NSID


def block(host: Host, lba: int) -> bytes:
    return host.data(nvme.Read.of(NSID=1, SLBA=lba), 512, qid=1)


def put(host: Host, lba: int, data: bytes, **fields: int) -> None:
    buffer = host.pages(-(-len(data) // PAGE))
    host.poke(buffer, data)
    prp2 = buffer + PAGE if len(data) > PAGE else 0
    host.admin(nvme.Write.of(NSID=1, SLBA=lba, NLB=len(data) // 512 - 1, PRP1=buffer, PRP2=prp2, **fields), 1)


# -- Identify -------------------------------------------------------------------------------------------------------


def test_identify_controller(host: Host) -> None:
    found = IdentifyController(host.data(nvme.Identify.of(CNS=Cns.CONTROLLER)))
    assert (found.SN, found.VER.text, found.MDTS, found.CNTRLTYPE) == ("LAB1", "1.4", 7, 1)
    assert found.VWC.PRESENT
    assert found.ONCS.COPY
    assert not found.reserved
    assert host.remarks() == []


def test_identify_namespace(make_host: MakeHost) -> None:
    host = make_host(namespaces=(Namespace(blocks=1 << 31, block_size=4096, nguid="0" * 31 + "1", eui64=0x1122334455667788),))
    host.up()
    found = IdentifyNamespace(host.data(nvme.Identify.of(CNS=Cns.NAMESPACE, NSID=1)))
    assert (found.NSZE, found.block_size, found.format.MS) == (1 << 31, 4096, 0)
    assert found.NGUID[-1] == 1
    assert found.EUI64 == bytes.fromhex("1122334455667788")
    assert len(found.formats) == 4
    assert not found.reserved


def test_an_inactive_namespace_is_zeros_and_an_invalid_one_an_error(host: Host) -> None:
    assert not any(host.data(nvme.Identify.of(CNS=Cns.NAMESPACE, NSID=2)))
    for nsid in (0, 1025, BROADCAST - 1):
        assert host.do(nvme.Identify.of(CNS=Cns.NAMESPACE, NSID=nsid, PRP1=host.pages())).status == Status.INVALID_NAMESPACE


def test_what_namespaces_have_in_common(host: Host) -> None:
    common = IdentifyNamespace(host.data(nvme.Identify.of(CNS=Cns.NAMESPACE, NSID=BROADCAST)))
    assert common.NSZE == 0
    assert len(common.formats) == 4


def test_active_namespaces_from_an_id_on(make_host: MakeHost) -> None:
    host = make_host(namespaces=tuple(Namespace(nsid=n, blocks=8) for n in (1, 3, 700))).up()
    assert NamespaceList(host.data(nvme.Identify.of(CNS=Cns.ACTIVE_NAMESPACES))).ids == (1, 3, 700)
    assert NamespaceList(host.data(nvme.Identify.of(CNS=Cns.ACTIVE_NAMESPACES, NSID=3))).ids == (700,)
    bad = host.do(nvme.Identify.of(CNS=Cns.ACTIVE_NAMESPACES, NSID=BROADCAST, PRP1=host.pages()))
    assert bad.status == Status.INVALID_NAMESPACE


def test_namespace_descriptors(make_host: MakeHost) -> None:
    id = str(uuid.UUID(int=7))
    host = make_host(namespaces=(Namespace(blocks=8, uuid=id),), version="2.0").up()
    found = namespace_descriptors(host.data(nvme.Identify.of(CNS=Cns.NAMESPACE_DESCRIPTORS, NSID=1)))
    assert found == [(3, uuid.UUID(int=7).bytes), (4, b"\0")]


@pytest.mark.parametrize(
    ("version", "cns", "there"),
    [("1.0", 2, False), ("1.1", 2, True), ("1.2", 3, False), ("1.4", 3, True), ("1.3", 6, False), ("1.4", 6, True),
     ("2.0", 0x1C, True), ("2.0", 0x40, False)],
)  # fmt: skip
def test_structures_come_with_their_version(make_host: MakeHost, version: str, cns: int, there: bool) -> None:
    host = make_host(version=version).up()
    completion = host.do(nvme.Identify.of(CNS=cns, NSID=1 if cns == 3 else 0, PRP1=host.pages()))
    assert completion.status == (0 if there else Status.INVALID_FIELD)


@pytest.mark.parametrize("cns", [5, 7, 8, 0x10, 0x11, 0x12, 0x13])
def test_the_rarer_structures_answer(make_host: MakeHost, cns: int) -> None:
    host = make_host(version="2.0").up()
    needs = {5: 1, 8: 1, 0x11: 1, 0x12: 1}
    assert len(host.data(nvme.Identify.of(CNS=cns, NSID=needs.get(cns, 0)))) == PAGE
    assert host.remarks() == []


def test_a_stale_namespace_id_is_remarked(host: Host) -> None:
    host.data(nvme.Identify.of(CNS=Cns.CONTROLLER, NSID=1))
    assert host.remarks() == ["nsid-unused"]


# -- Features -------------------------------------------------------------------------------------------------------


def test_number_of_queues_is_granted_once(make_host: MakeHost) -> None:
    host = make_host(io_queues=3)
    host.enable()
    assert host.admin(nvme.SetFeatures.of(FID=Fid.NUMBER_OF_QUEUES, CDW11=0x0063_0063)).DW0 == 0x0002_0002
    assert host.admin(nvme.GetFeatures.of(FID=Fid.NUMBER_OF_QUEUES)).DW0 == 0x0002_0002
    refused = host.do(nvme.SetFeatures.of(FID=Fid.NUMBER_OF_QUEUES, CDW11=0xFFFF))
    assert refused.status == Status.INVALID_FIELD
    host.create_queues()
    late = host.do(nvme.SetFeatures.of(FID=Fid.NUMBER_OF_QUEUES, CDW11=0))
    assert late.status == Status.COMMAND_SEQUENCE_ERROR


@pytest.mark.parametrize(
    ("fid", "value"),
    [
        (Fid.ARBITRATION, 3),
        (Fid.TEMPERATURE_THRESHOLD, 350),
        (Fid.INTERRUPT_COALESCING, 0x0102),
        (Fid.ASYNC_EVENT_CONFIG, 0x1FF),
        (Fid.WRITE_ATOMICITY, 1),
    ],
)
def test_values_are_kept_until_a_reset(host: Host, fid: Fid, value: int) -> None:
    default = host.admin(nvme.GetFeatures.of(FID=fid)).DW0
    host.admin(nvme.SetFeatures.of(FID=fid, CDW11=value))
    assert host.admin(nvme.GetFeatures.of(FID=fid)).DW0 == value != default
    assert host.admin(nvme.GetFeatures.of(FID=fid, SEL=1)).DW0 == default
    assert host.admin(nvme.GetFeatures.of(FID=fid, SEL=3)).DW0 & 4, "changeable"
    host.disable()
    host.enable()
    assert host.admin(nvme.GetFeatures.of(FID=fid)).DW0 == default


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (nvme.GetFeatures.of(FID=0x7B), Status.INVALID_FIELD),
        (nvme.SetFeatures.of(FID=0x7B), Status.INVALID_FIELD),
        (nvme.SetFeatures.of(FID=Fid.ARBITRATION, SV=1), Status.FEATURE_NOT_SAVEABLE),
        (nvme.SetFeatures.of(FID=Fid.ARBITRATION, NSID=1), Status.FEATURE_NOT_NAMESPACE_SPECIFIC),
        (nvme.SetFeatures.of(FID=Fid.POWER_MANAGEMENT, CDW11=3), Status.INVALID_FIELD),
        (nvme.GetFeatures.of(FID=Fid.ERROR_RECOVERY, NSID=2), Status.INVALID_FIELD),
        (nvme.GetFeatures.of(FID=Fid.ARBITRATION, SEL=5), Status.INVALID_FIELD),
        (nvme.GetFeatures.of(FID=Fid.INTERRUPT_VECTOR_CONFIG, CDW11=99), Status.INVALID_FIELD),
    ],
)
def test_features_that_cannot_be(host: Host, command: nvme.Command, status: Status) -> None:
    assert host.do(command).status == status


def test_the_timestamp_moves_data(host: Host) -> None:
    buffer = host.pages()
    host.poke(buffer, Timestamp.of(TIMESTAMP=1_000_000))
    host.admin(nvme.SetFeatures.of(FID=Fid.TIMESTAMP, PRP1=buffer))
    found = Timestamp(host.data(nvme.GetFeatures.of(FID=Fid.TIMESTAMP), 8))
    assert 1_000_000 <= found.TIMESTAMP < 1_060_000
    assert found.ORIGIN == 1


def test_a_protected_namespace(host: Host) -> None:
    host.admin(nvme.SetFeatures.of(FID=Fid.NAMESPACE_WRITE_PROTECTION, NSID=1, CDW11=1))
    assert host.do(nvme.Write.of(NSID=1, PRP1=host.pages()), 1).status == Status.NAMESPACE_WRITE_PROTECTED
    host.admin(nvme.SetFeatures.of(FID=Fid.NAMESPACE_WRITE_PROTECTION, NSID=1))
    assert host.do(nvme.Write.of(NSID=1, PRP1=host.pages()), 1).ok


# -- Log pages ------------------------------------------------------------------------------------------------------


def log(host: Host, lid: int, length: int = 512, **fields: int) -> bytes:
    return host.data(nvme.GetLogPage.reading(lid, length, **fields), length)


def test_smart_counts(host: Host) -> None:
    put(host, 0, bytes(4096))
    block(host, 0)
    found = Smart(log(host, Lid.SMART, NSID=BROADCAST))
    assert (found.HOST_READS, found.HOST_WRITES, found.DATA_UNITS_WRITTEN) == (1, 1, 1)
    assert found.celsius == 40
    assert found.AVAILABLE_SPARE == 100
    assert not found.reserved


def test_an_error_is_in_the_log_and_says_so(host: Host) -> None:
    failed = host.do(nvme.Read.of(NSID=1, SLBA=9999, CID=42, PRP1=host.pages()), 1)
    assert failed.status == Status.LBA_OUT_OF_RANGE
    assert failed.M
    assert failed.DNR
    entry = ErrorInformation(log(host, Lid.ERROR_INFORMATION, 64))
    assert (entry.ERROR_COUNT, entry.SQID, entry.CID, entry.LBA, entry.NSID) == (1, 1, 42, 9999, 1)
    assert entry.status == Status.LBA_OUT_OF_RANGE


def test_the_other_pages(host: Host) -> None:
    assert FirmwareSlots(log(host, Lid.FIRMWARE_SLOT)).FRS1 == "1.0"
    effects = CommandsSupported(log(host, Lid.COMMANDS_SUPPORTED, 4096))
    assert effects.ACS[6].CSUPP
    assert effects.IOCS[1].LBCC
    assert not effects.IOCS[0x0D].CSUPP
    assert ChangedNamespaces(log(host, Lid.CHANGED_NAMESPACES, 4096)).ids == ()
    assert log(host, Lid.SMART, 256, offset=256) == log(host, Lid.SMART)[256:]


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (nvme.GetLogPage.reading(0x7E, 512), Status.LOG_PAGE_INVALID),
        (nvme.GetLogPage.reading(Lid.SMART, 512, offset=4096), Status.INVALID_FIELD),
        (nvme.GetLogPage.reading(Lid.SMART, 512, NSID=1), Status.INVALID_FIELD),
        (nvme.GetLogPage.reading(Lid.SMART, 512, OT=1), Status.INVALID_FIELD),
    ],
)
def test_log_pages_that_cannot_be(host: Host, command: nvme.Command, status: Status) -> None:
    assert host.do(command.but(PRP1=host.pages())).status == status


# -- Abort, events --------------------------------------------------------------------------------------------------


def test_abort(host: Host) -> None:
    host.submit(nvme.AsyncEventRequest.of(CID=70))
    host.submit(nvme.Abort.of(SQID=0, ABORT_CID=70, CID=71))
    aborted, abort = host.completions()
    assert (aborted.CID, aborted.status) == (70, Status.ABORT_REQUESTED)
    assert (abort.CID, abort.DW0 & 1) == (71, 0)
    assert host.admin(nvme.Abort.of(SQID=0, ABORT_CID=70)).DW0 & 1 == 1, "there is none any more"
    assert host.do(nvme.Abort.of(SQID=9, ABORT_CID=1)).status == Status.INVALID_FIELD


def test_as_many_event_requests_as_the_limit_allows(host: Host) -> None:
    for _ in range(4):
        host.submit(nvme.AsyncEventRequest.of())
    assert host.completions() == []
    assert host.do(nvme.AsyncEventRequest.of()).status == Status.ASYNC_EVENT_LIMIT_EXCEEDED
    assert host.remarks() == ["aer-limit"]


def test_namespaces_change_and_the_host_hears_of_it(make_host: MakeHost) -> None:
    host = make_host(namespaces=(Namespace(blocks=8), Namespace(nsid=2, blocks=8, attached=False))).up()
    host.device.device.attach("nv0", 2)
    host.device.device.detach("nv0", 2)
    host.submit(nvme.AsyncEventRequest.of())
    assert host.completions() == [], "it did not ask for the event"
    host.admin(nvme.SetFeatures.of(FID=Fid.ASYNC_EVENT_CONFIG, CDW11=1 << 8))
    host.device.device.attach("nv0", 2)
    (reported,) = host.completions()
    event = AsyncEvent(reported.DW0)
    assert (event.AET, event.AEI, event.LID) == (EventType.NOTICE, NoticeEvent.NAMESPACE_ATTRIBUTE_CHANGED, 4)
    host.submit(nvme.AsyncEventRequest.of())
    host.device.device.detach("nv0", 2)
    assert host.completions() == [], "masked until the log page was read"
    assert ChangedNamespaces(log(host, Lid.CHANGED_NAMESPACES, 4096, RAE=1)).ids == (2,)
    assert host.completions() == []
    buffer = host.pages()
    host.submit(nvme.GetLogPage.reading(Lid.CHANGED_NAMESPACES, 4096).but(PRP1=buffer))
    assert [bool(c.DW0) for c in host.completions()] == [True, False], "and reported after it"


def test_a_critical_warning(host: Host) -> None:
    host.admin(nvme.SetFeatures.of(FID=Fid.ASYNC_EVENT_CONFIG, CDW11=0b10))
    host.submit(nvme.AsyncEventRequest.of())
    host.device.device.warn("nv0", 0b01)
    assert host.completions() == [], "not asked for"
    host.device.device.warn("nv0", 0b11)
    (reported,) = host.completions()
    assert (AsyncEvent(reported.DW0).AET, AsyncEvent(reported.DW0).AEI) == (EventType.SMART, SmartEvent.TEMPERATURE)
    assert Smart(log(host, Lid.SMART)).CRITICAL_WARNING == 0b11


# -- Namespace management -------------------------------------------------------------------------------------------


def test_a_namespace_is_made_attached_used_and_deleted(host: Host) -> None:
    buffer = host.pages()
    host.poke(buffer, NamespaceManagementData.of(NSZE=64, NCAP=64, FLBAS=1))
    nsid = host.admin(nvme.NamespaceManagement.of(SEL=0, PRP1=buffer)).DW0
    assert nsid == 2
    assert host.do(nvme.Read.of(NSID=2, PRP1=host.pages()), 1).status == Status.INVALID_FIELD
    host.poke(buffer, ControllerList.holding([0]))
    attach = nvme.NamespaceAttachment.of(SEL=0, NSID=2, PRP1=buffer)
    host.admin(attach)
    assert host.do(attach).status == Status.NAMESPACE_ALREADY_ATTACHED
    assert len(host.data(nvme.Read.of(NSID=2, SLBA=63), 4096, qid=1)) == 4096
    host.admin(attach.but(SEL=1))
    assert host.do(attach.but(SEL=1)).status == Status.NAMESPACE_NOT_ATTACHED
    host.admin(nvme.NamespaceManagement.of(SEL=1, NSID=2))
    assert NamespaceList(host.data(nvme.Identify.of(CNS=Cns.ALLOCATED_NAMESPACES))).ids == (1,)
    host.poke(buffer, ControllerList.holding([9]))
    assert host.do(attach.but(NSID=1)).status == Status.CONTROLLER_LIST_INVALID


@pytest.mark.parametrize(
    ("wanted", "status"),
    [
        (NamespaceManagementData.of(NSZE=64, NCAP=64, FLBAS=9), Status.FORMAT_INVALID),
        (NamespaceManagementData.of(NSZE=0, NCAP=0), Status.INVALID_FIELD),
        (NamespaceManagementData.of(NSZE=64, NCAP=32), Status.THIN_PROVISIONING_NOT_SUPPORTED),
    ],
)
def test_namespaces_that_cannot_be_made(host: Host, wanted: bytes, status: Status) -> None:
    buffer = host.pages()
    host.poke(buffer, wanted)
    assert host.do(nvme.NamespaceManagement.of(PRP1=buffer)).status == status


def test_format(host: Host) -> None:
    put(host, 0, b"x" * 512)
    host.admin(nvme.FormatNvm.of(NSID=1, LBAFL=1, SES=1))
    found = IdentifyNamespace(host.data(nvme.Identify.of(CNS=Cns.NAMESPACE, NSID=1)))
    assert (found.NSZE, found.block_size) == (512, 4096)
    assert not any(host.data(nvme.Read.of(NSID=1), 4096, qid=1))
    assert host.do(nvme.FormatNvm.of(NSID=1, LBAFL=9)).status == Status.FORMAT_INVALID
    assert host.do(nvme.FormatNvm.of(NSID=1, PI=1)).status == Status.FORMAT_INVALID
    assert host.do(nvme.FormatNvm.of(NSID=7)).status == Status.INVALID_FIELD


# -- I/O ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lba", [0, 1, 4095])
def test_write_and_read(host: Host, lba: int) -> None:
    put(host, lba, bytes([lba & 0xFF]) * 512)
    assert block(host, lba) == bytes([lba & 0xFF]) * 512
    image = host.function.controller.attached[1].image.read_bytes()
    assert image[lba * 512 :][:512] == bytes([lba & 0xFF]) * 512


def test_beyond_32_bits(make_host: MakeHost) -> None:
    host = make_host(namespaces=(Namespace(blocks=(1 << 32) + 16),)).up()
    put(host, (1 << 32) + 8, b"high".ljust(512))
    assert block(host, (1 << 32) + 8)[:4] == b"high"
    assert not any(block(host, 8))


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (nvme.Read.of(NSID=1, SLBA=4096), Status.LBA_OUT_OF_RANGE),
        (nvme.Read.of(NSID=1, SLBA=4095, NLB=1), Status.LBA_OUT_OF_RANGE),
        (nvme.Write.of(NSID=1, SLBA=1 << 63, NLB=1), Status.LBA_OUT_OF_RANGE),
        (nvme.Read.of(NSID=0), Status.INVALID_NAMESPACE),
        (nvme.Read.of(NSID=BROADCAST), Status.INVALID_NAMESPACE),
        (nvme.Read.of(NSID=3), Status.INVALID_FIELD),
        (nvme.Flush.of(NSID=0), Status.INVALID_NAMESPACE),
        (nvme.Read.of(NSID=1, NLB=1024), Status.INVALID_FIELD),
        (nvme.Read.of(NSID=1, FUSE=1), Status.INVALID_FIELD),
        (nvme.Read.of(NSID=1, PSDT=3), Status.INVALID_FIELD),
        (nvme.Command.of(OPC=0x7D, NSID=1), Status.INVALID_OPCODE),
        (nvme.WriteZeroes.of(NSID=1, SLBA=4095, NLB=1), Status.LBA_OUT_OF_RANGE),
    ],
)
def test_io_that_cannot_be(host: Host, command: nvme.Command, status: Status) -> None:
    completion = host.do(command if command.PSDT else command.but(PRP1=host.pages()), 1)
    assert completion.status == status
    assert completion.DNR


def test_an_unknown_admin_opcode(host: Host) -> None:
    assert host.do(nvme.Command.of(OPC=0xC3)).status == Status.INVALID_OPCODE
    assert host.remarks() == ["opcode"]


def test_reserved_fields_are_remarked_and_ignored(host: Host) -> None:
    host.admin(nvme.Flush.of(NSID=1, CDW2=5), 1)
    host.admin(nvme.Flush.of(NSID=1, CDW15=1 << 31), 1)
    remarks = [event for event in host.events() if isinstance(event, Remark)]
    assert [remark.name for remark in remarks] == ["sqe-reserved", "sqe-reserved"]
    assert remarks[0].detail["bits"] == {"8": 5}
    assert remarks[1].detail["bits"] == {"63": 128}


def test_compare(host: Host) -> None:
    put(host, 4, b"a" * 512)
    buffer = host.pages()
    host.poke(buffer, b"a" * 512)
    assert host.do(nvme.Compare.of(NSID=1, SLBA=4, PRP1=buffer), 1).ok
    host.poke(buffer + 511, b"b")
    assert host.do(nvme.Compare.of(NSID=1, SLBA=4, PRP1=buffer), 1).status == Status.COMPARE_FAILURE


def test_write_zeroes_and_deallocate(host: Host) -> None:
    put(host, 0, b"x" * 4096)
    host.admin(nvme.WriteZeroes.of(NSID=1, SLBA=1, NLB=1), 1)
    ranges = host.pages()
    host.poke(ranges, encode_ranges([DsmRange.of(SLBA=4, LENGTH=1), DsmRange.of(SLBA=6, LENGTH=2)]))
    host.admin(nvme.DatasetManagement.of(NSID=1, NR=1, PRP1=ranges), 1)
    assert [block(host, n)[0:1] for n in range(8)] == [b"x", b"\0", b"\0"] + [b"x"] * 5, "a hint alone changes nothing"
    host.admin(nvme.DatasetManagement.of(NSID=1, NR=1, AD=1, PRP1=ranges), 1)
    assert [block(host, n)[0:1] for n in range(4, 8)] == [b"\0", b"x", b"\0", b"\0"]
    host.poke(ranges, DsmRange.of(SLBA=4095, LENGTH=2))
    assert host.do(nvme.DatasetManagement.of(NSID=1, AD=1, PRP1=ranges), 1).status == Status.LBA_OUT_OF_RANGE


def test_write_uncorrectable_and_verify(host: Host) -> None:
    host.admin(nvme.WriteUncorrectable.of(NSID=1, SLBA=5), 1)
    failed = host.do(nvme.Read.of(NSID=1, SLBA=4, NLB=3, PRP1=host.pages()), 1)
    assert failed.status == Status.READ_ERROR
    assert not failed.DNR
    assert host.do(nvme.Verify.of(NSID=1, SLBA=5), 1).status == Status.READ_ERROR
    put(host, 5, bytes(512))
    assert host.do(nvme.Verify.of(NSID=1, SLBA=5), 1).ok
    assert Smart(log(host, Lid.SMART)).MEDIA_ERRORS == 2


def test_copy(host: Host) -> None:
    put(host, 0, b"a" * 512 + b"b" * 512)
    ranges = host.pages()
    host.poke(ranges, encode_ranges([CopyRange.of(SLBA=1), CopyRange.of(SLBA=0, NLB=1)]))
    host.admin(nvme.Copy.of(NSID=1, SDLBA=100, NR=1, PRP1=ranges), 1)
    assert [block(host, n)[:1] for n in (100, 101, 102)] == [b"b", b"a", b"b"]
    host.poke(ranges, CopyRange.of(SLBA=0, NLB=200))
    assert host.do(nvme.Copy.of(NSID=1, SDLBA=0, PRP1=ranges), 1).status == Status.COMMAND_SIZE_LIMIT_EXCEEDED
    assert host.do(nvme.Copy.of(NSID=1, DESFMT=3, PRP1=ranges), 1).status == Status.INVALID_FIELD


@pytest.mark.parametrize("bit", ["COMPARE", "WRITE_ZEROES", "DATASET_MANAGEMENT", "VERIFY", "COPY", "WRITE_UNCORRECTABLE"])
def test_optional_commands_are_only_there_where_identify_says_so(make_host: MakeHost, bit: str) -> None:
    host = make_host(identify={"ONCS": 0}).up()
    opcode = {"COMPARE": 5, "WRITE_ZEROES": 8, "DATASET_MANAGEMENT": 9, "VERIFY": 12, "COPY": 25, "WRITE_UNCORRECTABLE": 4}[bit]
    assert host.do(nvme.Command.of(OPC=opcode, NSID=1, PRP1=host.pages()), 1).status == Status.INVALID_OPCODE


def test_mdts_is_in_units_of_the_smallest_page(make_host: MakeHost) -> None:
    host = make_host(mdts=1).up()
    buffer = host.pages(2)
    assert host.do(nvme.Read.of(NSID=1, NLB=15, PRP1=buffer, PRP2=buffer + PAGE), 1).ok
    assert host.do(nvme.Read.of(NSID=1, NLB=16, PRP1=buffer, PRP2=buffer + PAGE), 1).status == Status.INVALID_FIELD
    assert host.remarks() == ["mdts"]
