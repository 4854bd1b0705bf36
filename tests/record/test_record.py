"""The fold over the events: what a controller was at each moment."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest

from conformance.record import record as record_module
from conformance.record.record import Record
from conformance.record.state import State
from lab.data.events import (
    ActionEnded,
    ActionStarted,
    Completed,
    ConfigWrite,
    Doorbell,
    Event,
    Interrupt,
    RegisterRead,
    RegisterWrite,
    Reset,
    ShadowDoorbell,
    Submitted,
)
from lab.nvme.commands import Command, CreateIoCq, CreateIoSq, DeleteIoSq, DoorbellBufferConfig, Read, SetFeatures
from lab.nvme.completions import Completion
from lab.nvme.registers import ACQ, AQA, ASQ, CC, CSTS
from tests.toy.fixtures import MakeEvidence


class Script:
    """Events one after another, a millisecond apart."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def add(self, make: Callable[[float], Event]) -> None:
        self.events.append(make(len(self.events) / 1000))

    def write(self, offset: int, value: int, size: int = 4) -> None:
        self.add(lambda t: RegisterWrite(t=t, offset=offset, size=size, value=value))

    def enable(self) -> None:
        self.write(AQA.OFFSET, AQA.of(ASQS=7, ACQS=15))
        self.write(ASQ.OFFSET, 0x1_0000_1000, size=8)
        self.write(ACQ.OFFSET, 0x2000)
        self.write(ACQ.OFFSET + 4, 0x3)
        self.write(CC.OFFSET, CC.of(EN=1, IOSQES=6, IOCQES=4))
        self.add(lambda t: RegisterRead(t=t, offset=CSTS.OFFSET, size=4, value=1))

    def ring(self, value: int, completion: bool) -> None:
        offset = 0x1000 + 4 * completion
        self.add(lambda t: Doorbell(t=t, offset=offset, size=4, value=value, qid=0, completion=completion))

    def command(self, command: Command, *, sqid: int = 0, dw0: int = 0, sc: int = 0) -> None:
        cid = len(self.events)
        self.add(lambda t: Submitted(t=t, sqid=sqid, raw=command.but(CID=cid)))
        raw = Completion.of(CID=cid, SQID=sqid, DW0=dw0, SC=sc, SQHD=1)
        self.add(lambda t: Completed(t=t, cqid=sqid, raw=raw))


def last_state(make_evidence: MakeEvidence, script: Script) -> State:
    """Return the state after all events: a last one is added to look at it."""
    script.add(lambda t: ConfigWrite(t=t, offset=0x3C, size=1, value=0))
    *_, (state, _) = Record(make_evidence(script.events)).walk()
    return state


def test_admin_queues_live_from_enable_with_what_was_programmed(make_evidence: MakeEvidence) -> None:
    script = Script()
    script.enable()
    state = last_state(make_evidence, script)
    assert state.enabled
    assert state.epoch == 1
    assert state.csts == CSTS.of(RDY=1)
    assert (state.sqs[0].size, state.sqs[0].base) == (8, 0x1_0000_1000)
    assert (state.cqs[0].size, state.cqs[0].base) == (16, 0x3_0000_2000)
    assert {0x24, 0x28, 0x2C, 0x30, 0x34} <= state.written


def test_io_queues_live_from_their_success_to_their_deletion(make_evidence: MakeEvidence) -> None:
    script = Script()
    script.enable()
    script.command(SetFeatures.of(FID=7, CDW11=0x0003_0003), dw0=0x0001_0002)
    script.command(CreateIoCq.of(QID=1, QSIZE=63, PC=1, IEN=1, IV=5, PRP1=0x8000))
    script.command(CreateIoSq.of(QID=1, QSIZE=63, PC=1, CQID=1, PRP1=0x9000))
    script.command(CreateIoSq.of(QID=2, QSIZE=63, PC=1, CQID=1, PRP1=0xA000), sc=1)
    state = last_state(make_evidence, script)
    assert state.granted == (3, 2)
    assert (state.cqs[1].vector, state.cqs[1].base, state.sqs[1].cqid) == (5, 0x8000, 1)
    assert 2 not in state.sqs
    script.command(DeleteIoSq.of(QID=1))
    assert 1 not in last_state(make_evidence, script).sqs


