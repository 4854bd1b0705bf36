"""Ranges with values are the same as a table of blocks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from conformance.record.extents import Extents

STEPS = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 12), st.sampled_from([None, 1, 2, "remove", "clear"])), max_size=30
)


@given(steps=STEPS)
def test_it_holds_what_a_table_of_blocks_holds(steps: list[tuple[int, int, int | str | None]]) -> None:
    extents: Extents[int | str | None] = Extents()
    table: dict[int, int | str | None] = {}
    for start, count, what in steps:
        blocks = range(start, start + count)
        if what == "clear":
            extents.clear()
            table.clear()
        elif what == "remove":
            extents.remove(blocks)
            table = {block: value for block, value in table.items() if block not in blocks}
        else:
            extents.put(blocks, what)
            table.update(dict.fromkeys(blocks, what))
        assert {block: value for part, value in extents for block in part} == table
        assert [part.start for part, _ in extents] == sorted(part.start for part, _ in extents)
        for block in range(45):
            assert extents.find(block) == (block in table, table.get(block))
        inside = {block: value for part, value in extents.within(blocks) for block in part}
        assert inside == {block: value for block, value in table.items() if block in blocks}
