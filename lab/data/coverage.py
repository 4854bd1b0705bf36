"""Which instructions of a driver a recording has executed: the evidence's coverage.json.

An object is a file of machine code: a Linux module, a kernel. Its functions are its symbols; ``sizes`` holds the size in bytes
of each instruction, a hexadecimal digit each, so that offsets follow from it. ``executed`` is a mask: bit n is instruction n.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.data.seal import DAMAGED, DOCUMENT_BYTES, open_inside
from lab.errors import LabError

FILE = "coverage.json"
"""In the evidence folder, where ``run --coverage`` asked for it."""
SCHEMA = 1


@dataclass(frozen=True)
class FunctionCoverage:
    """One function; ``offset`` in bytes from the beginning of its object's code."""

    name: str
    offset: int
    sizes: str
    executed: int = 0

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


@dataclass(frozen=True)
class ObjectCoverage:
    """One object. ``places`` are the addresses at which its code was found: none if it never ran there."""

    name: str
    sha256: str
    functions: tuple[FunctionCoverage, ...]
    places: tuple[int, ...] = ()


@dataclass(frozen=True)
class RecordingCoverage:
    """What was executed in one recording; ``reason`` says why nothing is known, "" where it is."""

    objects: tuple[ObjectCoverage, ...] = ()
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as coverage.json holds it."""
        return {
            "schema": SCHEMA,
            "reason": self.reason,
            "objects": [
                {
                    "name": one.name,
                    "sha256": one.sha256,
                    "places": [f"{place:#x}" for place in one.places],
                    "functions": [[f.name, f.offset, f.sizes, f"{f.executed:x}"] for f in one.functions],
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
        return RecordingCoverage(tuple(_object(one) for one in data["objects"]), str(data["reason"]))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise LabError(f"{folder / FILE} holds no coverage: {error}", remedy=DAMAGED) from error


def _object(data: Any) -> ObjectCoverage:
    functions = tuple(_function(one) for one in data["functions"])
    return ObjectCoverage(str(data["name"]), str(data["sha256"]), functions, tuple(int(p, 16) for p in data["places"]))


def _function(data: Sequence[Any]) -> FunctionCoverage:
    name, offset, sizes, executed = data
    function = FunctionCoverage(str(name), int(offset), str(sizes), int(executed, 16))
    int(function.sizes or "0", 16)  # digits only
    if function.executed >> function.instructions:
        raise ValueError(f"{function.name}: an instruction that it does not have was executed")
    return function