def test_a_reset_ends_queues_commands_and_grants(make_evidence: MakeEvidence) -> None:
    script = Script()
    script.enable()
    script.command(SetFeatures.of(FID=7), dw0=0x0001_0001)
    script.add(lambda t: Submitted(t=t, sqid=0, raw=Command.of(OPC=0x0C, CID=77)))
    script.write(CC.OFFSET, 0)
    state = last_state(make_evidence, script)
    assert not state.enabled
    assert not state.sqs
    assert not state.in_flight
    assert state.granted is None
    assert state.csts is None
    assert state.written, "AQA, ASQ and ACQ keep their values over a controller reset"
    script.add(lambda t: Reset(t=t, cause="flr"))
    assert not last_state(make_evidence, script).written


def test_doorbells_move_tails_and_return_slots_around_the_ring(make_evidence: MakeEvidence) -> None:
    script = Script()
    script.enable()
    for value, completion in ((7, False), (2, False), (15, True), (3, True)):
        script.ring(value, completion)
    state = last_state(make_evidence, script)
    assert (state.sqs[0].tail, state.cqs[0].head, state.cqs[0].returned) == (2, 3, 19)


def test_shadow_doorbells_hide_the_tails_of_io_rings(make_evidence: MakeEvidence) -> None:
    script = Script()
    script.enable()
    script.command(DoorbellBufferConfig.of(PRP1=0x1000, PRP2=0x2000))
    state = last_state(make_evidence, script)
    assert state.rings_all(0)
    assert not state.rings_all(1)


def test_once_shadow_doorbells_are_seen_a_late_doorbell_moves_nothing(make_evidence: MakeEvidence) -> None:
    """A write to a register may arrive after the controller has seen newer values in memory."""
    script = Script()
    script.enable()
    script.command(CreateIoCq.of(QID=1, QSIZE=15, PC=1, IEN=1, IV=1, PRP1=0x4000))
    script.command(DoorbellBufferConfig.of(PRP1=0x1000, PRP2=0x2000))
    for kind, value in ((Doorbell, 2), (ShadowDoorbell, 2), (ShadowDoorbell, 5), (Doorbell, 4), (ShadowDoorbell, 6)):
        place = {"offset": 0x100C, "size": 4} if kind is Doorbell else {}
        script.add(lambda t, kind=kind, value=value, place=place: kind(t=t, qid=1, completion=True, value=value, **place))  # type: ignore[misc]
    state = last_state(make_evidence, script)
    assert state.shadow == (0x1000, 0x2000)
    assert (state.cqs[1].head, state.cqs[1].returned) == (6, 6)
    script.write(CC.OFFSET, 0)
    state = last_state(make_evidence, script)
    assert state.shadow is None
    assert not state.shadowed


def test_events_that_several_controllers_may_have_caused_are_not_walked(make_evidence: MakeEvidence) -> None:
    script = Script()
    script.enable()
    evidence = make_evidence(script.events)
    assert len(list(Record(evidence).walk())) == len(script.events)
    mixed = Record(evidence)
    mixed.controllers = evidence.scenario.device.controllers * 2
    assert not list(mixed.walk())


