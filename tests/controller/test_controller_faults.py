"""Each behaviour with its effect on the host, predicates, and the live switch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lab.controller.behaviour import BEHAVIOURS
from lab.data.events import FaultInjected, Interrupt, Remark
from lab.data.plan import Fault
from lab.errors import UsageError
from lab.nvme import commands as nvme
from lab.nvme.completions import Completion
from lab.nvme.registers import CC, CSTS
from lab.nvme.status import Status

if TYPE_CHECKING:
    from tests.controller.conftest import Host, MakeHost

READ = 0x02
READY = CC.of(EN=1, IOSQES=6, IOCQES=4)


def fault(behaviour: str, arguments: dict[str, Any] | None = None, **predicate: Any) -> Fault:
    return Fault(name="f", behaviour=behaviour, arguments=arguments or {}, **predicate)


def read(host: Host, lba: int = 0, **fields: int) -> nvme.Command:
    return nvme.Read.of(NSID=1, SLBA=lba, PRP1=host.pages(), **fields)


def raw_slot(host: Host, slot: int) -> Completion:
    return Completion(host.peek(host.rings[1].cq + 16 * slot, 16))


# -- commands -------------------------------------------------------------------------------------------------------


def test_drop(make_host: MakeHost) -> None:
    host = make_host(fault("drop", opcode=READ, nth=2)).up()
    assert host.do(read(host), 1).ok
    cid = host.submit(read(host), 1)
    assert host.completions(1) == []
    assert host.do(read(host), 1).ok, "the others go on"
    assert not host.device.wait(3600)
    assert host.admin(nvme.Abort.of(SQID=1, ABORT_CID=cid)).DW0 == 0
    (aborted,) = host.completions(1)
    assert (aborted.CID, aborted.status) == (cid, Status.ABORT_REQUESTED)
    assert host.strikes() == ["f"]


def test_delay(make_host: MakeHost) -> None:
    host = make_host(fault("delay", {"ms": 60_000}, opcode=READ)).up()
    buffer = host.pages()
    cid = host.submit(nvme.Read.of(NSID=1, PRP1=buffer), 1)
    host.function.controller.attached[1].write(0, b"late".ljust(512), durable=True)
    assert not host.device.wait(50)
    assert host.completions(1) == []
    assert host.device.wait(15)
    assert [c.CID for c in host.completions(1)] == [cid]
    assert host.peek(buffer, 4) == b"late", "data move when it is executed"


def test_a_delayed_command_can_be_aborted_and_reset(make_host: MakeHost) -> None:
    host = make_host(fault("delay", {"ms": 250}, opcode=READ)).up()
    cid = host.submit(read(host), 1)
    assert host.admin(nvme.Abort.of(SQID=1, ABORT_CID=cid)).DW0 == 0
    host.submit(read(host), 1)
    host.disable()
    assert not host.device.wait(1), "nothing is due after a reset"


@pytest.mark.parametrize(("sct", "sc", "dnr"), [(2, 0x81, 0), (2, 0x80, 1), (0, 6, 0), (3, 0x70, 0), (7, 0xC5, 1)])
def test_status(make_host: MakeHost, sct: int, sc: int, dnr: int) -> None:
    host = make_host(fault("status", {"sct": sct, "sc": sc, "dnr": dnr, "crd": 2}, opcode=READ, lba=9)).up()
    assert host.do(read(host, 8), 1).ok
    completion = host.do(read(host, 5, NLB=4), 1)
    assert (completion.SCT, completion.SC, completion.DNR, completion.CRD) == (sct, sc, dnr, 2)
    assert host.do(read(host, 10), 1).ok


def test_corrupt(make_host: MakeHost) -> None:
    host = make_host(fault("corrupt", {"offset": 510, "length": 2, "xor": 0x0F}, opcode=READ, nth=1)).up()
    assert host.data(read(host), 512, qid=1) == bytes(510) + b"\x0f\x0f"
    assert not any(host.data(read(host), 512, qid=1)), "the medium is as it was"


def test_replace(make_host: MakeHost) -> None:
    host = make_host(fault("replace", {"offset": 4, "hex": "41 42"}, opcode=0x06, cdw10=1)).up()
    assert host.data(nvme.Identify.of(CNS=1))[4:9] == b"ABB1 "


def test_dma_refused(make_host: MakeHost) -> None:
    host = make_host(fault("dma-refused", opcode=READ)).up()
    assert host.do(read(host), 1).status == Status.DATA_TRANSFER_ERROR


def test_must_never_come(make_host: MakeHost) -> None:
    host = make_host(fault("must-never-come", queue="io", opcode=0x01)).up()
    assert host.do(nvme.Write.of(NSID=1, PRP1=host.pages()), 1).status == Status.OPERATION_DENIED
    assert host.device.device.strikes("f") == 1
    assert host.remarks() == ["must-never-come"]


def test_verify(make_host: MakeHost) -> None:
    host = make_host(fault("verify", {"fields": {"SLBA": 7, "FUA": 0}}, opcode=READ)).up()
    assert host.do(read(host, 7), 1).ok
    assert host.do(read(host, 8), 1).ok
    (remark,) = [event for event in host.events() if isinstance(event, Remark)]
    assert {**remark.detail, "cid": 0} == {"fault": "f", "sqid": 1, "cid": 0, "field": "SLBA", "expected": 7, "actual": 8}


# -- completions ----------------------------------------------------------------------------------------------------


def test_wrong_phase(make_host: MakeHost) -> None:
    host = make_host(fault("wrong-phase", opcode=READ, nth=1)).up()
    cid = host.submit(read(host), 1)
    assert host.completions(1) == []
    assert raw_slot(host, 0).CID == cid
    assert raw_slot(host, 0).P == 0


@pytest.mark.parametrize(
    ("behaviour", "arguments", "field", "value"),
    [
        ("wrong-cid", {}, "CID", 0xFFFF ^ 77),
        ("wrong-cid", {"cid": 3}, "CID", 3),
        ("wrong-sqid", {}, "SQID", 0xFFFF),
        ("wrong-sqhd", {"sqhd": 1234}, "SQHD", 1234),
        ("completion-status", {"sct": 2, "sc": 0x81}, "status", Status.READ_ERROR),
    ],
)
def test_wrong_completions(make_host: MakeHost, behaviour: str, arguments: dict[str, Any], field: str, value: int) -> None:
    host = make_host(fault(behaviour, arguments, opcode=READ)).up()
    host.submit(read(host, CID=77), 1)
    (completion,) = host.completions(1)
    assert getattr(completion, field) == value


def test_duplicate(make_host: MakeHost) -> None:
    host = make_host(fault("duplicate", opcode=READ, times=1)).up()
    cid = host.submit(read(host), 1)
    assert [c.CID for c in host.completions(1)] == [cid, cid]
    assert host.do(read(host), 1).ok


def test_out_of_order(make_host: MakeHost) -> None:
    host = make_host(fault("out-of-order", opcode=READ, nth=1)).up()
    first = host.submit(read(host), 1)
    assert host.completions(1) == []
    second = host.submit(read(host), 1)
    assert [c.CID for c in host.completions(1)] == [second, first]


def test_out_of_order_does_not_wait_for_ever(make_host: MakeHost) -> None:
    host = make_host(fault("out-of-order", {"ms": 20}, opcode=READ)).up()
    cid = host.submit(read(host), 1)
    assert host.completions(1) == []
    assert host.device.wait(0.1)
    assert [c.CID for c in host.completions(1)] == [cid]


def test_no_interrupt(make_host: MakeHost) -> None:
    host = make_host(fault("no-interrupt", opcode=READ, nth=1)).up()
    host.function.interrupts.clear()
    host.admin(read(host), 1)
    assert not host.function.interrupts
    host.admin(read(host), 1)
    assert host.function.interrupts


def test_spurious_interrupt(make_host: MakeHost) -> None:
    host = make_host(fault("spurious-interrupt", {"vector": 3, "count": 2}, opcode=READ)).up()
    host.function.config_write(0x72, 2, 0x8000)
    host.admin(read(host), 1)
    assert [event.vector for event in host.events() if isinstance(event, Interrupt)][-3:] == [3, 3, 1]


# -- the controller as a whole --------------------------------------------------------------------------------------


def test_fatal_at_a_command(make_host: MakeHost) -> None:
    host = make_host(fault("fatal", opcode=READ, nth=1)).up()
    host.submit(read(host), 1)
    assert host.csts.CFS
    assert host.completions(1) == []
    host.disable()
    assert not host.csts.CFS
    host.up()
    assert host.do(read(host), 1).ok


def test_bus_master_enable_is_lost_until_the_host_sets_it_again(make_host: MakeHost) -> None:
    host = make_host(fault("bus-master-off", opcode=READ, nth=1)).up()
    host.submit(read(host), 1)
    host.submit(read(host), 1)
    assert host.completions(1) == []
    assert host.csts.CFS, "it cannot even fetch the second one"
    assert not host.function.config_read(4, 2) & 4
    assert host.function.config_read(4, 2) & 2
    host.disable()
    host.up()
    assert host.do(read(host), 1).ok


def test_fatal_by_the_switch(make_host: MakeHost) -> None:
    host = make_host(fault("fatal", armed=False)).up()
    assert host.do(read(host), 1).ok
    host.device.device.arm("f")
    assert host.csts.CFS
    assert host.strikes() == ["f"]


def test_ready_drops(make_host: MakeHost) -> None:
    host = make_host(fault("ready-drops", opcode=READ)).up()
    host.submit(read(host), 1)
    assert not host.csts.RDY
    assert not host.csts.CFS
    assert CC(host.read(CC)).EN


def test_removed_and_back(make_host: MakeHost) -> None:
    host = make_host(fault("removed", armed=False)).up()
    host.device.device.arm("f")
    assert host.read(CSTS) == 0xFFFF_FFFF
    assert host.function.read(0, 8) == (1 << 64) - 1
    assert host.function.config_read(0, 4) == 0xFFFF_FFFF
    host.submit(read(host), 1)
    assert host.completions(1) == []
    host.device.device.arm("f", False)
    host.memory_space()
    assert not host.csts.RDY
    assert host.up().do(read(host), 1).ok


def test_removed_from_the_start_but_for_its_configuration_space(make_host: MakeHost) -> None:
    host = make_host(fault("removed", {"config": False}))
    assert host.function.config_read(0x0B, 1) == 0x01
    assert host.function.read(0, 8) == (1 << 64) - 1
    assert host.enable() == 0xFFFF_FFFF


def test_never_ready(make_host: MakeHost) -> None:
    host = make_host(fault("never-ready", times=1))
    assert not host.enable().RDY
    assert not host.device.wait(3600)
    assert not host.csts.RDY
    host.disable()
    assert host.enable().RDY


def test_slow_ready(make_host: MakeHost) -> None:
    host = make_host(fault("slow-ready", {"ms": 60_000}))
    assert not host.enable().RDY
    assert not host.device.wait(50)
    assert not host.csts.RDY
    assert host.device.wait(15)
    assert host.csts.RDY


def test_slow_disable(make_host: MakeHost) -> None:
    host = make_host(fault("slow-disable", {"ms": 60_000}, nth=1)).up()
    assert host.disable().RDY
    assert not host.device.wait(50)
    assert host.csts.RDY
    assert host.device.wait(15)
    assert not host.csts.RDY
    assert host.enable().RDY
    assert not host.disable().RDY, "only the first one was struck"
    assert host.remarks() == []


def test_enabling_before_a_slow_disable_is_over_is_fatal(make_host: MakeHost) -> None:
    host = make_host(fault("slow-disable", {"ms": 1000}, times=1)).up()
    host.disable()
    assert host.enable().CFS
    assert host.device.wait(2)
    assert not host.csts.RDY
    host.disable()
    assert host.enable().RDY, "a reset ends it"
    assert host.remarks() == ["enable-invalid"]


def test_slow_shutdown(make_host: MakeHost) -> None:
    host = make_host(fault("slow-shutdown", {"ms": 60_000})).up()
    host.admin(nvme.Write.of(NSID=1, PRP1=host.pages()), 1)
    host.function.write(CC.OFFSET, 4, READY.but(SHN=1))
    assert not host.device.wait(50)
    assert host.csts.SHST == 1
    assert host.device.device.cut_power() == 1, "what was written is not safe yet"
    host.up()
    host.admin(nvme.Write.of(NSID=1, PRP1=host.pages()), 1)
    host.function.write(CC.OFFSET, 4, READY.but(SHN=1))
    assert host.device.wait(61)
    assert host.csts.SHST == 2
    assert host.device.device.cut_power() == 0
    assert host.strikes() == ["f", "f"]


def test_fatal_at_enable(make_host: MakeHost) -> None:
    host = make_host(fault("fatal-at-enable", nth=2))
    assert host.enable().RDY
    host.disable()
    assert host.enable().CFS
    assert not host.csts.RDY


def test_stuck_ready(make_host: MakeHost) -> None:
    host = make_host(fault("stuck-ready", armed=False)).up()
    host.device.device.arm("f")
    assert host.disable().RDY
    host.device.device.arm("f", False)
    assert not host.csts.RDY


# -- predicates -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("predicate", "expected"),
    [
        ({}, "everything"),
        ({"queue": "io"}, "io"),
        ({"sqid": 1}, "io"),
        ({"queue": "admin"}, "admin"),
        ({"nsid": 1}, "io"),
        ({"nsid": 2}, ""),
        ({"opcode": 0x0A}, "admin"),
        ({"opcode": 0x0A, "cdw10": 7}, "admin"),
        ({"opcode": 0x0A, "cdw10": 6}, ""),
        ({"opcode": READ, "lba": 15}, "io"),
        ({"opcode": READ, "lba": 16}, ""),
        ({"queue": "io", "nth": 2}, ""),
    ],
)
def test_predicates(make_host: MakeHost, predicate: dict[str, Any], expected: str) -> None:
    host = make_host(Fault(name="f", behaviour="status", arguments={"sc": 6}, armed=False, **predicate)).up()
    host.device.device.arm("f")
    failed = set()
    if not host.do(read(host, 8, NLB=7), 1).ok:
        failed.add("io")
    if not host.do(nvme.GetFeatures.of(FID=7)).ok:
        failed.add("admin")
    assert failed == {"everything": {"io", "admin"}, "": set()}.get(expected, {expected})


def test_nth_and_times_and_the_switch(make_host: MakeHost) -> None:
    host = make_host(Fault(name="f", behaviour="status", arguments={"sc": 6}, opcode=READ, times=2)).up()
    assert [host.do(read(host), 1).ok for _ in range(4)] == [False, False, True, True]
    other = make_host(Fault(name="f", behaviour="status", arguments={"sc": 6}, opcode=READ)).up()
    outcomes = []
    for armed in (True, False, True):
        other.device.device.arm("f", armed)
        outcomes.append(other.do(read(other), 1).ok)
    assert outcomes == [False, True, False]


def test_two_faults_at_one_command(make_host: MakeHost) -> None:
    host = make_host(
        Fault(name="late", behaviour="delay", arguments={"ms": 10}, opcode=READ),
        Fault(name="twice", behaviour="duplicate", opcode=READ),
    ).up()
    host.submit(read(host), 1)
    assert host.completions(1) == []
    host.device.wait(1)
    assert len(host.completions(1)) == 2
    assert [event.fault for event in host.events() if isinstance(event, FaultInjected)] == ["late", "twice"]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (Fault(name="f", behaviour="explode"), "explode"),
        (Fault(name="f", behaviour="delay", arguments={"seconds": 1}), "seconds"),
    ],
)
def test_faults_that_cannot_be(make_host: MakeHost, wrong: Fault, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        make_host(wrong)


def test_a_switch_that_is_not_there(make_host: MakeHost) -> None:
    host = make_host()
    with pytest.raises(UsageError, match="'f'"):
        host.device.device.arm("f")


def test_every_behaviour_is_shown_here() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_controller_*.py"))
    assert [name for name in BEHAVIOURS if f'"{name}"' not in text] == []


@pytest.mark.parametrize(("state", "shst"), [("ready", 0), ("shutting-down", 1), ("shut-down", 2)])
def test_an_earlier_owner_is_found_at_the_first_access_and_reset_away(make_host: MakeHost, state: str, shst: int) -> None:
    host = make_host(fault("earlier-owner", {"state": state}))
    found = host.csts
    assert found.RDY
    assert found.SHST == shst
    assert not host.disable().RDY
    assert host.enable().RDY, "it strikes once"
    assert not host.csts.SHST, "it strikes once"
    assert host.remarks() == []


def test_a_shutdown_of_an_earlier_owner_takes_its_time_and_ends(make_host: MakeHost) -> None:
    slow = replace(fault("slow-shutdown", {"ms": 300}), name="slow")
    host = make_host(fault("earlier-owner", {"state": "shutting-down"}), slow)
    assert host.csts.SHST == 1
    host.device.device.clock.advance(0.31)
    assert host.csts.SHST == 2
    assert not host.disable().RDY


def test_an_earlier_owner_leaves_an_interrupt_until_the_reset(make_host: MakeHost) -> None:
    host = make_host(fault("earlier-owner", {"pending": 1}))
    assert host.csts.RDY
    assert host.function.controller.interrupts.intx_status
    host.disable()
    assert not host.function.controller.interrupts.intx_status


def test_an_earlier_owner_has_states_of_the_table_only(make_host: MakeHost) -> None:
    with pytest.raises(UsageError, match="its states are ready, shutting-down, shut-down"):
        make_host(fault("earlier-owner", {"state": "asleep"}))
