"""DMA memory that outlives the driver: a successor finds the allocations of its predecessor by their tags.

Each allocation lies between two pages of a pattern, the canaries. An access of the driver or the device beyond its ends shows
when it is freed, or when the pool is checked. Freeing twice is an error; what was not freed can be listed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import Protocol, cast

from lab.reference import pci
from lab.reference.errors import DriverError
from lab.reference.transport import Memory, Transport

CANARY = b"\xca\x9a\x12\x7e"


class PoolError(DriverError):
    """Memory that is not what its owner takes it for: freed already, unknown, or written beyond its end."""


class Allocator(Protocol):
    """Where the pool gets its memory; a `lab.reference.transport.Transport` is one."""

    def allocate(self, length: int, page_size: int, *, contiguous: bool = False) -> Memory:
        """Return zeroed memory."""

    def free(self, memory: Memory) -> None:
        """Take memory back."""


@dataclass(frozen=True)
class Allocation:
    """What the pool has allocated: the driver's memory, inside of what the allocator gave."""

    tag: str
    memory: Memory
    outer: Memory


class DmaPool:
    """A pool over an allocator. It belongs to the host of drivers, not to a driver."""

    def __init__(self, allocator: Allocator) -> None:
        """Begin without allocations."""
        self._allocator = allocator
        self._by_tag: dict[str, Allocation] = {}
        self._freed: set[str] = set()
        self._numbers = count(1)

    def __len__(self) -> int:
        """Return the number of allocations."""
        return len(self._by_tag)

    def __iter__(self) -> Iterator[Allocation]:
        """Yield all allocations."""
        return iter(tuple(self._by_tag.values()))

    def allocate(self, length: int, page_size: int, *, contiguous: bool = False, tag: str = "") -> Memory:
        """Return zeroed memory of at least ``length`` bytes under a tag, by default a number.

        PoolError if the tag is taken.
        """
        name = tag or f"dma-{next(self._numbers)}"
        if name in self._by_tag:
            raise PoolError(f"the pool has an allocation {name!r} already")
        pages = -(-length // page_size)
        outer = self._allocator.allocate((pages + 2) * page_size, page_size, contiguous=contiguous)
        outer.view[:page_size] = outer.view[-page_size:] = _canary(page_size)
        inner = replace(outer, view=outer.view[page_size : (pages + 1) * page_size], pages=outer.pages[1 : pages + 1])
        self._by_tag[name] = Allocation(name, inner, outer)
        self._freed.discard(name)
        return inner

    def find(self, tag: str) -> Memory:
        """Return the memory under a tag. PoolError if there is none."""
        if tag not in self._by_tag:
            what = "was freed" if tag in self._freed else "is not known"
            raise PoolError(f"the pool has no allocation {tag!r}: it {what}")
        return self._by_tag[tag].memory

    def tag_of(self, memory: Memory) -> str:
        """Return the tag of an allocation. PoolError if it is none."""
        for one in self._by_tag.values():
            if one.memory is memory:
                return one.tag
        raise PoolError(f"the memory at {memory.address:#x} is no allocation of the pool: freed twice, or never allocated")

    def free(self, memory: Memory) -> None:
        """Free an allocation. PoolError for a second time, and for canaries that were overwritten, after it was freed."""
        one = self._by_tag.pop(self.tag_of(memory))
        self._freed.add(one.tag)
        damage = _damage(one)
        one.memory.view.release()
        self._allocator.free(one.outer)
        if damage:
            raise PoolError(damage)

    def check(self) -> list[str]:
        """Return a sentence about each allocation whose canaries were overwritten."""
        return [damage for one in self if (damage := _damage(one))]

    def leaks(self) -> list[str]:
        """Return the tags of what was not freed; to be asked when no driver is left."""
        return sorted(self._by_tag)

    def close(self) -> list[str]:
        """Free everything, and return the tags of what a driver should have freed."""
        leaked = self.leaks()
        for one in self:
            del self._by_tag[one.tag]
            one.memory.view.release()
            self._allocator.free(one.outer)
        return leaked


def _canary(size: int) -> bytes:
    return CANARY * (size // len(CANARY))


def _damage(one: Allocation) -> str:
    """Return a sentence about overwritten canaries; "" if they are intact."""
    size = one.outer.page_size
    expected = _canary(size)
    for where, found in (("before", bytes(one.outer.view[:size])), ("after", bytes(one.outer.view[-size:]))):
        if found != expected:
            at = next(index for index in range(size) if found[index] != expected[index])
            place = f"{size - at} bytes before its begin" if where == "before" else f"{at} bytes after its end"
            return f"the memory {where} {one.tag!r} was overwritten, {place}"
    return ""


def pooled(transport: Transport, pool: DmaPool) -> Transport:
    """Return a transport whose memory is the pool's."""
    return cast(Transport, PooledTransport(transport, pool))


class PooledTransport:
    """A transport whose DMA memory comes from a pool, and stays there when the driver closes the function.

    Everything else is the transport's own: see `lab.reference.transport.Transport`.
    """

    def __init__(self, transport: object, pool: DmaPool) -> None:
        """Use a transport, and a pool instead of its memory."""
        self._transport, self.pool = transport, pool

    def __getattr__(self, name: str) -> object:
        """Return what the transport itself has."""
        return getattr(self._transport, name)

    def allocate(self, length: int, page_size: int, *, contiguous: bool = False, tag: str = "") -> Memory:
        """Return memory of the pool."""
        return self.pool.allocate(length, page_size, contiguous=contiguous, tag=tag)

    def free(self, memory: Memory) -> None:
        """Return memory to the pool."""
        self.pool.free(memory)

    def close(self) -> None:
        """Stop the function's DMA, free the pool, and release the function."""
        set_off = self._bus().config_read(pci.COMMAND, 2) & ~pci.BUS_MASTER & 0xFFFF
        self._bus().config_write(pci.COMMAND, 2, set_off)
        self.pool.close()
        self._bus().close()

    def _bus(self) -> Transport:
        return cast(Transport, self._transport)