def busy(make_evidence: MakeEvidence) -> Record:
    """Return a poll, queues that come and go, commands, doorbell and resets; each enable within an action."""
    script = Script()
    for number in range(3):
        script.add(lambda t, number=number: ActionStarted(t=t, number=number, action="load", arguments={}))  # type: ignore[misc]
        script.enable()
        for _ in range(5):
            script.add(lambda t: RegisterRead(t=t, offset=CSTS.OFFSET, size=4, value=1))
            script.add(lambda t: Interrupt(t=t, vector=0, how="msix"))
        script.command(CreateIoCq.of(QID=1, QSIZE=15, PC=1, IEN=1, IV=1, PRP1=0x4000))
        script.command(CreateIoSq.of(QID=1, QSIZE=15, PC=1, CQID=1, PRP1=0x5000))
        for value in range(1, 4):
            script.ring(value, completion=False)
            script.command(Read.of(NSID=1), sqid=1)
            script.ring(value, completion=True)
        script.add(lambda t, number=number: ActionEnded(t=t, number=number, action="load", answer={}))  # type: ignore[misc]
        script.command(DeleteIoSq.of(QID=1))
        script.write(CC.OFFSET, 0)
    script.add(lambda t: Reset(t=t, cause="flr"))
    return Record(make_evidence(script.events))


@pytest.mark.parametrize("kept", [0, 1, 50, record_module.KEPT_BYTES // record_module.STATE_BYTES])
@pytest.mark.parametrize("length", [1, 2, 7, 1000])
def test_a_walk_of_some_kinds_sees_what_a_walk_of_all_sees(
    make_evidence: MakeEvidence, monkeypatch: pytest.MonkeyPatch, length: int, kept: int
) -> None:
    """However the record is cut, whatever is skipped, and however many states are kept."""
    monkeypatch.setattr(record_module, "STRETCH", length)
    monkeypatch.setattr(record_module, "KEPT_BYTES", kept * record_module.STATE_BYTES)
    record = busy(make_evidence)
    state, seen = State(record.controllers[0], None), []
    for event in record.events:  # the fold as such
        seen.append((event, deepcopy(state)))
        if (move := State.MOVES.get(type(event))) is not None:
            move(state, event)
    for kinds in ((), (Doorbell,), (RegisterRead, Reset), (Interrupt,), (Submitted, Completed), (ActionEnded,), (ConfigWrite,)):
        wanted = [(event, was) for event, was in seen if isinstance(event, kinds or Event)]
        assert [(event, deepcopy(state)) for state, event in record.walk(*kinds)] == wanted
        for asked in record.asked:
            assert asked.ended is not None
            begin, end = asked.started.t, asked.ended.t
            during = [(event, was) for event, was in wanted if begin <= event.t <= end]
            assert [(event, deepcopy(state)) for state, event in record.during(asked, *kinds)] == during
    for commands in ((CreateIoSq,), (Read, DeleteIoSq), (Command,), (DoorbellBufferConfig,)):
        sent = [(e, was) for e, was in seen if isinstance(e, Submitted) and isinstance(e.command, commands)]
        assert [(event, deepcopy(state)) for state, event, _ in record.commands(*commands)] == sent


def test_a_controller_has_been_ready_once_that_was_read_after_its_enable(make_evidence: MakeEvidence) -> None:
    script = Script()
    script.write(CC.OFFSET, CC.of(EN=1))
    assert not last_state(make_evidence, script).been_ready
    script.add(lambda t: RegisterRead(t=t, offset=CSTS.OFFSET, size=4, value=1))
    script.add(lambda t: RegisterRead(t=t, offset=CSTS.OFFSET, size=4, value=0))
    assert last_state(make_evidence, script).been_ready
    script.write(CC.OFFSET, 0)
    script.add(lambda t: RegisterRead(t=t, offset=CSTS.OFFSET, size=4, value=1))
    script.write(CC.OFFSET, CC.of(EN=1))
    assert not last_state(make_evidence, script).been_ready


def test_a_driver_without_notice_of_a_power_cut_rings_without_effect_until_it_looks(make_evidence: MakeEvidence) -> None:
    script = Script()
    script.enable()
    script.ring(1, completion=False)
    script.add(lambda t: Reset(t=t, cause="power"))
    script.ring(2, completion=False)
    script.add(lambda t: RegisterRead(t=t, offset=CSTS.OFFSET, size=4, value=0))
    script.ring(3, completion=False)
    rung = [event.value for _, event in Record(make_evidence(script.events)).walk() if isinstance(event, Doorbell)]
    assert rung == [1, 3]
