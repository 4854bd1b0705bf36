"""Zoned namespaces: what Identify says of them, their states, their resources, and what their commands answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lab.data.plan import Namespace
from lab.nvme import commands as nvme
from lab.nvme.features import Fid
from lab.nvme.identify import (
    Cns,
    CommandSets,
    Csi,
    IdentifyNamespace,
    IoCommandSets,
    NamespaceList,
    Nidt,
    namespace_descriptors,
)
from lab.nvme.logs import CommandsSupported, Lid
from lab.nvme.registers import CAP, CC
from lab.nvme.status import Status
from lab.nvme.zones import (
    NO_LIMIT,
    IdentifyControllerZoned,
    IdentifyNamespaceZoned,
    ReportZones,
    ZoneSendAction,
    ZoneState,
    parse_report,
)
from lab.testing.host import READY

if TYPE_CHECKING:
    from tests.controller.conftest import Host, MakeHost

ZONE, CAPACITY, COUNT = 64, 48, 6
ALL_SETS = READY.but(CSS=0b110)
SEND, RECEIVE, APPEND = nvme.ZoneManagementSend, nvme.ZoneManagementReceive, nvme.ZoneAppend


def zoned(nsid: int = 1, **fields: Any) -> Namespace:
    return Namespace(nsid=nsid, blocks=ZONE * COUNT, zone_blocks=ZONE, zone_capacity=CAPACITY, **fields)


def up(make_host: MakeHost, *namespaces: Namespace, cc: CC = ALL_SETS, **fields: Any) -> Host:
    host = make_host(namespaces=namespaces or (zoned(),), **fields)
    assert host.enable(cc=cc).RDY
    host.create_queues()
    return host


def write(host: Host, lba: int, blocks: int = 1, fill: bytes = b"\x11") -> int:
    """Write blocks, and return the status."""
    buffer = host.pages(-(-blocks * 512 // 4096))
    host.poke(buffer, fill * 512 * blocks)
    prp2 = buffer + 4096 if blocks > 8 else 0
    return host.do(nvme.Write.of(NSID=1, SLBA=lba, NLB=blocks - 1, PRP1=buffer, PRP2=prp2), 1).status


def append(host: Host, lba: int, blocks: int = 1) -> tuple[int, int]:
    """Append blocks, and return the status and the assigned block."""
    buffer = host.pages(2)
    prp2 = buffer + 4096 if blocks > 8 else 0
    done = host.do(APPEND.of(NSID=1, SLBA=lba, NLB=blocks - 1, PRP1=buffer, PRP2=prp2), 1)
    return done.status, done.DW1 << 32 | done.DW0


def act(host: Host, action: ZoneSendAction, zone: int | None = None) -> int:
    """Perform an action on a zone, or on all, and return the status."""
    where = {"SELECT_ALL": 1} if zone is None else {"SLBA": zone * ZONE}
    return host.do(SEND.of(NSID=1, ZSA=action, **where), 1).status


def states(host: Host) -> list[int]:
    return [one.ZS for one in parse_report(report(host))]


def report(host: Host, lba: int = 0, length: int = 64 * (COUNT + 1), **fields: int) -> bytes:
    return host.data(RECEIVE.of(NSID=1, SLBA=lba, NUMD=length // 4 - 1, **fields), length, 1)


def test_identify_says_that_it_has_zones(make_host: MakeHost) -> None:
    host = up(make_host, zoned(max_active_zones=3, max_open_zones=2), Namespace(nsid=2, blocks=64), zone_append_limit=2)
    assert host.register(CAP).CSS == 0x41
    found = IdentifyNamespaceZoned(host.data(nvme.Identify.of(CNS=Cns.CSI_NAMESPACE, NSID=1, CSI=Csi.ZONED)))
    plain = IdentifyNamespace(host.data(nvme.Identify.of(CNS=Cns.NAMESPACE, NSID=1)))
    assert (found.MAR, found.MOR, found.LBAFE[plain.format_index].ZSZE) == (2, 1, ZONE)
    assert (plain.NSZE, plain.NCAP) == (ZONE * COUNT, CAPACITY * COUNT)
    limits = IdentifyControllerZoned(host.data(nvme.Identify.of(CNS=Cns.CSI_CONTROLLER, CSI=Csi.ZONED)))
    assert limits.ZASL == 2
    listed = dict(namespace_descriptors(host.data(nvme.Identify.of(CNS=Cns.NAMESPACE_DESCRIPTORS, NSID=1))))
    assert listed[Nidt.CSI] == bytes([Csi.ZONED])
    by_set = [NamespaceList(host.data(nvme.Identify.of(CNS=Cns.CSI_ACTIVE_NAMESPACES, CSI=csi))).ids for csi in (0, 2)]
    assert [list(ids) for ids in by_set] == [[2], [1]]
    sets = IoCommandSets(host.data(nvme.Identify.of(CNS=Cns.IO_COMMAND_SETS))).COMBINATION[0]
    assert sets == CommandSets.of(NVM=1, ZONED=1)
    assert host.do(nvme.Identify.of(CNS=Cns.CSI_NAMESPACE, NSID=2, CSI=Csi.ZONED)).status == Status.IO_COMMAND_SET_INVALID


def test_without_limits_any_number_of_zones_may_be_active(make_host: MakeHost) -> None:
    host = up(make_host)
    found = IdentifyNamespaceZoned(host.data(nvme.Identify.of(CNS=Cns.CSI_NAMESPACE, NSID=1, CSI=Csi.ZONED)))
    assert (found.MAR, found.MOR) == (NO_LIMIT, NO_LIMIT)
    assert [write(host, zone * ZONE) for zone in range(COUNT)] == [0] * COUNT
    assert states(host) == [ZoneState.IMPLICITLY_OPENED] * COUNT


def test_the_effects_of_each_command_set_are_told_apart(make_host: MakeHost) -> None:
    host = up(make_host)
    pages = [CommandsSupported(host.data(nvme.GetLogPage.reading(Lid.COMMANDS_SUPPORTED, 4096, CSI=csi))) for csi in (0, 2)]
    assert [bool(int(page.IOCS[APPEND.OPCODE or 0])) for page in pages] == [False, True]
    assert all(int(page.IOCS[nvme.Read.OPCODE or 0]) for page in pages)


def test_a_host_that_enables_the_nvm_command_set_alone_has_no_zone_commands(make_host: MakeHost) -> None:
    host = up(make_host, cc=READY)
    assert act(host, ZoneSendAction.RESET, 0) == Status.INVALID_OPCODE
    assert host.do(nvme.Read.of(NSID=1, SLBA=3, PRP1=host.pages()), 1).ok


def test_a_namespace_without_zones_has_no_zone_commands(make_host: MakeHost) -> None:
    host = up(make_host, Namespace(nsid=1, blocks=64), zoned(2))
    assert act(host, ZoneSendAction.RESET, 0) == Status.INVALID_OPCODE
    assert append(host, 0)[0] == Status.INVALID_OPCODE


def test_a_zone_is_written_at_its_write_pointer(make_host: MakeHost) -> None:
    host = up(make_host)
    assert [write(host, ZONE, 8), write(host, ZONE + 8, 8)] == [0, 0]
    assert write(host, ZONE + 8) == Status.ZONED_INVALID_WRITE
    assert write(host, ZONE + 20) == Status.ZONED_INVALID_WRITE
    zone = parse_report(report(host))[1]
    assert (zone.ZSLBA, zone.WP, zone.ZCAP, zone.ZS) == (ZONE, ZONE + 16, CAPACITY, ZoneState.IMPLICITLY_OPENED)
    assert host.data(nvme.Read.of(NSID=1, SLBA=ZONE + 8), 512, 1) == b"\x11" * 512


def test_no_command_crosses_a_boundary(make_host: MakeHost) -> None:
    host = up(make_host)
    for at in range(0, CAPACITY - 8, 8):
        assert write(host, at, 8) == 0
    assert write(host, CAPACITY - 8, 9) == Status.ZONED_BOUNDARY_ERROR
    crossing = nvme.Read.of(NSID=1, SLBA=ZONE - 1, NLB=1, PRP1=host.pages())
    assert host.do(crossing, 1).status == Status.ZONED_BOUNDARY_ERROR
    beyond = nvme.Read.of(NSID=1, SLBA=CAPACITY, PRP1=host.pages())
    assert host.do(beyond, 1).ok, "what cannot be written reads as what was never written"


def test_a_full_zone_takes_nothing_until_it_is_reset(make_host: MakeHost) -> None:
    host = up(make_host)
    for at in range(0, CAPACITY, 8):
        assert write(host, at, 8) == 0
    assert states(host)[0] == ZoneState.FULL
    assert write(host, 0) == Status.ZONED_FULL
    assert append(host, 0)[0] == Status.ZONED_FULL
    assert act(host, ZoneSendAction.OPEN, 0) == Status.ZONED_INVALID_TRANSITION
    assert act(host, ZoneSendAction.RESET, 0) == 0
    assert host.data(nvme.Read.of(NSID=1, SLBA=0), 512, 1) == bytes(512)
    assert write(host, 0) == 0


def test_what_writes_without_data_moves_the_pointer_too(make_host: MakeHost) -> None:
    host = up(make_host)
    assert host.do(nvme.WriteZeroes.of(NSID=1, SLBA=0, NLB=3), 1).ok
    assert host.do(nvme.WriteUncorrectable.of(NSID=1, SLBA=4, NLB=3), 1).ok
    assert host.do(nvme.WriteZeroes.of(NSID=1, SLBA=4, NLB=3), 1).status == Status.ZONED_INVALID_WRITE
    assert parse_report(report(host))[0].WP == 8


@pytest.mark.parametrize(
    ("action", "from_empty", "from_open", "from_closed", "from_full"),
    [
        (ZoneSendAction.OPEN, ZoneState.EXPLICITLY_OPENED, ZoneState.EXPLICITLY_OPENED, ZoneState.EXPLICITLY_OPENED, None),
        (ZoneSendAction.CLOSE, None, ZoneState.CLOSED, ZoneState.CLOSED, None),
        (ZoneSendAction.FINISH, ZoneState.FULL, ZoneState.FULL, ZoneState.FULL, ZoneState.FULL),
        (ZoneSendAction.RESET, ZoneState.EMPTY, ZoneState.EMPTY, ZoneState.EMPTY, ZoneState.EMPTY),
        (ZoneSendAction.OFFLINE, None, None, None, None),
    ],
)
def test_an_action_leads_where_the_state_allows(
    make_host: MakeHost, action: ZoneSendAction, from_empty: int | None, from_open: int | None, from_closed: int | None,
    from_full: int | None,
) -> None:  # fmt: skip
    host = up(make_host)
    write(host, ZONE)
    write(host, 2 * ZONE)
    assert act(host, ZoneSendAction.CLOSE, 2) == 0
    assert act(host, ZoneSendAction.FINISH, 3) == 0
    before = states(host)
    assert before[:4] == [ZoneState.EMPTY, ZoneState.IMPLICITLY_OPENED, ZoneState.CLOSED, ZoneState.FULL]
    for zone, wanted in enumerate((from_empty, from_open, from_closed, from_full)):
        assert act(host, action, zone) == (0 if wanted else Status.ZONED_INVALID_TRANSITION)
        assert states(host)[zone] == (wanted or before[zone])


def test_select_all_means_the_zones_that_the_action_can_change(make_host: MakeHost) -> None:
    host = up(make_host)
    write(host, 0)
    write(host, ZONE)
    assert act(host, ZoneSendAction.CLOSE) == 0
    assert states(host) == [ZoneState.CLOSED] * 2 + [ZoneState.EMPTY] * 4
    assert act(host, ZoneSendAction.FINISH) == 0
    assert states(host) == [ZoneState.FULL] * 2 + [ZoneState.EMPTY] * 4
    assert act(host, ZoneSendAction.RESET) == 0
    assert states(host) == [ZoneState.EMPTY] * COUNT
    assert act(host, ZoneSendAction.OFFLINE) == 0


def test_active_and_open_zones_are_limited(make_host: MakeHost) -> None:
    host = up(make_host, zoned(max_active_zones=3, max_open_zones=2))
    assert [write(host, zone * ZONE) for zone in range(3)] == [0, 0, 0]
    found = states(host)[:3]
    assert found.count(ZoneState.IMPLICITLY_OPENED) == 2
    assert found.count(ZoneState.CLOSED) == 1, "the controller has closed one that was opened implicitly"
    assert write(host, 3 * ZONE) == Status.ZONED_TOO_MANY_ACTIVE
    assert act(host, ZoneSendAction.OPEN, 3) == Status.ZONED_TOO_MANY_ACTIVE
    assert [act(host, ZoneSendAction.OPEN, 0), act(host, ZoneSendAction.OPEN, 1)] == [0, 0]
    assert write(host, 2 * ZONE + 1) == Status.ZONED_TOO_MANY_OPEN
    assert act(host, ZoneSendAction.OPEN) == Status.ZONED_TOO_MANY_OPEN
    assert act(host, ZoneSendAction.FINISH, 0) == 0
    assert write(host, 2 * ZONE + 1) == 0
    assert write(host, 3 * ZONE) == 0, "the one that was opened implicitly gives way"
    assert states(host)[2:4] == [ZoneState.CLOSED, ZoneState.IMPLICITLY_OPENED]


def test_append_says_where_the_data_are(make_host: MakeHost) -> None:
    host = up(make_host, zone_append_limit=1)
    assert [append(host, ZONE, 8), append(host, ZONE, 16)] == [(0, ZONE), (0, ZONE + 8)]
    assert append(host, ZONE + 8)[0] == Status.INVALID_FIELD, "no zone begins there"
    assert append(host, ZONE, 17)[0] == Status.INVALID_FIELD, "more than ZASL"
    assert "zone-append-limit" in host.remarks()


def test_reports_are_cut_and_filtered(make_host: MakeHost) -> None:
    host = up(make_host)
    write(host, 2 * ZONE)
    assert ReportZones(report(host, length=128)).ZONES == COUNT
    assert ReportZones(report(host, length=128, PARTIAL=1)).ZONES == 1
    assert [one.ZSLBA for one in parse_report(report(host, lba=4 * ZONE + 5))] == [4 * ZONE, 5 * ZONE]
    assert [one.ZSLBA for one in parse_report(report(host, OPTIONS=2))] == [2 * ZONE]
    refused = RECEIVE.of(NSID=1, SLBA=ZONE * COUNT, NUMD=31, PRP1=host.pages())
    assert host.do(refused, 1).status == Status.LBA_OUT_OF_RANGE
    assert host.do(refused.but(SLBA=0, ZRA=1), 1).status == Status.INVALID_FIELD
    assert act(host, ZoneSendAction.SET_EXTENSION, 0) == Status.INVALID_FIELD


def test_a_shutdown_closes_what_is_open(make_host: MakeHost) -> None:
    host = up(make_host)
    write(host, 0)
    assert act(host, ZoneSendAction.OPEN, 1) == 0
    host.write(ALL_SETS.but(SHN=1))
    host.device.wait(1.0)
    host.disable()
    assert host.enable(cc=ALL_SETS).RDY
    host.create_queues()
    assert states(host) == [ZoneState.CLOSED] + [ZoneState.EMPTY] * (COUNT - 1)


def test_write_protection_finishes_active_zones(make_host: MakeHost) -> None:
    host = up(make_host)
    write(host, 0)
    host.admin(nvme.SetFeatures.of(NSID=1, FID=Fid.NAMESPACE_WRITE_PROTECTION, CDW11=1))
    assert states(host)[0] == ZoneState.FULL
    assert act(host, ZoneSendAction.RESET, 0) == Status.NAMESPACE_WRITE_PROTECTED


def test_a_format_empties_all_zones(make_host: MakeHost) -> None:
    host = up(make_host)
    write(host, 0, 8)
    host.admin(nvme.FormatNvm.of(NSID=1, LBAFL=1))
    zone = parse_report(report(host))[1]
    assert (zone.ZSLBA, zone.ZCAP, zone.ZS) == (ZONE // 8, CAPACITY // 8, ZoneState.EMPTY)


def test_the_only_combination_of_command_sets_can_be_chosen(make_host: MakeHost) -> None:
    host = up(make_host)
    host.admin(nvme.SetFeatures.of(FID=Fid.IO_COMMAND_SET_PROFILE, CDW11=0))
    refused = host.do(nvme.SetFeatures.of(FID=Fid.IO_COMMAND_SET_PROFILE, CDW11=1))
    assert refused.status == Status.IO_COMMAND_SET_COMBINATION_REJECTED
