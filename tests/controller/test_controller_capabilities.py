"""What Identify announces is what the controller does, also with other limits than its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lab.nvme import commands as nvme
from lab.nvme.async_events import AsyncEvent
from lab.nvme.features import Fid
from lab.nvme.identify import Cns, IdentifyNamespace, IndependentNamespace, LbaFormat, Lpa, Oncs
from lab.nvme.logs import CommandsSupported, Lid, Smart
from lab.nvme.ranges import CopyRange
from lab.nvme.status import Status

if TYPE_CHECKING:
    from tests.controller.conftest import Host, MakeHost


@pytest.mark.parametrize(
    ("sizes", "status"),
    [((4, 4), 0), ((5,), Status.COMMAND_SIZE_LIMIT_EXCEEDED), ((4, 4, 1), Status.COMMAND_SIZE_LIMIT_EXCEEDED),
     ((1, 1, 1, 1), Status.COMMAND_SIZE_LIMIT_EXCEEDED)],
)  # fmt: skip
def test_the_limits_of_copy_are_those_of_identify(make_host: MakeHost, sizes: tuple[int, ...], status: int) -> None:
    host = make_host(identify_namespace={"MSSRL": 4, "MCL": 8, "MSRC": 2}).up()
    page = host.pages()
    host.poke(page, b"".join(CopyRange.of(SLBA=0, NLB=size - 1) for size in sizes))
    assert host.do(nvme.Copy.of(NSID=1, SDLBA=64, NR=len(sizes) - 1, PRP1=page), 1).status == status


def test_the_formats_are_those_of_identify(make_host: MakeHost) -> None:
    formats = (LbaFormat.of(LBADS=10), LbaFormat.of(LBADS=9))
    host = make_host(identify_namespace={"LBAF": formats}).up()
    ns = IdentifyNamespace(host.data(nvme.Identify.of(NSID=1)))
    assert (ns.NLBAF, ns.FLBAS.LOW, ns.LBAF[:2]) == (1, 1, formats)
    host.admin(nvme.FormatNvm.of(NSID=1, LBAFL=0))
    assert IdentifyNamespace(host.data(nvme.Identify.of(NSID=1))).NSZE == 2048, "blocks of 1024 bytes"
    assert host.do(nvme.FormatNvm.of(NSID=1, LBAFL=2)).status == Status.FORMAT_INVALID


def test_what_is_not_announced_is_not_there(make_host: MakeHost) -> None:
    host = make_host(identify={"ONCS": Oncs.of(COMPARE=1), "NWPC": 0}).up()
    log = CommandsSupported(host.data(nvme.GetLogPage.reading(Lid.COMMANDS_SUPPORTED, 4096)))
    assert [opcode for opcode, effects in enumerate(log.IOCS) if int(effects) & 1] == [0, 1, 2, 5]
    assert host.do(nvme.Verify.of(NSID=1), 1).status == Status.INVALID_OPCODE
    assert host.do(nvme.KeepAlive.of()).status == Status.INVALID_OPCODE, "KAS is 0"
    protect = nvme.SetFeatures.of(FID=Fid.NAMESPACE_WRITE_PROTECTION, NSID=1, CDW11=1)
    assert host.do(protect).status == Status.INVALID_FIELD
    assert make_host(identify={"KAS": 10}).up().do(nvme.KeepAlive.of()).ok


def test_write_protection_outlives_resets(make_host: MakeHost) -> None:
    host = make_host(identify={"NWPC": 3}).up()
    current = nvme.GetFeatures.of(FID=Fid.NAMESPACE_WRITE_PROTECTION, NSID=1)

    def protect(state: int) -> int:
        completion = host.do(nvme.SetFeatures.of(FID=Fid.NAMESPACE_WRITE_PROTECTION, NSID=1, CDW11=state))
        return completion.status

    assert protect(3) == Status.INVALID_FIELD, "not announced"
    assert protect(2) == 0
    host.disable()
    host.up()
    assert host.admin(current).DW0 == 2
    assert protect(0) == Status.FEATURE_NOT_CHANGEABLE
    assert host.do(nvme.Write.of(NSID=1, PRP1=host.pages()), 1).status == Status.NAMESPACE_WRITE_PROTECTED
    host.device.device.cut_power()
    host.up()
    assert host.admin(current).DW0 == 0


def test_both_thresholds_of_the_temperature(host: Host) -> None:
    def threshold(selector: int) -> int:
        completion = host.do(nvme.GetFeatures.of(FID=Fid.TEMPERATURE_THRESHOLD, CDW11=selector))
        return int(completion.DW0)

    under = 1 << 20
    host.admin(nvme.SetFeatures.of(FID=Fid.TEMPERATURE_THRESHOLD, CDW11=under | 280))
    assert (threshold(0), threshold(under)) == (343, 280)
    sensor = nvme.GetFeatures.of(FID=Fid.TEMPERATURE_THRESHOLD, CDW11=1 << 16)
    assert host.do(sensor).status == Status.INVALID_FIELD, "there is no sensor 1"


def test_vectors_and_thresholds_that_are_not_there_have_no_defaults_either(host: Host) -> None:
    for fid, selector in ((Fid.INTERRUPT_VECTOR_CONFIG, 99), (Fid.TEMPERATURE_THRESHOLD, 1 << 16)):
        for select in range(4):
            command = nvme.GetFeatures.of(FID=fid, CDW11=selector, SEL=select)
            assert host.do(command).status == Status.INVALID_FIELD
    assert host.admin(nvme.GetFeatures.of(FID=Fid.INTERRUPT_VECTOR_CONFIG, CDW11=2, SEL=1)).DW0 == 2


def test_what_is_a_namespaces_own_is_not_asked_of_all(make_host: MakeHost) -> None:
    host = make_host(identify={"LPA": Lpa.of(SMART_PER_NAMESPACE=1)}).up()
    everybody = nvme.GetFeatures.of(FID=Fid.ERROR_RECOVERY, NSID=nvme.BROADCAST_NSID)
    assert host.do(everybody).status == Status.INVALID_NAMESPACE
    smart = nvme.GetLogPage.reading(Lid.SMART, 512, PRP1=host.pages())
    assert host.do(smart.but(NSID=1)).ok
    assert host.do(smart.but(NSID=nvme.BROADCAST_NSID)).ok
    assert host.do(smart.but(NSID=0xFFFF_FFFE)).status == Status.INVALID_NAMESPACE


def test_a_threshold_that_the_temperature_has_passed_warns(host: Host) -> None:
    host.admin(nvme.SetFeatures.of(FID=Fid.ASYNC_EVENT_CONFIG, CDW11=0xFF))
    cid = host.submit(nvme.AsyncEventRequest.of())
    assert not host.completions()
    host.submit(nvme.SetFeatures.of(FID=Fid.TEMPERATURE_THRESHOLD, CDW11=300))
    events = [completion for completion in host.completions() if completion.CID == cid]
    assert [(AsyncEvent(c.DW0).AET, AsyncEvent(c.DW0).AEI) for c in events] == [(1, 1)]
    smart = nvme.GetLogPage.reading(Lid.SMART, 512)
    assert Smart(host.data(smart)).CRITICAL_WARNING.TEMPERATURE == 1
    host.admin(nvme.SetFeatures.of(FID=Fid.TEMPERATURE_THRESHOLD, CDW11=350))
    assert Smart(host.data(smart)).CRITICAL_WARNING.TEMPERATURE == 0


def test_the_independent_structure_agrees_with_the_other(make_host: MakeHost) -> None:
    host = make_host(identify_namespace={"NMIC": 1, "ENDGID": 3}).up()
    found = IndependentNamespace(host.data(nvme.Identify.of(CNS=Cns.INDEPENDENT_NAMESPACE, NSID=1)))
    assert (found.NMIC.SHARED, found.ENDGID, found.NSTAT.READY) == (1, 3, 1)
    assert not any(host.data(nvme.Identify.of(CNS=Cns.INDEPENDENT_NAMESPACE, NSID=2))), "inactive"


def test_reserved_bits_of_a_feature_are_not_kept(host: Host) -> None:
    for fid in (Fid.WRITE_ATOMICITY, Fid.HOST_BEHAVIOR_SUPPORT):  # a bit; nothing but data
        host.admin(nvme.SetFeatures.of(FID=fid, CDW11=0xFFFF, PRP1=host.pages()))
    assert host.admin(nvme.GetFeatures.of(FID=Fid.WRITE_ATOMICITY)).DW0 == 1
    assert host.admin(nvme.GetFeatures.of(FID=Fid.HOST_BEHAVIOR_SUPPORT, PRP1=host.pages())).DW0 == 0
    assert host.remarks().count("feature-reserved") == 2
