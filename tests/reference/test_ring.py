"""The generic ring: indexes, phase, wrap and address translation, for every size that a queue may have."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.reference.ring import CQE_SIZE, PHASE_BYTE, SQE_SIZE, CompletionRing, Ring, SubmissionRing
from lab.reference.transport import Memory

LEAST, MOST = 2, 65536
PAGE = 4096
SIZES = st.integers(LEAST, MOST)
ENTRY_SIZES = st.sampled_from([SQE_SIZE, CQE_SIZE])


class NoMemory(Memory):
    """Pages at falling bus addresses without content, so that the largest ring costs nothing."""

    def __init__(self, length: int) -> None:
        pages = -(-length // PAGE)
        super().__init__(memoryview(b""), tuple((pages - n) * PAGE for n in range(pages)), PAGE)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Forget the data."""


def ring(entries: int, size: int) -> Ring:
    return Ring(NoMemory(entries * size), entries, size)


def move(one: Ring, pushes: int, takes: int) -> None:
    """Push and take in turns, without filling the ring or emptying it further than it is."""
    while pushes or takes:
        step = min(pushes, one.free)
        for _ in range(step):
            one.push(b"")
        pushes -= step
        taken = min(takes, one.used)
        for _ in range(taken):
            one.advance()
        takes -= taken


@pytest.mark.parametrize("size", [SQE_SIZE, CQE_SIZE])
def test_indexes_phase_and_addresses_hold_for_every_size(size: int) -> None:
    """Sets the indexes instead of walking to them, or every size would take hours."""
    for entries in range(LEAST, MOST + 1):
        one = Ring(_LARGEST[size], entries, size)
        last = entries - 1
        assert (one.free, one.used, one.phase) == (last, 0, 1)
        assert (one.following(0), one.following(last)) == (1 % entries, 0)
        one.tail = last
        assert (one.free, one.used) == (0, last), "a ring of N slots is full with N - 1 entries"
        one.head = last
        assert (one.free, one.used) == (last, 0)
        one.advance()
        assert (one.head, one.phase) == (0, 0), "the phase turns where the head wraps, and only there"
        one.tail = last
        assert one.used == last
        one.advance()
        assert (one.head, one.phase) == (1 % entries, 0)
        for slot in (0, 1, entries // 2, last):
            pages = one.memory.pages
            assert one.offset(slot) == slot * size
            assert one.address(slot) == pages[slot * size // PAGE] + slot * size % PAGE


_LARGEST = {size: NoMemory(MOST * size) for size in (SQE_SIZE, CQE_SIZE)}


@pytest.mark.parametrize("entries", range(LEAST, 20))
@pytest.mark.parametrize("kind", [SubmissionRing, CompletionRing])
def test_small_rings_keep_order_over_many_wraps_at_every_fill(
    entries: int, kind: type[SubmissionRing | CompletionRing]
) -> None:
    for fill in range(1, entries):
        one = kind(memory(entries * SQE_SIZE), entries)
        expected, number = deque[int](), 0
        for _ in range(5 * entries):
            while one.used < fill:
                one.push(number.to_bytes(one.size, "little"))
                expected.append(number)
                number += 1
            assert one.free == entries - 1 - fill
            found = one.memory.read(one.offset(one.head), one.size)
            assert int.from_bytes(found, "little") == expected.popleft()
            one.advance()


@given(SIZES, ENTRY_SIZES, st.integers(0, 3 * MOST), st.integers(0, MOST))
@settings(max_examples=60, deadline=None)
def test_indexes_and_phase_depend_on_the_number_of_entries_only(entries: int, size: int, taken: int, ahead: int) -> None:
    one = ring(entries, size)
    ahead = min(ahead, entries - 1)
    move(one, taken + ahead, taken)
    assert one.head == taken % entries
    assert one.tail == (taken + ahead) % entries
    assert one.phase == 1 - taken // entries % 2
    assert (one.used, one.free) == (ahead, entries - 1 - ahead)


@given(SIZES, st.data())
@settings(max_examples=200, deadline=None)
def test_a_reported_head_moves_the_head_forward_only_and_never_past_the_tail(entries: int, data: st.DataObject) -> None:
    one = SubmissionRing(NoMemory(entries * SQE_SIZE), entries)
    one.head = one.tail = data.draw(st.integers(0, entries - 1))
    before, pushed = one.head, data.draw(st.integers(0, entries - 1))
    one.tail = (one.tail + pushed) % entries
    sqhd = data.draw(st.integers(0, 0xFFFF))
    known = one.fetched(sqhd)
    assert known == (sqhd < entries)
    distance = (sqhd - before) % entries
    assert one.head == (sqhd if known and distance <= pushed else before)


@given(SIZES, st.integers(0, 1))
@settings(max_examples=40, deadline=None)
def test_a_completion_is_there_when_its_phase_tag_is_that_of_the_round(entries: int, tag: int) -> None:
    one = CompletionRing(memory(entries * CQE_SIZE), entries)
    one.head = entries - 1
    one.memory.write(one.offset(one.head) + PHASE_BYTE, bytes([tag]))
    assert (one.peek() is not None) == (tag == 1)
    one.advance()
    one.memory.write(PHASE_BYTE, bytes([tag]))
    assert (one.head, one.peek() is not None) == (0, tag == 0)


@given(SIZES)
@settings(max_examples=30, deadline=None)
def test_a_full_ring_refuses_an_entry(entries: int) -> None:
    one = ring(entries, SQE_SIZE)
    one.tail = entries - 1
    with pytest.raises(IndexError, match=f"all {entries - 1} usable slots of the ring are taken"):
        one.push(b"")
    assert one.tail == entries - 1


def memory(length: int) -> Memory:
    return Memory(memoryview(bytearray(length)), (0x1000,), PAGE)
