"""PRPs and SGLs walked exactly, data and metadata, and every pointer that breaks a rule. Base 2.0, 4.1."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab.data.events import Dma, PrpList, Remark
from lab.data.plan import Namespace
from lab.data.stream import digest
from lab.nvme import commands as nvme
from lab.nvme import sgl
from lab.nvme.prp import build
from lab.nvme.sgl import Piece, SglDescriptor, SglType
from lab.nvme.status import Status

if TYPE_CHECKING:
    from tests.controller.conftest import Host, MakeHost

PAGE = 4096


def pattern(length: int, seed: int = 0) -> bytes:
    return hashlib.shake_128(bytes([seed])).digest(length)


def problems(host: Host) -> list[str]:
    """Return the PRP problems that were remarked."""
    return [event.detail["problem"] for event in host.events() if isinstance(event, Remark) and event.name == "prp"]


def fill(host: Host, lba: int, blocks: int) -> bytes:
    """Write blocks straight into the image, and return them."""
    data = pattern(blocks * 512, lba & 0xFF)
    next(iter(host.function.controller.attached.values())).write(lba, data, durable=True)
    return data


def scattered(host: Host, count: int) -> list[int]:
    """Pages of which no two neighbours lie side by side."""
    pages = [host.pages() for _ in range(2 * count)]
    return pages[::2][::-1]


@pytest.mark.parametrize("offset", [0, 4, 512, 2048, 4092])
@pytest.mark.parametrize("blocks", [1, 7, 8, 9, 16, 33, 255])
def test_reads_land_where_the_prps_say(host: Host, offset: int, blocks: int) -> None:
    data = fill(host, 64, blocks)
    pages = scattered(host, (offset + len(data)) // PAGE + 1)
    pointers = build(pages, offset, len(data), PAGE, host.pages)
    for address, content in pointers.lists:
        host.poke(address, content)
    host.admin(nvme.Read.of(NSID=1, SLBA=64, NLB=blocks - 1, PRP1=pointers.prp1, PRP2=pointers.prp2), 1)
    landed = b"".join(host.peek(page, PAGE) for page in pages)
    assert landed[offset : offset + len(data)] == data
    assert not any(landed[:offset] + landed[offset + len(data) :]), "and nowhere else"
    assert host.remarks() == []


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(offset=st.integers(0, 1023).map(lambda n: 4 * n), blocks=st.integers(1, 300), lba=st.integers(0, 3000))
def test_what_is_written_is_read_back(host: Host, offset: int, blocks: int, lba: int) -> None:
    host.memory.used = 64 * PAGE  # type: ignore[attr-defined]
    data = pattern(blocks * 512, blocks & 0xFF)
    for direction in (nvme.Write, nvme.Read):
        pages = scattered(host, (offset + len(data)) // PAGE + 1)
        pointers = build(pages, offset, len(data), PAGE, host.pages)
        for address, content in pointers.lists:
            host.poke(address, content)
        if direction is nvme.Write:
            whole = bytes(offset) + data
            for index, page in enumerate(pages):
                host.poke(page, whole[index * PAGE : index * PAGE + PAGE])
        host.admin(direction.of(NSID=1, SLBA=lba, NLB=blocks - 1, PRP1=pointers.prp1, PRP2=pointers.prp2), 1)
    assert b"".join(host.peek(page, PAGE) for page in pages)[offset : offset + len(data)] == data


def test_lists_are_chained_and_recorded(make_host: MakeHost) -> None:
    host = make_host(mdts=0, namespaces=(Namespace(blocks=8192),)).up()
    blocks = 8 * 600  # 600 pages: a list of 512 entries whose last one chains
    pages = scattered(host, 600)
    pointers = build(pages, 0, blocks * 512, PAGE, host.pages)
    for address, content in pointers.lists:
        host.poke(address, content)
    host.admin(nvme.Read.of(NSID=1, NLB=blocks - 1, PRP1=pointers.prp1, PRP2=pointers.prp2), 1)
    lists = [event for event in host.events() if isinstance(event, PrpList)]
    assert [event.address for event in lists] == [address for address, _ in pointers.lists]
    assert [len(event.entries) for event in lists] == [512, 88]
    assert lists[0].entries[511] == lists[1].address


def test_larger_memory_pages(make_host: MakeHost) -> None:
    host = make_host(cap={"MPSMIN": 2, "MPSMAX": 4})
    host.memory.used = (-host.memory.base) % 16384  # type: ignore[attr-defined]
    host.pages(-(getattr(host.memory, "used", 0) // PAGE) % 4)
    base = host.pages(16)
    host.bus_master()
    for offset, size, value in ((0x24, 4, 0x000F000F), (0x28, 8, base), (0x30, 8, base + 16384), (0x14, 4, 0x460101)):
        host.function.write(offset, size, value)
    assert host.csts.RDY
    buffer = base + 32768
    host.poke(base, nvme.Identify.of(CNS=1, CID=1, PRP1=buffer + 12288 - 4096))
    host.ring(0, completion=False, value=1)
    assert host.peek(base + 16384 + 14, 2) == b"\x01\x00"
    assert host.peek(buffer + 12288 - 4096 + 4, 4) == b"LAB1", "4096 bytes at offset 8192 fit one 16 KiB page"
    assert host.remarks() == []


@pytest.mark.parametrize(
    ("prp1", "prp2", "status", "problem"),
    [
        (1, 0, Status.PRP_OFFSET_INVALID, "PRP1_NOT_DWORD_ALIGNED"),
        (0, 8, Status.PRP_OFFSET_INVALID, "PRP2_OFFSET"),
    ],
)
def test_prps_of_two_pages_that_break_a_rule(host: Host, prp1: int, prp2: int, status: Status, problem: str) -> None:
    pages = host.pages(2)
    completion = host.do(nvme.Read.of(NSID=1, NLB=15, PRP1=pages + prp1, PRP2=pages + PAGE + prp2), 1)
    assert completion.status == status
    assert completion.DNR
    assert problem in problems(host)


@pytest.mark.parametrize(
    ("entries", "list_offset", "problem"),
    [
        ([8, 0], 0, "ENTRY_OFFSET"),
        ([0, 0], 4, "LIST_NOT_QWORD_ALIGNED"),
    ],
)
def test_lists_that_break_a_rule(host: Host, entries: list[int], list_offset: int, problem: str) -> None:
    pages, table = host.pages(3), host.pages()
    named = [pages + (index + 1) * PAGE + extra for index, extra in enumerate(entries)]
    host.poke(table, b"".join(address.to_bytes(8, "little") for address in named))
    completion = host.do(nvme.Read.of(NSID=1, NLB=23, PRP1=pages, PRP2=table + list_offset), 1)
    assert completion.status == Status.PRP_OFFSET_INVALID
    assert problem in problems(host)


def test_a_missing_prp2_is_remarked_and_refused_by_memory(host: Host) -> None:
    completion = host.do(nvme.Read.of(NSID=1, NLB=15, PRP1=host.pages()), 1)
    assert completion.status == Status.DATA_TRANSFER_ERROR, "there is no memory at address 0 here"
    assert host.remarks() == ["prp", "dma-refused"]


def test_an_unused_prp2_is_remarked(host: Host) -> None:
    host.admin(nvme.Read.of(NSID=1, NLB=7, PRP1=host.pages(), PRP2=host.pages()), 1)
    assert host.remarks() == ["prp2-unused"]


def test_dma_is_recorded_with_digests(host: Host) -> None:
    data = fill(host, 0, 9)
    first, second = scattered(host, 2)
    host.admin(nvme.Read.of(NSID=1, NLB=8, PRP1=first, PRP2=second), 1)
    moved = [event for event in host.events() if isinstance(event, Dma)][-2:]
    assert [(event.address, event.length, event.to_host) for event in moved] == [(first, PAGE, True), (second, 512, True)]
    assert [event.digest for event in moved] == [digest(data[:PAGE]), digest(data[PAGE:])]


def test_memory_that_the_driver_did_not_open(make_host: MakeHost) -> None:
    host = make_host(strict=True)
    rings = host.pages(8)
    host.memory.own(rings, 8 * PAGE)
    host.memory.used = 0  # type: ignore[attr-defined]
    host.up()
    buffer = host.pages(20) + 16 * PAGE
    assert host.do(nvme.Read.of(NSID=1, NLB=7, PRP1=buffer), 1).status == Status.DATA_TRANSFER_ERROR
    host.memory.own(buffer, PAGE, writable=False)
    assert host.do(nvme.Read.of(NSID=1, NLB=7, PRP1=buffer), 1).status == Status.DATA_TRANSFER_ERROR
    assert host.do(nvme.Write.of(NSID=1, NLB=7, PRP1=buffer), 1).ok
    host.memory.unmap(buffer, PAGE)
    assert host.do(nvme.Write.of(NSID=1, NLB=7, PRP1=buffer), 1).status == Status.DATA_TRANSFER_ERROR
    assert host.remarks() == ["dma-refused"] * 3


# -- SGLs -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def sgl_host(make_host: MakeHost) -> Host:
    """Return the host of a device that offers SGLs."""
    return make_host(sgl=True).up()


def with_sgl(command: nvme.Command, descriptor: SglDescriptor) -> nvme.Command:
    return command.but(PSDT=1, SGL1=descriptor)


def test_an_sgl_of_odd_pieces(sgl_host: Host) -> None:
    data = fill(sgl_host, 8, 16)
    lengths = [1, 511, 3000, 4096 - 3512 + 4096]
    targets = [sgl_host.pages(3) + 7 * index for index in range(len(lengths))]
    pieces = [Piece(address, length) for address, length in zip(targets, lengths, strict=True)]
    pointers = sgl.build(pieces, sgl_host.pages)
    for address, content in pointers.segments:
        sgl_host.poke(address, content)
    sgl_host.admin(with_sgl(nvme.Read.of(NSID=1, SLBA=8, NLB=15), pointers.sgl1), 1)
    assert b"".join(sgl_host.peek(address, length) for address, length in zip(targets, lengths, strict=True)) == data
    assert sgl_host.remarks() == []


def test_a_bit_bucket_swallows(sgl_host: Host) -> None:
    data = fill(sgl_host, 0, 2)
    target = sgl_host.pages()
    pointers = sgl.build([Piece(None, 512), Piece(target, 512)], sgl_host.pages)
    for address, content in pointers.segments:
        sgl_host.poke(address, content)
    sgl_host.admin(with_sgl(nvme.Read.of(NSID=1, NLB=1), pointers.sgl1), 1)
    assert sgl_host.peek(target, 1024) == data[512:] + bytes(512)


@pytest.mark.parametrize(
    ("descriptor", "status"),
    [
        (SglDescriptor.of(LENGTH=256), Status.SGL_DATA_LENGTH_INVALID),
        (SglDescriptor.of(LENGTH=8192), Status.SGL_DATA_LENGTH_INVALID),
        (SglDescriptor.of(LENGTH=512, TYPE=9), Status.SGL_TYPE_INVALID),
        (SglDescriptor.of(LENGTH=7, TYPE=SglType.LAST_SEGMENT), Status.SGL_INVALID_SEGMENT),
    ],
)
def test_sgls_that_break_a_rule(sgl_host: Host, descriptor: SglDescriptor, status: Status) -> None:
    target = sgl_host.pages()
    completion = sgl_host.do(with_sgl(nvme.Read.of(NSID=1), descriptor.but(ADDRESS=target)), 1)
    assert completion.status == status
    assert sgl_host.peek(target, 512) == bytes(512)
    assert "sgl" in sgl_host.remarks()


def test_sgls_are_refused_where_they_are_not_offered(make_host: MakeHost) -> None:
    host = make_host().up()
    command = with_sgl(nvme.Read.of(NSID=1), SglDescriptor.of(ADDRESS=host.pages(), LENGTH=512))
    assert host.do(command, 1).status == Status.INVALID_FIELD
    assert host.do(nvme.Identify.of(CNS=1, PSDT=1)).status == Status.INVALID_FIELD, "and never for admin commands"
    assert host.remarks() == ["psdt", "psdt"]


# -- metadata -------------------------------------------------------------------------------------------------------


def test_metadata_in_a_buffer_of_its_own(make_host: MakeHost) -> None:
    host = make_host(namespaces=(Namespace(blocks=64, metadata_size=8),)).up()
    data, extra, back, more = host.pages(), host.pages(), host.pages(), host.pages()
    host.poke(data, pattern(1024))
    host.poke(extra, pattern(16, 9))
    host.admin(nvme.Write.of(NSID=1, SLBA=5, NLB=1, PRP1=data, MPTR=extra), 1)
    host.admin(nvme.Read.of(NSID=1, SLBA=5, NLB=1, PRP1=back, MPTR=more), 1)
    assert host.peek(back, 1024) == pattern(1024)
    assert host.peek(more, 16) == pattern(16, 9)
    assert host.do(nvme.Read.of(NSID=1, PRP1=back, MPTR=more + 2), 1).status == Status.INVALID_FIELD
    image = host.function.controller.attached[1].image.read_bytes()
    assert image[64 * 512 + 5 * 8 :][:16] == pattern(16, 9), "behind the blocks"


def test_metadata_at_the_end_of_each_block(make_host: MakeHost) -> None:
    host = make_host(namespaces=(Namespace(blocks=64, metadata_size=8),)).up()
    host.admin(nvme.FormatNvm.of(NSID=1, LBAFL=2, MSET=1))
    there, back = host.pages(), host.pages()
    host.poke(there, pattern(1040))
    host.admin(nvme.Write.of(NSID=1, NLB=1, PRP1=there), 1)
    host.admin(nvme.Read.of(NSID=1, NLB=1, PRP1=back), 1)
    assert host.peek(back, 1040) == pattern(1040)
    image = host.function.controller.attached[1].image.read_bytes()
    assert image[:512] == pattern(1040)[:512]
    assert image[512:1024] == pattern(1040)[520:1032]


def test_an_mptr_without_metadata_is_remarked(sgl_host: Host) -> None:
    sgl_host.admin(nvme.Read.of(NSID=1, PRP1=sgl_host.pages(), MPTR=64), 1)
    assert sgl_host.remarks() == ["mptr-unused"]
