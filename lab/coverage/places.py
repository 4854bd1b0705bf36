"""Where an object was in the guest's memory, and what of it was executed there.

Loading changes the bytes of some instructions (relocations, patched calls), and keeps most. So each executed instruction votes
for the places at which the object would hold the same bytes, and the place with the most votes is the object's.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from lab.coverage.log import LINE_BYTES
from lab.coverage.objects import CodeObject
from lab.data.coverage import ObjectCoverage

LEAST_BYTES = 3
"""Shorter instructions are everywhere."""
COMMON = 8
"""Code that an object holds more often than this says nothing of its place."""
LEAST_VOTES = 12
LEAST_SHARE = 0.8
"""So many of the executed instructions in an object's functions begin where its own do."""
MOST_PLACES = 8
"""A module that is loaded again can come to another place."""


def cover(item: CodeObject, executed: Mapping[int, bytes]) -> ObjectCoverage:
    """Return what of the object was executed, by all the places at which it was."""
    places = tuple(_places(item, executed))
    hit = {at for place in places for at in item.code if at + place in executed}
    functions = []
    for function in item.functions:
        mask = sum(1 << number for number, at in enumerate(function.offsets()) if at in hit)
        functions.append(replace(function, executed=mask))
    return ObjectCoverage(item.name, item.sha256, tuple(functions), places, item.sources)


def last_function(objects: Sequence[ObjectCoverage], executed: Mapping[int, bytes]) -> str:
    """Return the function in which an instruction was executed for the first time last; ``executed`` is in that order."""
    ranges = [
        (place + function.offset, sum(int(size, 16) for size in function.sizes), f"{function.name} [{item.name}]")
        for item in objects
        for place in item.places
        for function in item.functions
    ]
    for address in reversed(list(executed)):
        for begin, size, name in ranges:
            if begin <= address < begin + size:
                return name
    return ""


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
    ours = {at + n for at, code in item.code.items() for n in range(len(code))}  # other code may lie between its functions
    for place, count in votes.most_common(4 * MOST_PLACES):
        if count < LEAST_VOTES or len(found) == MOST_PLACES:
            return
        inside = sum(at + place in executed for at in ours)
        fitting = sum(at + place in executed for at in item.code)
        if fitting >= LEAST_SHARE * inside and all(abs(place - other) >= end - begin for other in found):
            found.append(place)
            yield place
