"""Bus addresses are given out once, aligned, and come back whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.reference.address_space import AddressSpace, round_to_pages
from lab.reference.errors import Refused

END = 1 << 20


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 5000), st.sampled_from([1, 64, 4096])), max_size=60))
def test_nothing_is_given_twice_and_all_comes_back(steps: list[tuple[bool, int, int]]) -> None:
    space, held = AddressSpace(4096, END), list[tuple[int, int]]()
    for taking, length, alignment in steps:
        if taking:
            at = space.allocate(length, alignment)
            assert at % alignment == 0
            assert 4096 <= at <= END - length
            assert all(at + length <= other or other + size <= at for other, size in held)
            held.append((at, length))
        elif held:
            space.free(*held.pop(length % len(held)))
    for taken in held:
        space.free(*taken)
    assert space.allocate(END - 4096, 1) == 4096


def test_what_does_not_fit_is_refused() -> None:
    space = AddressSpace(0, 8192)
    space.allocate(1, 1)
    with pytest.raises(Refused, match="no 8192 bytes of DMA memory are free"):
        space.allocate(8192, 4096)


def test_pages_are_whole() -> None:
    assert [round_to_pages(length, 4096) for length in (1, 4096, 4097)] == [4096, 4096, 8192]
