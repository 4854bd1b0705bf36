"""Physical Region Pages: how PRP1, PRP2 and lists name memory. Base 2.0, 4.1.1 "Physical Region Page Entry and List".

PRP1 may point into the middle of a page. Where more than two pages are touched, PRP2 points to a list of the second page
and those after it; where a list does not fit its page, the page's last entry points to the next list page.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

ENTRY = 8
"""Bytes of one PRP entry."""

Segment = tuple[int, int]
"""(address, bytes)."""

Read = Callable[[int, int], bytes]
"""Reads (address, bytes) of the host's memory; raises `UnreadableError` where there is none."""


class UnreadableError(Exception):
    """A list lies in memory that cannot be read: ``address``, ``length``."""

    def __init__(self, address: int, length: int) -> None:
        """Name the range in bytes."""
        super().__init__(f"{length} bytes at {address:#x} cannot be read")
        self.address, self.length = address, length


class PrpProblem(Enum):
    """What PRP entries must not do; the value says it for people."""

    PRP1_NOT_DWORD_ALIGNED = "PRP1 is not dword aligned"
    PRP2_OFFSET = "PRP2 names the second page but has an offset into it"
    LIST_NOT_QWORD_ALIGNED = "the list's address is not qword aligned"
    CHAIN_OFFSET = "the pointer to the next list page has an offset into it"
    ENTRY_OFFSET = "a list entry has an offset into its page"
    ZERO_ENTRY = "an entry that is needed is zero"
    LOOP = "a list page comes a second time"


@dataclass(frozen=True)
class Problem:
    """A rule broken, where the offending entry lies (None: in the command itself), and what it holds."""

    kind: PrpProblem
    entry: int
    where: int | None = None

    def __str__(self) -> str:
        """Return the problem and its place in words."""
        place = "" if self.where is None else f" at {self.where:#x}"
        return f"{self.kind.value}: {self.entry:#x}{place}"


@dataclass(frozen=True)
class ListPage:
    """A list as far as it was read: its address, and the entries used (the last one is the chain where ``chained``)."""

    address: int
    entries: tuple[int, ...]
    chained: bool = False


@dataclass
class Walk:
    """What a command's PRP entries name. Offsets that should not be are cleared in the segments and noted as problems."""

    segments: list[Segment] = field(default_factory=list)
    lists: list[ListPage] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Bytes named."""
        return sum(length for _, length in self.segments)


def walk(prp1: int, prp2: int, length: int, page_size: int, read: Read) -> Walk:
    """Return the memory that ``length`` bytes of data lie in, as the controller finds it.

    Bad entries are problems of the walk, never exceptions; only a list that cannot be read raises `UnreadableError`. A list
    page that comes again ends the walk, which then names less than ``length`` bytes.
    """
    result = Walk()
    if length <= 0:
        return result
    if prp1 & 3:
        result.problems.append(Problem(PrpProblem.PRP1_NOT_DWORD_ALIGNED, prp1))
    if not prp1:
        result.problems.append(Problem(PrpProblem.ZERO_ENTRY, prp1))
    first = min(length, page_size - (prp1 & page_size - 1))
    result.segments.append((prp1, first))
    left = length - first
    if not left:
        return result
    if left <= page_size:
        _take(result, prp2, left, page_size, None)
        return result
    _follow(result, prp2, left, page_size, read)
    return result


def walk_list(prp1: int, length: int, page_size: int, read: Read) -> Walk:
    """Return the same where PRP1 itself points to the list: a queue that is not physically contiguous (PC=0)."""
    result = Walk()
    _follow(result, prp1, length, page_size, read)
    return result


def _follow(result: Walk, address: int, left: int, page_size: int, read: Read) -> None:
    """Add the ``left`` bytes that the list at ``address`` names."""
    seen = set[int]()
    if address & (ENTRY - 1):
        result.problems.append(Problem(PrpProblem.LIST_NOT_QWORD_ALIGNED, address))
    if not address:
        result.problems.append(Problem(PrpProblem.ZERO_ENTRY, address))
    address &= ~(ENTRY - 1)
    while left > 0:
        if address in seen:
            result.problems.append(Problem(PrpProblem.LOOP, address))
            return
        seen.add(address)
        room = (page_size - (address & page_size - 1)) // ENTRY
        needed = -(-left // page_size)
        chained = needed > room
        count = min(needed, room)
        raw = read(address, count * ENTRY)
        entries = tuple(int.from_bytes(raw[at : at + ENTRY], "little") for at in range(0, count * ENTRY, ENTRY))
        result.lists.append(ListPage(address, entries, chained))
        for index, entry in enumerate(entries[: count - chained]):
            _take(result, entry, min(left, page_size), page_size, address + index * ENTRY)
            left -= page_size
        if chained:
            where, address = address + (count - 1) * ENTRY, entries[-1]
            if not address:
                result.problems.append(Problem(PrpProblem.ZERO_ENTRY, address, where))
            if address & page_size - 1:
                result.problems.append(Problem(PrpProblem.CHAIN_OFFSET, address, where))
            address &= ~(page_size - 1)


def _take(result: Walk, entry: int, length: int, page_size: int, where: int | None) -> None:
    """Add the page that an entry other than the first names."""
    if not entry:
        result.problems.append(Problem(PrpProblem.ZERO_ENTRY, entry, where))
    if entry & (page_size - 1):
        kind = PrpProblem.PRP2_OFFSET if where is None else PrpProblem.ENTRY_OFFSET
        result.problems.append(Problem(kind, entry, where))
    result.segments.append((entry & ~(page_size - 1), length))


@dataclass(frozen=True)
class Pointers:
    """What the driver puts in a command, and the list pages (address, content) that it must have written before."""

    prp1: int
    prp2: int = 0
    lists: tuple[tuple[int, bytes], ...] = ()


def build(
    pages: Sequence[int], offset: int, length: int, page_size: int, allocate: Callable[[], int] | None = None
) -> Pointers:
    """Return PRP1, PRP2 and list pages for ``length`` bytes that begin ``offset`` bytes into the first of ``pages``.

    ``allocate`` gives the address of a free page for a list each time it is called; it is called exactly as often as
    there are list pages. ValueError where PRPs cannot describe the buffer: an offset that is not a multiple of 4 or not
    in the first page, a page that is not aligned, pages too few.
    """
    if offset & 3 or not 0 <= offset < page_size:
        raise ValueError(f"PRP1 cannot begin at offset {offset} of a page of {page_size} bytes")
    needed = max(1, -(-(offset + length) // page_size))
    if len(pages) < needed:
        raise ValueError(f"{length} bytes at offset {offset} need {needed} pages, not {len(pages)}")
    used = pages[:needed]
    odd = [page for page in used if page & (page_size - 1)]
    if odd:
        raise ValueError(f"page {odd[0]:#x} is not aligned to {page_size} bytes")
    prp1 = used[0] + offset
    if needed <= 2:
        return Pointers(prp1, used[1] if needed == 2 else 0)
    if allocate is None:
        raise ValueError(f"{needed} pages need a PRP list, and there is no memory for it")
    lists: list[tuple[int, bytes]] = []
    entries, capacity = list(used[1:]), page_size // ENTRY
    address = start = allocate()
    while len(entries) > capacity:
        following = allocate()
        lists.append((address, _encode([*entries[: capacity - 1], following])))
        entries, address = entries[capacity - 1 :], following
    lists.append((address, _encode(entries)))
    return Pointers(prp1, start, tuple(lists))


def _encode(entries: Sequence[int]) -> bytes:
    return b"".join(entry.to_bytes(ENTRY, "little") for entry in entries)
