"""Which instructions of a driver a recording has executed: the evidence's coverage.json.

An object is a file of machine code, or the driver's part of one: a Linux module, a kernel, a firmware's driver. ``sizes`` holds
the size in bytes of each instruction, a hexadecimal digit each, so that offsets follow from it. ``executed`` and ``blocks`` are
masks: bit n is instruction n, executed, and the first of a basic block.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lab.data.seal import DAMAGED, DOCUMENT_BYTES, open_inside
from lab.errors import LabError

FILE = "coverage.json"
"""In the evidence folder, where ``run --coverage`` asked for it."""
SCHEMA = 2


@dataclass(frozen=True)
class FunctionCoverage:
    """One function; ``offset`` in bytes from the beginning of its object's code."""

    name: str
    offset: int
    sizes: str
    executed: int = 0
    blocks: int = 1
    lines: tuple[tuple[int, int, int], ...] = ()
    """(instruction, number of its source file, source line), where a line begins; only of objects with debug information."""

    @property
    def instructions(self) -> int:
        """Return the number of its instructions."""
        return len(self.sizes)

    def offsets(self) -> Iterator[int]:
        """Yield the offset of each instruction."""
        at = self.offset
        for size in self.sizes:
            yield at
            at += int(size, 16)

    def bare(self) -> FunctionCoverage:
        """Return it with nothing executed."""
        return replace(self, executed=0)

    def source_lines(self) -> Iterator[tuple[int, int, int]]:
        """Yield (source file, source line, mask of its instructions)."""
        ends = [*(first for first, _, _ in self.lines[1:]), self.instructions]
        for (first, file, line), end in zip(self.lines, ends, strict=False):
            yield file, line, (1 << end) - (1 << first)


@dataclass(frozen=True)
class ObjectCoverage:
    """One object. ``places`` are the addresses at which its code was found: none if it never ran there."""

    name: str
    sha256: str
    functions: tuple[FunctionCoverage, ...]
    places: tuple[int, ...] = ()
    sources: tuple[str, ...] = ()
    """Its source files, by the numbers that the functions' lines have."""


@dataclass(frozen=True)
class RecordingCoverage:
    """What was executed in one recording; ``reason`` says why nothing is known, "" where it is."""

    objects: tuple[ObjectCoverage, ...] = ()
    reason: str = ""
    last: str = ""
    """The function in which code was executed for the first time after all others: how far the driver came."""

    def to_json(self) -> dict[str, Any]:
        """Return it as coverage.json holds it."""
        return {
            "schema": SCHEMA,
            "reason": self.reason,
            **({"last": self.last} if self.last else {}),
            "objects": [
                {
                    "name": one.name,
                    "sha256": one.sha256,
                    "places": [f"{place:#x}" for place in one.places],
                    "sources": list(one.sources),
                    "functions": [
                        [f.name, f.offset, f.sizes, f"{f.executed:x}", f"{f.blocks:x}", *([f.lines] if f.lines else ())]
                        for f in one.functions
                    ],
                }
                for one in self.objects
            ],
        }


def write_coverage(folder: Path, coverage: RecordingCoverage) -> None:
    """Write coverage.json into an evidence folder, before its end marker seals it."""
    try:
        (folder / FILE).write_text(json.dumps(coverage.to_json(), separators=(",", ":")) + "\n", encoding="utf-8")
    except OSError as error:
        raise LabError(f"{folder / FILE} cannot be written: {error.strerror}", remedy="free some space") from error


def read_coverage(folder: Path) -> RecordingCoverage | None:
    """Read coverage.json of an evidence folder; None if there is none, LabError if it is not one."""
    if not (folder / FILE).exists() and not (folder / FILE).is_symlink():
        return None
    try:
        with open_inside(folder, FILE, DOCUMENT_BYTES) as file:
            data = json.load(file)
        if data["schema"] != SCHEMA:
            raise ValueError(f"schema {data['schema']!r}, and this lab reads {SCHEMA}")
        return RecordingCoverage(tuple(_object(one) for one in data["objects"]), str(data["reason"]), str(data.get("last", "")))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise LabError(f"{folder / FILE} holds no coverage: {error}", remedy=DAMAGED) from error


def _object(data: Any) -> ObjectCoverage:
    sources = tuple(str(name) for name in data["sources"])
    functions = tuple(_function(one, len(sources)) for one in data["functions"])
    places = tuple(int(place, 16) for place in data["places"])
    return ObjectCoverage(str(data["name"]), str(data["sha256"]), functions, places, sources)


def _function(data: Sequence[Any], sources: int) -> FunctionCoverage:
    name, offset, sizes, executed, blocks, *lines = data
    found = tuple((int(first), int(file), int(line)) for first, file, line in (lines[0] if lines else ()))
    function = FunctionCoverage(str(name), int(offset), str(sizes), int(executed, 16), int(blocks, 16), found)
    int(function.sizes or "0", 16)  # digits only
    if (function.executed | function.blocks) >> function.instructions:
        raise ValueError(f"{function.name}: an instruction that it does not have was executed, or begins a block")
    if any(not 0 <= file < sources for _, file, _ in found):
        raise ValueError(f"{function.name}: a line of a source file that is not named")
    return function
