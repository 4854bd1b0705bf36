"""Memory that the controller borrows, and keys of namespaces. Base 2.0, 5.27.1.10, 7.2 to 7.4, 8.19."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lab.nvme.commands import GetFeatures, ReservationAcquire, ReservationRegister, ReservationRelease, SetFeatures
from lab.nvme.features import Fid, HostMemoryDescriptor
from lab.nvme.identify import Oncs
from lab.nvme.status import Status

if TYPE_CHECKING:
    from tests.controller.conftest import Host, MakeHost

PAGES = 4
PAGE = 4096
RELEASE = SetFeatures.of(FID=Fid.HOST_MEMORY_BUFFER)


@pytest.fixture
def host(make_host: MakeHost) -> Host:
    return make_host(identify={"HMPRE": 32, "ONCS": int(Oncs.of(RESERVATIONS=1))}, identify_namespace={"RESCAP": 0xFF}).up()


def lend(host: Host, **fields: int) -> tuple[SetFeatures, int, int]:
    memory, listed = host.pages(PAGES), host.pages()
    host.poke(listed, HostMemoryDescriptor.of(BADD=memory, BSIZE=PAGES))
    command = SetFeatures.of(
        FID=Fid.HOST_MEMORY_BUFFER, CDW11=1, CDW12=PAGES, CDW13=listed & 0xFFFF_FFFF, CDW14=listed >> 32, CDW15=1
    )
    return command.but(**fields), memory, listed


def test_it_fills_what_it_borrows_and_gives_it_back(host: Host) -> None:
    command, memory, _ = lend(host)
    host.admin(command)
    assert any(host.peek(memory, PAGE))
    assert host.admin(GetFeatures.of(FID=Fid.HOST_MEMORY_BUFFER, PRP1=host.pages())).DW0 == 1
    assert host.do(command).status == Status.COMMAND_SEQUENCE_ERROR
    host.admin(RELEASE)
    host.admin(RELEASE)
    assert host.remarks() == ["hmb-enabled"]


def test_a_foreign_write_to_lent_memory_is_remarked(host: Host) -> None:
    command, memory, listed = lend(host)
    host.admin(command)
    host.poke(memory + PAGE, b"mine")
    host.poke(listed + 8, bytes(8))
    host.disable()
    assert host.remarks() == ["hmb-enabled", "hmb-touched", "hmb-touched"]


@pytest.mark.parametrize(("touch", "differs"), [(False, []), (True, ["content"])])
def test_returned_memory_is_compared(host: Host, touch: bool, differs: list[str]) -> None:
    command, memory, _ = lend(host)
    host.admin(command)
    host.admin(RELEASE)
    if touch:
        host.poke(memory, b"mine")
    host.admin(command.but(CDW11=3))
    returned = next(event for event in host.events() if getattr(event, "name", "") == "hmb-returned")
    assert getattr(returned, "detail", {})["differs"] == differs


@pytest.mark.parametrize("fields", [{"CDW12": 0}, {"CDW15": 0}])
def test_nothing_is_not_lent(host: Host, fields: dict[str, int]) -> None:
    assert host.do(lend(host, **fields)[0]).status == Status.INVALID_FIELD


def keys(host: Host, current: int = 0, new: int = 0) -> int:
    at = host.pages()
    host.poke(at, current.to_bytes(8, "little") + new.to_bytes(8, "little"))
    return at


def test_a_namespace_is_reserved_by_the_key_that_was_registered(host: Host) -> None:
    acquire = ReservationAcquire.of(NSID=1, RTYPE=1, PRP1=keys(host, 7))
    assert host.do(acquire, 1).status == Status.RESERVATION_CONFLICT
    assert host.do(ReservationRegister.of(NSID=1, PRP1=keys(host, new=7)), 1).ok
    assert host.do(ReservationRegister.of(NSID=1, PRP1=keys(host, new=8)), 1).status == Status.RESERVATION_CONFLICT
    assert host.do(acquire.but(PRP1=keys(host, 8)), 1).status == Status.RESERVATION_CONFLICT
    assert host.do(acquire, 1).ok
    assert host.do(acquire.but(RTYPE=2), 1).status == Status.RESERVATION_CONFLICT
    assert host.do(ReservationRelease.of(NSID=1, RTYPE=2, PRP1=keys(host, 7)), 1).status == Status.INVALID_FIELD
    assert host.do(ReservationRelease.of(NSID=1, RTYPE=1, PRP1=keys(host, 7)), 1).ok
    assert host.do(ReservationRegister.of(NSID=1, RREGA=1, PRP1=keys(host, 7)), 1).ok
    assert host.remarks() == ["reservation-key"] * 4
