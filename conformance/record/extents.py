"""What is known of ranges of blocks: as large as the number of ranges, and not of blocks."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Extents(Generic[T]):
    """Disjoint ranges of blocks in order, each with a value; what is put later replaces what was there."""

    def __init__(self) -> None:
        """Begin with no extent."""
        self._starts: list[int] = []
        self._ends: list[int] = []  # exclusive
        self._values: list[T] = []

    def __iter__(self) -> Iterator[tuple[range, T]]:
        """Yield each range with its value, in order."""
        for start, end, value in zip(self._starts, self._ends, self._values, strict=True):
            yield range(start, end), value

    def put(self, blocks: range, value: T) -> None:
        """Give a range a value."""
        if blocks:
            self._replace(blocks, [(blocks.start, blocks.stop, value)])

    def put_each(self, parts: Sequence[tuple[range, T]]) -> None:
        """Give each of these ranges its value; none is empty, they are in order and share no blocks."""
        if not parts:
            return
        new: list[tuple[int, int, T]] = []
        end = parts[0][0].start
        for blocks, value in parts:
            if end < blocks.start:
                new += [(kept.start, kept.stop, held) for kept, held in self.within(range(end, blocks.start))]
            new.append((blocks.start, blocks.stop, value))
            end = blocks.stop
        self._replace(range(parts[0][0].start, end), new)

    def remove(self, blocks: range) -> None:
        """Forget a range."""
        if blocks:
            self._replace(blocks, [])

    def clear(self) -> None:
        """Forget all."""
        for each in (self._starts, self._ends, self._values):
            each.clear()

    def find(self, block: int) -> tuple[bool, T | None]:
        """Return whether the block has a value, and which."""
        index = bisect_right(self._ends, block)
        if index < len(self._starts) and self._starts[index] <= block:
            return True, self._values[index]
        return False, None

    def within(self, blocks: range) -> Iterator[tuple[range, T]]:
        """Yield the parts of a range that have a value, in order."""
        first, last = self._overlapping(blocks)
        for index in range(first, last):
            part = range(max(self._starts[index], blocks.start), min(self._ends[index], blocks.stop))
            yield part, self._values[index]

    def _overlapping(self, blocks: range) -> tuple[int, int]:
        """Return the indices, the second exclusive, of the ranges that share blocks with this one."""
        return bisect_right(self._ends, blocks.start), bisect_left(self._starts, blocks.stop)

    def _replace(self, blocks: range, new: list[tuple[int, int, T]]) -> None:
        first, last = self._overlapping(blocks)
        if first < last:
            if self._starts[first] < blocks.start:
                new = [(self._starts[first], blocks.start, self._values[first]), *new]
            if self._ends[last - 1] > blocks.stop:
                new = [*new, (blocks.stop, self._ends[last - 1], self._values[last - 1])]
        last = max(first, last)
        self._starts[first:last] = [start for start, _, _ in new]
        self._ends[first:last] = [end for _, end, _ in new]
        self._values[first:last] = [value for _, _, value in new]
