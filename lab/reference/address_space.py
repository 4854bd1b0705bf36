"""An allocator of bus addresses: what a kernel's page allocator or IOVA allocator does."""

from __future__ import annotations

from bisect import insort

from lab.reference.errors import Refused


class AddressSpace:
    """Addresses from ``start`` to ``end`` (exclusive). The lowest that fit are allocated first."""

    def __init__(self, start: int, end: int) -> None:
        """Make all addresses from ``start`` to ``end`` (exclusive) free."""
        self._free = [(start, end)]

    def allocate(self, length: int, alignment: int) -> int:
        """Return the address of ``length`` free bytes; Refused if there are none."""
        for index, (start, end) in enumerate(self._free):
            at = -(-start // alignment) * alignment
            if at + length <= end:
                self._free[index : index + 1] = [(a, b) for a, b in ((start, at), (at + length, end)) if a < b]
                return at
        raise Refused(f"no {length} bytes of DMA memory are free")

    def free(self, address: int, length: int) -> None:
        """Return allocated bytes, and join them with their free neighbours."""
        insort(self._free, (address, address + length))
        joined = [self._free[0]]
        for start, end in self._free[1:]:
            if start == joined[-1][1]:
                joined[-1] = (joined[-1][0], end)
            else:
                joined.append((start, end))
        self._free = joined


def round_to_pages(length: int, page_size: int) -> int:
    """Return the size in bytes of the pages that ``length`` bytes need."""
    return -(-length // page_size) * page_size
