"""PRP lists as QEMU's trace shows them: the entries one by one, as each is mapped, but not the list pages' addresses.

Only the first list's address (PRP2) is in the trace. Where a page ends in a pointer to the next one, that pointer is sampled
and trusted only if the page behind it begins with the entries that the trace shows next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

ENTRY = 8


@dataclass
class Mapping:
    """One walk of a command's PRPs: ``length`` bytes, ``first`` of them at PRP1; the list's ``entries`` as they were mapped."""

    length: int
    first: int
    prp2: int
    addresses: list[int] = field(default_factory=list)  # of every part, PRP1's included
    refused: bool = False  # the last of them is an entry that ended the walk

    def lists(self, page: int, read: Callable[[int, int], bytes | None]) -> Iterator[tuple[int, tuple[int, ...], bool]]:
        """Yield (address, entries, sampled) of each list page; entries without a known page come last, with address -1."""
        rest = self.length - self.first
        if rest <= page:
            return  # PRP2 is the second page itself, or unused
        needed, entries = -(-rest // page), self.addresses[1:]
        address, sampled = self.prp2, False
        while entries:
            room = (page - address % page) // ENTRY
            if needed <= room:
                yield address, tuple(entries), sampled
                return
            here, entries = entries[: room - 1], entries[room - 1 :]
            needed -= len(here)
            if not entries:  # the walk ended early
                yield address, tuple(here), sampled
                return
            if self.refused and len(entries) == 1:  # it was the pointer
                yield address, (*here, *entries), sampled
                return
            following = _pointer(read, address + (room - 1) * ENTRY)
            if following is None or not _begins(read, following, entries[: page // ENTRY - 1]):
                yield address, tuple(here), sampled
                yield -1, tuple(entries), True
                return
            yield address, (*here, following), True
            address, sampled = following, True


def _pointer(read: Callable[[int, int], bytes | None], address: int) -> int | None:
    raw = read(address, ENTRY)
    return None if raw is None else int.from_bytes(raw, "little")


def _begins(read: Callable[[int, int], bytes | None], address: int, entries: list[int]) -> bool:
    return read(address, ENTRY * len(entries)) == b"".join(entry.to_bytes(ENTRY, "little") for entry in entries)
