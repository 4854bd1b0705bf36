"""A set of logical blocks, kept as disjoint ranges: as large as the number of ranges, not of blocks."""

from __future__ import annotations

from bisect import bisect_left, bisect_right


class BlockRanges:
    """Blocks by number; ranges that touch are merged."""

    def __init__(self) -> None:
        """Begin with no block."""
        self._starts: list[int] = []
        self._ends: list[int] = []  # exclusive

    def __bool__(self) -> bool:
        """Return whether there is any block."""
        return bool(self._starts)

    def __len__(self) -> int:
        """Return the number of ranges."""
        return len(self._starts)

    def add(self, start: int, count: int) -> None:
        """Add ``count`` blocks from ``start`` on."""
        end = start + count
        first, last = bisect_left(self._ends, start), bisect_right(self._starts, end)
        if first < last:
            start, end = min(start, self._starts[first]), max(end, self._ends[last - 1])
        self._starts[first:last], self._ends[first:last] = [start], [end]

    def remove(self, start: int, count: int) -> None:
        """Remove ``count`` blocks from ``start`` on."""
        end = start + count
        first, last = bisect_right(self._ends, start), bisect_left(self._starts, end)
        if first >= last:
            return
        left = [(self._starts[first], start)] if self._starts[first] < start else []
        right = [(end, self._ends[last - 1])] if end < self._ends[last - 1] else []
        rest = left + right
        self._starts[first:last], self._ends[first:last] = [a for a, _ in rest], [b for _, b in rest]

    def first_in(self, start: int, count: int) -> int | None:
        """Return the lowest block of the set among ``count`` blocks from ``start`` on; None if there is none."""
        index = bisect_right(self._ends, start)
        if index == len(self._starts) or self._starts[index] >= start + count:
            return None
        return max(start, self._starts[index])

    def within(self, start: int, count: int) -> list[tuple[int, int]]:
        """Return (first block, number of blocks) of each range among ``count`` blocks from ``start`` on."""
        first, last = bisect_right(self._ends, start), bisect_left(self._starts, start + count)
        cut = [
            (max(a, start), min(b, start + count))
            for a, b in zip(self._starts[first:last], self._ends[first:last], strict=True)
        ]
        return [(a, b - a) for a, b in cut]

    def clear(self) -> None:
        """Remove all blocks."""
        self._starts.clear()
        self._ends.clear()
