"""Behaviours that strike time, registers, submissions and completions, and the predicates that choose what they strike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lab.data.events import RegisterRead, RegisterWrite, Submitted
from lab.data.plan import Fault
from lab.errors import UsageError
from lab.nvme import commands as nvme
from lab.nvme.async_events import AsyncEvent, ErrorEvent
from lab.nvme.features import Fid, NumberOfQueues
from lab.nvme.identify import Cns, IdentifyController
from lab.nvme.registers import AQA, ASQ, CAP, CC, CSTS, VS, doorbell_offset
from lab.nvme.status import Status

if TYPE_CHECKING:
    from tests.controller.conftest import Host, MakeHost

READ = 0x02
READY = CC.of(EN=1, IOSQES=6, IOCQES=4)
ONES = 0xFFFF_FFFF


def fault(behaviour: str, arguments: dict[str, Any] | None = None, **predicate: Any) -> Fault:
    return Fault(name="f", behaviour=behaviour, arguments=arguments or {}, **predicate)


def read(host: Host, lba: int = 0, **fields: int) -> nvme.Command:
    return nvme.Read.of(NSID=1, SLBA=lba, PRP1=host.pages(), **fields)


# -- time -----------------------------------------------------------------------------------------------------------


def test_late_ready_takes_most_of_cap_to(make_host: MakeHost) -> None:
    host = make_host(fault("late-ready"), cap={"TO": 12})
    assert not host.enable().RDY
    assert not host.device.wait(5.3)
    assert not host.csts.RDY
    assert host.device.wait(0.2)
    assert host.csts.RDY


def test_a_pause_shows_in_csts_until_it_is_over(make_host: MakeHost) -> None:
    host = make_host(fault("paused", {"ms": 1000}, queue="io", opcode=READ)).up()
    host.submit(nvme.Read.of(NSID=1, PRP1=host.pages()), 1)
    assert (host.csts.PP, host.completions(1)) == (1, [])
    while host.device.wait(2.0):
        pass
    assert (host.csts.PP, len(host.completions(1))) == (0, 1)


def test_log_pages_are_delayed_and_nothing_else(make_host: MakeHost) -> None:
    host = make_host(fault("log-delayed", {"ms": 1000})).up()
    host.submit(nvme.GetLogPage.reading(2, 512).but(PRP1=host.pages()))
    assert host.do(nvme.GetFeatures.of(FID=7), 0).ok
    assert host.completions() == []
    assert host.device.wait(2)
    (completion,) = host.completions()
    assert completion.ok


def test_late_aborts_can_exceed_the_limit(make_host: MakeHost) -> None:
    host = make_host(fault("late-abort", {"ms": 10}), Fault(name="d", behaviour="drop", opcode=READ))
    host.up()
    lost = [host.submit(read(host), 1) for _ in range(5)]
    aborts = [host.submit(nvme.Abort.of(SQID=1, ABORT_CID=cid)) for cid in lost]
    (refused,) = host.completions()
    assert (refused.CID, refused.status) == (aborts[4], Status.ABORT_LIMIT_EXCEEDED)
    while host.device.wait(1):
        pass
    assert [(c.CID, c.DW0) for c in host.completions()] == [(cid, 0) for cid in aborts[:4]]
    assert [c.CID for c in host.completions(1)] == lost[:4]
    assert host.remarks() == ["abort-limit"]


def test_a_late_abort_of_itself_aborts_nothing(make_host: MakeHost) -> None:
    host = make_host(fault("late-abort")).up()
    host.submit(nvme.Abort.of(CID=77, SQID=0, ABORT_CID=77))
    assert host.device.wait(1)
    (completion,) = host.completions()
    assert completion.DW0 == 1


def test_held_commands_complete_one_by_one(make_host: MakeHost) -> None:
    host = make_host(fault("hold", opcode=READ)).up()
    cids = [host.submit(read(host), 1) for _ in range(4)]
    release = host.device.device.release
    assert host.completions(1) == []
    assert release("f") == 1
    assert [c.CID for c in host.completions(1)] == cids[:1]
    assert release("f", 2) == 2
    assert [c.CID for c in host.completions(1)] == cids[1:3]
    host.device.device.arm("f", False)
    assert [c.CID for c in host.completions(1)] == cids[3:]
    assert release("f") == 0


def test_a_held_command_can_be_aborted(make_host: MakeHost) -> None:
    host = make_host(fault("hold", opcode=READ)).up()
    first, second = host.submit(read(host), 1), host.submit(read(host), 1)
    assert host.do(nvme.Abort.of(SQID=1, ABORT_CID=first)).DW0 == 0
    (completion,) = host.completions(1)
    assert completion.status == Status.ABORT_REQUESTED
    assert host.device.device.release("f") == 1
    assert [c.CID for c in host.completions(1)] == [second]


def test_gathered_commands_wait_for_the_last_one(make_host: MakeHost) -> None:
    host = make_host(fault("gather", {"ms": 100}, opcode=READ)).up()
    cids = []
    for _ in range(3):
        cids.append(host.submit(read(host), 1))
        assert not host.device.wait(0.08)
        assert host.completions(1) == []
    host.device.wait(0.03)
    assert [c.CID for c in host.completions(1)] == cids


def test_gathered_commands_end_in_small_numbers(make_host: MakeHost) -> None:
    host = make_host(fault("gather", {"ms": 100, "count": 2}, opcode=READ)).up()
    cids = [host.submit(read(host), 1) for _ in range(3)]
    host.device.wait(0.11)
    assert [c.CID for c in host.completions(1)] == cids[:2]
    host.device.wait(0.11)
    assert [c.CID for c in host.completions(1)] == cids[2:]


def test_only_hold_can_release(make_host: MakeHost) -> None:
    host = make_host(fault("drop", opcode=READ)).up()
    with pytest.raises(UsageError, match="drop holds nothing"):
        host.device.device.release("f")


# -- admin commands -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dnr", [0, 1])
def test_asynchronous_event_requests_are_refused(make_host: MakeHost, dnr: int) -> None:
    host = make_host(fault("aer-refused", {"dnr": dnr})).up()
    completion = host.do(nvme.AsyncEventRequest.of())
    assert (completion.status, completion.DNR) == (Status.ASYNC_EVENT_LIMIT_EXCEEDED, dnr)
    assert host.do(nvme.GetFeatures.of(FID=7)).ok
    assert host.strikes() == ["f"]


def test_the_current_number_of_queues_reads_0(make_host: MakeHost) -> None:
    host = make_host(fault("queue-count-zero"))
    host.enable()
    assert NumberOfQueues(host.admin(nvme.SetFeatures.of(FID=7, CDW11=0x0003_0003)).DW0).NSQA == 7
    assert host.admin(nvme.GetFeatures.of(FID=Fid.NUMBER_OF_QUEUES)).DW0 == 0
    assert host.admin(nvme.GetFeatures.of(FID=Fid.VOLATILE_WRITE_CACHE)).DW0 == 1
    assert host.strikes() == ["f"]


def test_a_submission_is_edited_before_it_is_executed(make_host: MakeHost) -> None:
    host = make_host(fault("edit-submission", {"fields": {"SLBA": 5000}}, opcode=READ, nth=2)).up()
    assert host.do(read(host), 1).ok
    assert host.do(read(host), 1).status == Status.LBA_OUT_OF_RANGE
    (_, struck) = [event for event in host.events() if isinstance(event, Submitted) and event.sqid == 1]
    assert struck.command.SLBA == 0, "the record shows what the host wrote"  # type: ignore[attr-defined]


def test_a_submission_is_edited_by_bytes(make_host: MakeHost) -> None:
    host = make_host(fault("edit-submission", {"offset": 0, "hex": "7f"}, opcode=READ)).up()
    assert host.do(read(host), 1).status == Status.INVALID_OPCODE


def test_a_completion_is_edited_before_it_is_posted(make_host: MakeHost) -> None:
    host = make_host(fault("edit-completion", {"fields": {"DW1": 7, "SC": 2, "CRD": 3}}, opcode=READ)).up()
    (completion,) = [host.do(read(host), 1)]
    assert (completion.DW1, completion.SC, completion.CRD) == (7, 2, 3)


def test_an_unchanged_doorbell_raises_an_event_only_where_it_is_refused(make_host: MakeHost) -> None:
    host = make_host(fault("unchanged-doorbell", armed=False)).up()
    host.submit(nvme.AsyncEventRequest.of())
    host.ring(1, completion=False, value=0)
    assert host.completions() == []
    host.device.device.arm("f")
    host.ring(1, completion=False, value=0)
    (completion,) = host.completions()
    event = AsyncEvent(completion.DW0)
    assert (event.AET, event.AEI) == (0, ErrorEvent.INVALID_DOORBELL_VALUE)


# -- registers ------------------------------------------------------------------------------------------------------


def test_registers_read_all_ones_for_a_while_after_disabling(make_host: MakeHost) -> None:
    host = make_host(fault("ones-after-disable", {"ms": 5}, nth=1)).up()
    host.function.write(CC.OFFSET, 4, 0)
    assert host.csts == ONES
    assert host.function.read(0, 8) == (1 << 64) - 1
    host.function.write(CC.OFFSET, 4, READY)
    host.device.device.clock.advance(0.006)
    assert CC(host.read(CC)) == 0, "what was written meanwhile has no effect"
    assert not host.csts.RDY
    assert host.up().disable() == 0, "only once"


def test_new_firmware_is_there_after_a_reset(make_host: MakeHost) -> None:
    host = make_host(fault("new-firmware", {"cap": {"MQES": 15}, "identify": {"MDTS": 2}}, times=1), mdts=5).up()

    def seen() -> tuple[int, int]:
        identity = IdentifyController(host.data(nvme.Identify.of(CNS=Cns.CONTROLLER)))
        return CAP(host.function.read(CAP.OFFSET, 8)).MQES, identity.MDTS

    assert seen() == (2047, 5)
    host.disable()
    host.up()
    assert seen() == (15, 2)
    assert host.do(nvme.CreateIoCq.of(QID=2, QSIZE=16, PC=1, PRP1=host.pages())).status == Status.QUEUE_SIZE_INVALID
    assert host.remarks() == ["new-firmware"]


def test_registers_that_take_32_bit_accesses_only(make_host: MakeHost) -> None:
    host = make_host(fault("dword-only"))
    assert host.function.read(CAP.OFFSET, 8) == (1 << 64) - 1
    assert host.function.read(CAP.OFFSET, 4) & 0xFFFF == 2047
    host.function.write(ASQ.OFFSET, 8, 0x1_2345_6000)
    assert (host.function.read(ASQ.OFFSET, 4), host.function.read(ASQ.OFFSET + 4, 4)) == (0, 0)
    host.function.write(ASQ.OFFSET, 4, 0x2345_6000)
    host.function.write(ASQ.OFFSET + 4, 4, 1)
    assert (host.function.read(ASQ.OFFSET, 4), host.function.read(ASQ.OFFSET + 4, 4)) == (0x2345_6000, 1)
    assert host.strikes() == ["f", "f"]


def test_enabling_is_ignored_while_there_are_no_admin_queues(make_host: MakeHost) -> None:
    host = make_host(fault("enable-ignored"))
    host.function.write(CC.OFFSET, 4, READY)
    assert not CC(host.read(CC)).EN
    assert host.csts == 0
    assert host.enable().RDY
    assert host.strikes() == ["f"]


def test_reserved_bits_of_msix(make_host: MakeHost) -> None:
    host = make_host(fault("msix-reserved"))
    assert host.function.config_read(0x72, 2) == 0x3808
    assert host.function.config_read(0x73, 1) == 0x38
    host.device.device.arm("f", False)
    assert host.function.config_read(0x72, 2) == 0x0008


def test_a_register_reads_as_a_fault_says(make_host: MakeHost) -> None:
    host = make_host(fault("register-value", {"value": 0x0001_0300}, register="VS", nth=2))
    assert [VS(host.read(VS)).text for _ in range(3)] == ["1.4", "1.3", "1.4"]
    assert host.strikes() == ["f"]


def test_a_write_is_changed_on_its_way(make_host: MakeHost) -> None:
    host = make_host(fault("register-value", {"value": 0, "mask": 0xF0000}, register="CC", access="write", value=READY))
    host.enable()
    assert CC(host.read(CC)) == READY.but(IOSQES=0)


def test_a_register_access_strikes_the_controller(make_host: MakeHost) -> None:
    host = make_host(fault("fatal", register="AQA", access="write", nth=2))
    assert host.enable().RDY
    host.function.write(AQA.OFFSET, 4, 0x0007_0007)
    assert host.csts.CFS


def test_a_doorbell_can_be_named_by_its_offset(make_host: MakeHost) -> None:
    tail = doorbell_offset(1, completion=False, dstrd=0)
    host = make_host(fault("removed", register=tail, access="write", nth=3)).up()
    assert [host.do(read(host), 1).ok for _ in range(2)] == [True, True]
    host.submit(read(host), 1)
    assert host.csts == ONES


# -- predicates -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("predicate", "struck"),
    [
        ({"fields": {"SLBA": 8}}, True),
        ({"fields": {"SLBA": 8, "NLB": 7}}, True),
        ({"fields": {"SLBA": 9}}, False),
        ({"fields": {"QID": 1}}, False),
        ({"mask": "00" * 40 + "ff", "match": "00" * 40 + "08"}, True),
        ({"mask": "00" * 40 + "ff", "match": "00" * 40 + "09"}, False),
        ({"mask": "ff", "match": "02", "fields": {"NSID": 1}}, True),
        ({"mask": "0f", "match": "f2"}, True),
        ({"opcode": READ, "fields": {"FUA": 1}}, False),
    ],
)
def test_predicates_of_fields_and_bits(make_host: MakeHost, predicate: dict[str, Any], struck: bool) -> None:
    host = make_host(Fault(name="f", behaviour="status", arguments={"sc": 6}, queue="io", **predicate)).up()
    assert host.do(read(host, 8, NLB=7), 1).ok is not struck


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"mask": "ff"}, "mask and match"),
        ({"mask": "f", "match": "0f"}, "hexadecimal"),
        ({"mask": "00", "match": "00"}, "all zero"),
        ({"mask": "ff" * 65, "match": "ff" * 65}, "65"),
        ({"fields": {"LBA": 1}}, "'LBA'"),
        ({"register": "CAPS"}, "'CAPS'"),
        ({"register": "CC"}, "strikes no register accesses"),
    ],
)
def test_predicates_that_cannot_be(make_host: MakeHost, wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        make_host(Fault(name="f", behaviour="status", **wrong))


@pytest.mark.parametrize(
    ("behaviour", "arguments", "named"),
    [
        ("edit-submission", {"offset": 63, "hex": "0102"}, "beyond"),
        ("edit-submission", {"hex": "zz"}, "hex"),
        ("edit-completion", {"fields": {"STATUS": 1}}, "STATUS"),
        ("edit-completion", {"fields": {"SC": 256}}, "8 bits"),
    ],
)
def test_arguments_that_cannot_be(make_host: MakeHost, behaviour: str, arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        make_host(fault(behaviour, arguments))


def test_a_fault_names_a_command_or_a_register(make_host: MakeHost) -> None:
    with pytest.raises(UsageError, match="a register and a command"):
        make_host(fault("fatal", register="CC", opcode=READ))


def test_the_record_shows_what_the_host_read(make_host: MakeHost) -> None:
    host = make_host(fault("register-value", register="CSTS"))
    assert host.csts == ONES
    (event,) = [event for event in host.events() if isinstance(event, RegisterRead | RegisterWrite)]
    assert (event.offset, event.value) == (CSTS.OFFSET, ONES)
