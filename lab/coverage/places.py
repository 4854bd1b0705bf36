"""Where an object was in the guest's memory, and what of it was executed there.

Loading changes the bytes of some instructions (relocations, patched calls), and keeps most. So each executed instruction votes
for the places at which the object would hold the same bytes, and the place with the most votes is the object's.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from lab.coverage.log import LINE_BYTES
from lab.coverage.objects import CodeObject
from lab.data.coverage import ObjectCoverage

LEAST_BYTES = 3
"""Shorter instructions are everywhere."""
COMMON = 8
"""Code that an object holds more often than this says nothing of its place."""
LEAST_VOTES = 12
LEAST_SHARE = 0.8
"""So many of the executed instructions in an object's extent begin where its own do."""
MOST_PLACES = 8
"""A module that is loaded again can come to another place."""


def cover(item: CodeObject, executed: Mapping[int, bytes]) -> ObjectCoverage:
    """Return what of the object was executed, by all the places at which it was."""
    places = tuple(_places(item, executed))
    hit = {at for place in places for at in item.code if at + place in executed}
    functions = []
    for function in item.functions:
        mask = sum(1 << number for number, at in enumerate(function.offsets()) if at in hit)
        functions.append(type(function)(function.name, function.offset, function.sizes, mask))
    return ObjectCoverage(item.name, item.sha256, tuple(functions), places)


def _places(item: CodeObject, executed: Mapping[int, bytes]) -> Iterator[int]:
    """Yield the places, the surest first."""
    index: dict[bytes, list[int]] = defaultdict(list)
    for at, code in item.code.items():
        if len(code) >= LEAST_BYTES:
            index[code[:LINE_BYTES]].append(at)
    votes = Counter(
        address - at
        for address, code in executed.items()
        for at in (index.get(code, ()) if len(index.get(code, ())) <= COMMON else ())
    )
    found: list[int] = []
    begin, end = item.extent
    for place, count in votes.most_common(4 * MOST_PLACES):
        if count < LEAST_VOTES or len(found) == MOST_PLACES:
            return
        inside = [address for address in executed if place + begin <= address < place + end]
        ours = sum(address - place in item.code for address in inside)
        if ours >= LEAST_SHARE * len(inside) and all(abs(place - other) >= end - begin for other in found):
            found.append(place)
            yield place
