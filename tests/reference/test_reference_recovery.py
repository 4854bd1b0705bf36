"""The reference driver on a controller that fails: what it does about it, what its caller hears, and that it ends."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from lab.data.events import Completed, Doorbell, RegisterWrite, Submitted
from lab.data.plan import Fault, Namespace
from lab.drivers.reference_in_process import InProcessTransport
from lab.nvme.commands import (
    Abort,
    AsyncEventRequest,
    CreateIoCq,
    CreateIoSq,
    DatasetManagement,
    GetLogPage,
    Read,
    SetFeatures,
)
from lab.nvme.registers import CC
from lab.reference.settings import Settings

if TYPE_CHECKING:
    from tests.reference.conftest import Make, Rig


READ = 0x02


def fault(behaviour: str, **fields: Any) -> Fault:
    names = Fault.__dataclass_fields__
    own = {name: value for name, value in fields.items() if name in names}
    return Fault(name="f", behaviour=behaviour, arguments={k: v for k, v in fields.items() if k not in names}, **own)


def reads(rig: Rig) -> list[Submitted]:
    return [e for e in rig.events() if isinstance(e, Submitted) and isinstance(e.command, Read)]


def read(rig: Rig) -> Any:
    return rig.ask("read", nsid=1, lba=3, blocks=8)


@pytest.mark.parametrize(("dnr", "sent"), [(0, 4), (1, 1)])
def test_retries_are_bounded_and_honour_dnr(make: Make, dnr: int, sent: int) -> None:
    rig = make(fault("status", opcode=READ, queue="io", sct=2, sc=0x81, dnr=dnr))
    rig.load()
    assert read(rig).status == {"sct": 2, "sc": 0x81}
    assert len(reads(rig)) == sent


def test_a_passing_error_is_survived_unnoticed(make: Make) -> None:
    rig = make(fault("status", opcode=READ, queue="io", sc=0x06, times=2))
    rig.load()
    assert read(rig).status == "success"
    assert len(reads(rig)) == 3


def test_a_retry_waits_as_long_as_the_controller_asks(make: Make) -> None:
    rig = make(fault("status", opcode=READ, queue="io", sc=0x21, crd=2, times=1), identify={"CRDT2": 30})
    controller = rig.load()
    began = controller.transport.now()
    assert read(rig).status == "success"
    assert 3.0 <= controller.transport.now() - began < 4.0


def test_an_error_in_one_piece_fails_the_whole_after_all_have_ended(make: Make) -> None:
    rig = make(fault("status", opcode=READ, queue="io", lba=40, sct=2, sc=0x81, dnr=1), mdts=1)
    controller = rig.load()
    assert rig.ask("read", nsid=1, lba=0, blocks=160).status == {"sct": 2, "sc": 0x81}
    assert not any(pair.outstanding for pair in controller.io)
    assert rig.ask("read", nsid=1, lba=100, blocks=8).status == "success"


def test_a_hung_command_is_aborted_and_tried_once_more(make: Make) -> None:
    rig = make(fault("drop", opcode=READ, queue="io", times=1))
    controller = rig.load()
    assert read(rig).status == "success"
    assert (controller.recovery.aborts, controller.recovery.resets) == (1, 0)
    events = rig.events()
    dropped = next(e for e in events if isinstance(e, Submitted) and isinstance(e.command, Read))
    (abort,) = [e.command for e in events if isinstance(e, Submitted) and isinstance(e.command, Abort)]
    assert (abort.SQID, abort.ABORT_CID) == (dropped.sqid, dropped.command.CID)


def test_a_command_that_always_hangs_is_reported_as_a_failure(make: Make) -> None:
    rig = make(fault("drop", opcode=READ, queue="io", lba=3))
    rig.load()
    assert "not completed in time" in read(rig).status["words"]
    assert rig.ask("read", nsid=1, lba=100, blocks=8).status == "success"
    assert len([e for e in rig.events() if isinstance(e, Submitted) and isinstance(e.command, Abort)]) == 2


def test_where_abort_fails_the_controller_is_reset(make: Make) -> None:
    aborts = Fault(name="a", behaviour="status", opcode=Abort.OPCODE, queue="admin", arguments={"sc": 6, "dnr": 1})
    rig = make(fault("drop", opcode=READ, queue="io", times=1), aborts)
    controller = rig.load()
    assert read(rig).status == "success"
    assert controller.recovery.resets == 1


def test_where_abort_itself_hangs_the_controller_is_reset(make: Make) -> None:
    aborts = Fault(name="a", behaviour="drop", opcode=Abort.OPCODE, queue="admin")
    rig = make(fault("drop", opcode=READ, queue="io", times=1), aborts)
    controller = rig.load()
    assert read(rig).status == "success"
    assert controller.recovery.resets == 1


@pytest.mark.parametrize("behaviour", ["fatal", "ready-drops"])
def test_a_controller_that_stops_is_reset_and_no_doorbell_rung_meanwhile(make: Make, behaviour: str) -> None:
    rig = make(fault(behaviour, opcode=READ, queue="io", times=1), mdts=1)
    controller = rig.load()
    data = os.urandom(512 * 100)
    assert rig.ask("write", data, nsid=1, lba=3).status == "success"
    assert rig.ask("read", nsid=1, lba=3, blocks=100).data == data
    assert controller.recovery.resets == 1
    enabled, rung_while_down = False, False
    for event in rig.events():
        if isinstance(event, RegisterWrite) and event.offset == CC.OFFSET:
            enabled = bool(CC(event.value).EN)
        rung_while_down |= isinstance(event, Doorbell) and not enabled
    assert not rung_while_down


@pytest.mark.parametrize("behaviour", ["never-ready", "fatal-at-enable"])
def test_a_controller_that_does_not_come_up_is_reported_within_cap_to(make: Make, behaviour: str) -> None:
    rig = make(fault(behaviour), cap={"TO": 4})
    began = rig.device.device.clock.now()
    reply = rig.ask("load")
    assert isinstance(reply.status, dict)
    assert ("CSTS.CFS" if behaviour == "fatal-at-enable" else "after 2 s (CAP.TO)") in reply.status["words"]
    assert rig.device.device.clock.now() - began < 3
    last = [e for e in rig.events() if isinstance(e, RegisterWrite) and e.offset == CC.OFFSET][-1]
    assert not CC(last.value).EN


def test_a_slow_controller_is_waited_for(make: Make) -> None:
    rig = make(fault("slow-ready", ms=6000), cap={"TO": 20})
    rig.load()
    assert read(rig).status == "success"


def test_a_controller_that_cannot_be_stopped_is_given_up(make: Make) -> None:
    rig = make(fault("stuck-ready", armed=False), cap={"TO": 1})
    controller = rig.load()
    rig.device.device.arm("f")
    reply = rig.ask("reset")
    assert isinstance(reply.status, dict)
    assert "CSTS.RDY is not 0" in reply.status["words"]
    assert controller.failed is not None
    assert read(rig).status == reply.status
    rig.ask("unload")


@pytest.mark.parametrize("when", ["before", "during"])
def test_a_removed_controller_ends_everything_once_and_at_once(make: Make, when: str) -> None:
    rig = make(fault("removed", armed=False) if when == "before" else fault("removed", opcode=READ, queue="io"), mdts=1)
    controller = rig.load()
    if when == "before":
        rig.device.device.arm("f")
    began = controller.transport.now()
    reply = rig.ask("read", nsid=1, lba=0, blocks=100)
    assert isinstance(reply.status, dict)
    assert "all ones" in reply.status["words"]
    assert controller.transport.now() - began < 2
    assert not any(pair.outstanding for pair in controller.io)
    assert rig.ask("unload").status == "success"


def test_all_ones_from_the_start_end_cleanly(make: Make) -> None:
    rig = make(fault("removed"))
    reply = rig.ask("load")
    assert isinstance(reply.status, dict)
    assert "FFFFFFh" in reply.status["words"]


BAD_COMPLETIONS = ["wrong-phase", "wrong-cid", "wrong-sqid", "wrong-sqhd"]


@pytest.mark.parametrize("behaviour", BAD_COMPLETIONS)
def test_an_impossible_completion_is_ignored(make: Make, behaviour: str) -> None:
    rig = make(fault(behaviour, opcode=READ, queue="io", times=1))
    controller = rig.load()
    assert read(rig).data == bytes(8 * 512)
    assert controller.recovery.aborts or controller.recovery.resets
    assert rig.ask("read", nsid=1, lba=0, blocks=64).status == "success"


def test_a_completion_that_comes_twice_ends_one_command(make: Make) -> None:
    rig = make(fault("duplicate", opcode=READ, queue="io"))
    controller = rig.load()
    for _ in range(100):
        assert read(rig).status == "success"
    assert sum(len(pair.unexpected) for pair in controller.io) == 100


def test_completions_may_come_in_any_order(make: Make) -> None:
    rig = make(fault("out-of-order", opcode=READ, queue="io"), mdts=1)
    rig.load()
    data = os.urandom(512 * 200)
    assert rig.ask("write", data, nsid=1, lba=3).status == "success"
    assert rig.ask("read", nsid=1, lba=3, blocks=200).data == data


def test_a_lost_interrupt_costs_a_look_and_no_command(make: Make) -> None:
    rig = make(fault("no-interrupt", opcode=READ, queue="io"))
    controller = rig.load()
    began = controller.transport.now()
    assert read(rig).status == "success"
    assert controller.transport.now() - began < 2 * controller.settings.check_seconds
    assert controller.recovery.aborts == controller.recovery.resets == 0


def test_an_interrupt_without_a_reason_does_no_harm(make: Make) -> None:
    rig = make(fault("spurious-interrupt", opcode=READ, queue="io", vector=1, count=5))
    rig.load()
    for _ in range(20):
        assert read(rig).status == "success"


def test_a_create_that_fails_leaves_nothing_half_done_and_fewer_queues_are_enough(make: Make) -> None:
    rig = make(fault("status", queue="admin", opcode=0x01, nth=2, sct=1, sc=1, dnr=1), settings=Settings(io_queues=4))
    controller = rig.load()
    assert len(controller.io) == 1
    assert read(rig).status == "success"
    assert rig.ask("unload").status == "success"
    assert rig.broken_rules() == set()


def test_without_any_io_queue_it_says_so(make: Make) -> None:
    rig = make(fault("status", queue="admin", opcode=0x05, sct=1, sc=1, dnr=1))
    reply = rig.ask("load")
    assert isinstance(reply.status, dict)
    assert "no I/O queue can be created" in reply.status["words"]


def test_a_failed_identify_is_reported_and_its_zeros_are_not_used(make: Make) -> None:
    rig = make(fault("status", queue="admin", opcode=0x06, cdw10=1, sc=6, dnr=1))
    assert rig.ask("load").status == {"sct": 0, "sc": 6}
    assert rig.ask("identify").status != "success"


def test_one_namespace_that_fails_identify_hides_no_other(make: Make) -> None:
    namespaces = tuple(Namespace(nsid=n, blocks=64) for n in (1, 2, 3))
    rig = make(fault("status", queue="admin", opcode=0x06, cdw10=0, nsid=2, sc=6, dnr=1), namespaces=namespaces)
    rig.load()
    assert [one["nsid"] for one in rig.ask("list").fields["namespaces"]] == [1, 3]
    reply = rig.ask("read", nsid=2, lba=0, blocks=1)
    assert isinstance(reply.status, dict)
    assert "cannot be used" in reply.status["words"]


def test_what_is_overdue_happens_at_the_next_wait(make: Make) -> None:
    rig = make(fault("delay", opcode=READ, queue="io", ms=0))
    controller = rig.load()
    for _ in range(50):
        assert read(rig).status == "success"
    assert controller.recovery.aborts == controller.recovery.resets == 0


def test_queues_start_afresh_after_a_reset_under_load(make: Make) -> None:
    rig = make(fault("fatal", opcode=READ, queue="io", nth=50), mdts=1, cap={"MQES": 15})
    controller = rig.load()
    data = os.urandom(512 * 1600)
    assert rig.ask("write", data, nsid=1, lba=0).status == "success"
    assert rig.ask("read", nsid=1, lba=0, blocks=1600).data == data
    assert controller.recovery.resets == 1
    # Until it has read CSTS, the driver cannot know that doorbells for what has ended before have no effect any more.
    assert rig.broken_rules() == {"controller-fatal-status", "doorbell-while-not-ready"}


def test_events_are_asked_for_within_the_limit_answered_and_asked_for_again(make: Make) -> None:
    rig = make(namespaces=(Namespace(blocks=64), Namespace(nsid=2, blocks=64, attached=False)), identify={"AERL": 1})
    rig.load()
    for nsid in (2,):
        rig.device.device.attach("nv0", nsid)
    reply = rig.ask("list")
    assert "namespaces changed: [2]" in reply.fields["log"]
    assert [one["nsid"] for one in rig.ask("list").fields["namespaces"]] == [1, 2]
    rig.device.device.warn("nv0", 0b100)
    assert "DEGRADED" in rig.ask("smart").fields["log"]
    rig.device.device.detach("nv0", 2)
    rig.ask("ready")
    assert [one["nsid"] for one in rig.ask("list").fields["namespaces"]] == [1]
    outstanding, most = 0, 0
    cids = dict[int, bool]()
    for event in rig.events():
        if isinstance(event, Submitted) and isinstance(event.command, AsyncEventRequest):
            cids[event.command.CID] = True
            outstanding += 1
            most = max(most, outstanding)
        elif isinstance(event, Completed) and event.cqid == 0 and cids.pop(event.completion.CID, False):
            outstanding -= 1
    assert most == 2
    assert outstanding == 2


def test_the_log_that_an_event_names_is_read(make: Make) -> None:
    rig = make()
    rig.load()
    rig.device.device.warn("nv0", 0b1)
    rig.ask("ready")
    logs = [e.command.LID for e in rig.events() if isinstance(e, Submitted) and isinstance(e.command, GetLogPage)]
    assert logs == [2]


def test_memory_of_a_controller_that_cannot_be_stopped_is_not_used_again(make: Make) -> None:
    rig = make(fault("drop", opcode=READ, queue="io", times=1), Fault(name="s", behaviour="stuck-ready"),
               Fault(name="a", behaviour="drop", opcode=Abort.OPCODE, queue="admin"), cap={"TO": 1})  # fmt: skip
    controller = rig.load()
    before = len(rig.host.memory.ranges)
    assert "not completed in time" in read(rig).status["words"]
    assert controller.failed is not None
    assert len(rig.host.memory.ranges) > before
    assert isinstance(controller.transport, InProcessTransport)
    rig.ask("unload")
    rig.service.close()
    assert rig.host.memory.ranges == []


def test_a_reset_in_the_middle_of_creating_queues_starts_that_step_again(make: Make) -> None:
    rig = make(fault("drop", opcode=CreateIoCq.OPCODE, queue="admin", times=1))
    controller = rig.load()
    assert controller.recovery.resets == 1
    assert len(controller.io) == 2
    assert read(rig).status == "success"
    kinds = [type(e.command) for e in rig.events() if isinstance(e, Submitted)]
    creating = [kind for kind in kinds if kind in (SetFeatures, CreateIoCq, CreateIoSq)]
    first = creating.index(CreateIoCq)
    assert creating[first + 1] is SetFeatures, creating


def test_queues_that_are_never_created_are_reported(make: Make) -> None:
    rig = make(fault("drop", opcode=CreateIoCq.OPCODE, queue="admin"))
    reply = rig.ask("load")
    assert reply.status != "success"


def test_a_trim_of_more_than_32_bits_of_blocks_takes_several_ranges(make: Make) -> None:
    blocks = (1 << 32) + 8
    rig = make(namespaces=(Namespace(blocks=blocks + 100),))
    rig.load()
    assert rig.ask("trim", nsid=1, lba=3, blocks=blocks).status == "success"
    (sent,) = [e.command for e in rig.events() if isinstance(e, Submitted) and isinstance(e.command, DatasetManagement)]
    assert sent.NR == 1
