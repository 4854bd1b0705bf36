"""Rings and queue pairs of any size, over any number of wraps, against a model controller of a few lines."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.nvme.commands import Flush
from lab.nvme.completions import Completion
from lab.reference.queue_pair import QueuePair
from lab.reference.registers import Registers
from lab.reference.request import Request
from lab.reference.ring import CQE_SIZE, SQE_SIZE, CompletionRing, SubmissionRing
from lab.reference.transport import Memory

SIZES = st.integers(2, 40)


def memory(length: int) -> Memory:
    return Memory(memoryview(bytearray(length)), (0x1000,), 0x1000)


class Bells(Registers):
    """Doorbells without effect."""

    def __init__(self) -> None:
        self.rung: list[tuple[int, bool, int]] = []

    def ring(self, qid: int, *, completion: bool, value: int) -> None:
        self.rung.append((qid, completion, value))


def pair(entries: int) -> tuple[QueuePair, Bells]:
    bells = Bells()
    submission = SubmissionRing(memory(entries * SQE_SIZE), entries)
    completion = CompletionRing(memory(entries * CQE_SIZE), entries)
    made = QueuePair(bells, 1, submission, completion, None)
    made.live = True
    return made, bells


class Model:
    """What a controller does with two rings."""

    def __init__(self, rings: QueuePair) -> None:
        self.rings = rings
        self.entries = rings.submission.entries
        self.head = self.tail = 0
        self.phase = 1
        self.fetched: deque[int] = deque()

    def fetch(self, tail: int) -> None:
        while self.head != tail:
            entry = self.rings.submission.memory.read(self.head * SQE_SIZE, SQE_SIZE)
            self.fetched.append(int.from_bytes(entry[2:4], "little"))
            self.head = (self.head + 1) % self.entries

    def complete(self, cid: int, **wrong: int) -> None:
        fields = {"SQHD": self.head, "SQID": 1, "CID": cid, "P": self.phase, **wrong}
        self.rings.completion.memory.write(self.tail * CQE_SIZE, Completion.of(**fields))
        self.tail = (self.tail + 1) % self.entries
        self.phase ^= self.tail == 0


@given(SIZES)
def test_a_submission_ring_takes_one_entry_less_than_it_has_slots(entries: int) -> None:
    ring = SubmissionRing(memory(entries * SQE_SIZE), entries)
    assert ring.free == entries - 1
    for number in range(entries - 1):
        ring.push(bytes([number + 1]) * SQE_SIZE)
    assert ring.free == 0
    assert ring.tail == entries - 1
    with pytest.raises(IndexError, match=f"all {entries - 1} usable slots"):
        ring.push(bytes(SQE_SIZE))
    assert ring.memory.read((entries - 1) * SQE_SIZE, SQE_SIZE) == bytes(SQE_SIZE)


@given(SIZES, st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.booleans()), max_size=200))
def test_every_command_ends_once_in_any_order_over_any_number_of_wraps(
    entries: int, steps: list[tuple[int, int, bool]]
) -> None:
    rings, bells = pair(entries)
    model, requests = Model(rings), list[Request]()
    for submitted, completed, backwards in steps:
        for _ in range(min(submitted, rings.room)):
            requests.append(Request(Flush.of()))
            rings.submit(requests[-1], 0.0)
        rings.ring()
        if bells.rung and not bells.rung[-1][1]:
            model.fetch(bells.rung[-1][2])
        assert len(set(model.fetched)) == len(model.fetched) <= entries - 1
        for _ in range(min(completed, len(model.fetched))):
            model.complete(model.fetched.pop() if backwards else model.fetched.popleft())
        ended = rings.reap()
        assert all(request.ok for request in ended)
        assert rings.reap() == []
        assert len(rings.outstanding) == len(model.fetched)
        assert rings.completion.head == model.tail
        assert rings.completion.phase == model.phase
    assert sum(request.done for request in requests) == len(requests) - len(model.fetched)
    assert all(value < entries for _, _, value in bells.rung)
    assert not rings.unexpected


def test_one_doorbell_announces_several_commands_and_no_doorbell_announces_none() -> None:
    rings, bells = pair(8)
    for _ in range(5):
        rings.submit(Request(Flush.of()), 0.0)
    rings.ring()
    rings.ring()
    assert bells.rung == [(1, False, 5)]


@pytest.mark.parametrize("wrong", [{"CID": 0x1234}, {"SQID": 3}, {"SQHD": 8}, {"SQHD": 0xFFFF}])
def test_a_completion_that_cannot_be_ends_nothing(wrong: dict[str, int]) -> None:
    rings, bells = pair(8)
    request = Request(Flush.of())
    rings.submit(request, 0.0)
    model = Model(rings)
    model.fetch(1)
    model.complete(model.fetched[0], **wrong)
    assert rings.reap() == []
    assert not request.done
    assert len(rings.unexpected) == 1
    assert bells.rung[-1] == (1, True, 1), "its slot is given back all the same"
    model.complete(model.fetched[0])
    assert rings.reap() == [request]


def test_an_old_phase_is_not_there_yet() -> None:
    rings, _ = pair(4)
    rings.submit(Request(Flush.of()), 0.0)
    model = Model(rings)
    model.complete(0, P=0)
    assert rings.completion.peek() is None
    assert rings.reap() == []


def test_a_pair_that_the_controller_does_not_know_is_left_alone() -> None:
    rings, bells = pair(4)
    rings.submit(Request(Flush.of()), 0.0)
    Model(rings).complete(0)
    rings.live = False
    assert rings.reap() == []
    assert not bells.rung


def test_a_request_cannot_end_twice() -> None:
    request = Request(Flush.of())
    request.end(Completion.of())
    with pytest.raises(AssertionError, match="a second time"):
        request.end(Completion.of())


def test_after_a_restart_rings_are_as_new() -> None:
    rings, _ = pair(4)
    model = Model(rings)
    for _ in range(6):
        rings.submit(Request(Flush.of()), 0.0)
        model.fetch(rings.submission.tail)
        model.complete(model.fetched.popleft())
        assert len(rings.reap()) == 1
    assert rings.completion.phase == 0
    rings.restart()
    assert (rings.submission.head, rings.submission.tail, rings.completion.head, rings.completion.phase) == (0, 0, 0, 1)
    assert not any(rings.completion.memory.view)
    assert not any(rings.submission.memory.view)
