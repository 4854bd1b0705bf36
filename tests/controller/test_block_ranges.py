"""A set of blocks kept as ranges is the same as a set of numbers."""

from __future__ import annotations

import random

import pytest

from lab.controller.block_ranges import BlockRanges


@pytest.mark.parametrize("seed", range(5))
def test_it_is_a_set_of_numbers(seed: int) -> None:
    chance, ranges, numbers = random.Random(seed), BlockRanges(), set[int]()
    for _ in range(2000):
        start, count = chance.randrange(200), chance.randrange(1, 20)
        span = range(start, start + count)
        if chance.random() < 0.5:
            ranges.add(start, count)
            numbers.update(span)
        else:
            ranges.remove(start, count)
            numbers.difference_update(span)
        inside = sorted(numbers.intersection(span))
        assert ranges.first_in(start, count) == (inside[0] if inside else None)
        probe, length = chance.randrange(220), chance.randrange(1, 60)
        found = ranges.within(probe, length)
        assert [n for a, b in found for n in range(a, a + b)] == sorted(numbers.intersection(range(probe, probe + length)))
        assert bool(ranges) == bool(numbers)
        assert len(ranges) <= len(numbers)
    ranges.clear()
    assert not ranges
