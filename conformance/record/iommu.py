"""What of the host's memory is open to a device, as the IOMMU's events show, and what of it a command in flight needs."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator

from conformance.record.state import State
from lab.data.events import DmaMap, Submitted
from lab.nvme.commands import Psdt

ENTRY = 8
"""Bytes of a PRP list entry, the least that is read of a list."""


class Opened:
    """Ranges of bus addresses, none of which overlap."""

    def __init__(self) -> None:
        """Begin with no range open to the device."""
        self._starts: list[int] = []
        self._ends: dict[int, int] = {}

    def follow(self, event: DmaMap) -> None:
        """Open or close a range. What is closed may have been opened in several parts, but not be a part itself."""
        end = event.address + event.length
        if event.mapped:
            insort(self._starts, event.address)
            self._ends[event.address] = end
            return
        closed = [start for start in self._starts if event.address <= start < end]
        self._starts = [start for start in self._starts if not event.address <= start < end]
        for start in closed:
            del self._ends[start]

    def cover(self, address: int, length: int) -> bool:
        """Is all of it open? It may go on from one range to the next."""
        end = address + length
        while address < end:
            at = bisect_right(self._starts, address) - 1
            if at < 0 or self._ends[self._starts[at]] <= address:
                return False
            address = self._ends[self._starts[at]]
        return True


def needed(state: State, event: Submitted) -> Iterator[range]:
    """Bus addresses that a command names itself: its first page, and its second one or the beginning of its PRP list."""
    command, length = event.command, state.transfer_bytes(event.command)
    if not length or command.PSDT != Psdt.PRP:
        return
    first = min(length, state.page - command.PRP1 % state.page)
    yield range(command.PRP1, command.PRP1 + first)
    if first < length:
        rest = length - first
        yield range(command.PRP2, command.PRP2 + (rest if rest <= state.page else ENTRY))
