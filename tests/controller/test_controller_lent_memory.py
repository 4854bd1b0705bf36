"""What a host leaves with the controller: memory, keys of namespaces, tables of power states. Base 2.0, 5.27.1, 7.2 to 7.4."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lab.data.events import Remark
from lab.nvme.commands import GetFeatures, ReservationAcquire, ReservationRegister, ReservationRelease, SetFeatures
from lab.nvme.features import ApstEntry, ApstTable, Fid, HostControlledThermalManagement, HostMemoryDescriptor
from lab.nvme.identify import Oncs, PowerState
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
    assert host.remarks() == ["reservation-key"] * 4 + ["reservation-key", "reservation-type"] * 2


def table(host: Host, *entries: tuple[int, int]) -> SetFeatures:
    """Return Set Features of a table of power state transitions: (state, target) each."""
    at, content = host.pages(), [0] * 32
    for state, target in entries:
        content[state] = int(ApstEntry.of(ITPS=target, ITPT=100))
    host.poke(at, ApstTable.of(ENTRY=content))
    return SetFeatures.of(FID=Fid.AUTONOMOUS_POWER_STATE_TRANSITION, CDW11=1, PRP1=at)


RESTS = PowerState.of(NOPS=1)
STATES = {"APSTA": 1, "NPSS": 2, "PSD": (PowerState(), PowerState(), RESTS), "HCTMA": 1, "MXTMT": 350}


@pytest.mark.parametrize(
    ("entries", "problems"),
    [
        ([(0, 2), (1, 2)], []),
        ([(0, 1)], ["target"]),
        ([(0, 3)], ["target"]),
        ([(0, 2), (3, 2)], ["state"]),
    ],
)
def test_transitions_lead_to_states_without_work(
    make_host: MakeHost, entries: list[tuple[int, int]], problems: list[str]
) -> None:
    host = make_host(identify=STATES).up()
    refused = Status.INVALID_FIELD if "target" in problems else Status.SUCCESS
    assert host.do(table(host, *entries)).status == refused
    assert [event.detail["problem"] for event in host.events() if isinstance(event, Remark)] == problems


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [(320, 340, Status.SUCCESS), (340, 320, Status.INVALID_FIELD), (0, 340, Status.SUCCESS), (320, 360, Status.INVALID_FIELD)],
)
def test_thermal_thresholds_are_in_order(make_host: MakeHost, first: int, second: int, status: Status) -> None:
    host = make_host(identify=STATES).up()
    value = HostControlledThermalManagement.of(TMT1=first, TMT2=second)
    assert host.do(SetFeatures.of(FID=Fid.HOST_CONTROLLED_THERMAL_MANAGEMENT, CDW11=value)).status == status
