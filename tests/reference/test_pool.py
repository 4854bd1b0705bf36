"""DMA memory that outlives the driver."""

from __future__ import annotations

import pytest

from lab.reference.pool import DmaPool, PoolError
from lab.reference.transport import Memory

PAGE = 4096


class Allocator:
    """Pages at descending addresses."""

    def __init__(self) -> None:
        self.next, self.live = 0x10_0000, 0

    def allocate(self, length: int, page_size: int, *, contiguous: bool = False) -> Memory:
        pages = -(-length // page_size)
        first = self.next
        self.next += pages * page_size
        self.live += 1
        addresses = range(first, self.next, page_size)
        return Memory(memoryview(bytearray(pages * page_size)), tuple(addresses if contiguous else addresses[::-1]), page_size)

    def free(self, memory: Memory) -> None:
        self.live -= 1


@pytest.fixture
def pool() -> DmaPool:
    return DmaPool(Allocator())


def test_a_successor_finds_memory_by_its_tag(pool: DmaPool) -> None:
    memory = pool.allocate(2 * PAGE, PAGE, tag="ring")
    memory.write(0, b"kept")
    assert pool.find("ring").read(0, 4) == b"kept"
    assert pool.tag_of(memory) == "ring"
    assert len(memory) == 2 * PAGE
    with pytest.raises(PoolError, match="has an allocation 'ring' already"):
        pool.allocate(1, PAGE, tag="ring")
    with pytest.raises(PoolError, match="no allocation 'other': it is not known"):
        pool.find("other")


@pytest.mark.parametrize("contiguous", [True, False])
def test_bus_addresses_are_those_of_the_inner_pages(pool: DmaPool, contiguous: bool) -> None:
    memory = pool.allocate(3 * PAGE, PAGE, contiguous=contiguous)
    (one,) = pool
    assert memory.pages == one.outer.pages[1:-1]
    assert len(memory.pages) == 3


@pytest.mark.parametrize(("at", "where"), [(PAGE - 1, "1 bytes before its begin"), (2 * PAGE + 5, "5 bytes after its end")])
def test_canaries_show_an_access_beyond_an_end(pool: DmaPool, at: int, where: str) -> None:
    memory = pool.allocate(PAGE, PAGE, tag="buffer")
    (one,) = pool
    one.outer.view[at] ^= 0xFF
    assert where in pool.check()[0]
    with pytest.raises(PoolError, match="overwritten"):
        pool.free(memory)
    assert not pool.leaks()


def test_memory_is_freed_once(pool: DmaPool) -> None:
    memory = pool.allocate(PAGE, PAGE, tag="buffer")
    pool.free(memory)
    with pytest.raises(PoolError, match="freed twice"):
        pool.tag_of(memory)
    with pytest.raises(PoolError, match="it was freed"):
        pool.find("buffer")


def test_what_is_left_is_listed_and_freed() -> None:
    allocator = Allocator()
    pool = DmaPool(allocator)
    pool.allocate(PAGE, PAGE, tag="b")
    pool.allocate(PAGE, PAGE, tag="a")
    assert pool.leaks() == ["a", "b"]
    assert pool.close() == ["a", "b"]
    assert not allocator.live
    assert not pool.leaks()
