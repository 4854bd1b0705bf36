"""Where a guest's processors were when the lab stopped it: the evidence's backtrace.json.

A frame is a place in the driver's code. What is between two frames of a driver is code of the kernel or firmware, which is not
named here. Return addresses are found on the stack by their looks: a frame can be the rest of a call that has ended.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lab.data.seal import DAMAGED, DOCUMENT_BYTES, open_inside
from lab.errors import LabError

FILE = "backtrace.json"
SCHEMA = 1


@dataclass(frozen=True)
class Frame:
    """A place in a function of the driver."""

    function: str
    offset: int
    object: str
    address: int

    def __str__(self) -> str:
        """Return it as a kernel prints it."""
        return f"{self.function}+{self.offset:#x} [{self.object}]"


@dataclass(frozen=True)
class ProcessorStop:
    """One processor: its program counter, and the driver's frames from there outwards."""

    number: int
    pc: int
    frames: tuple[Frame, ...] = ()


@dataclass(frozen=True)
class Backtrace:
    """One stop: why, when (on the clock of the events), and where. ``console`` is what the guest itself printed, decoded."""

    event: str
    t: float
    processors: tuple[ProcessorStop, ...] = ()
    console: tuple[Frame, ...] = ()
    reason: str = ""
    """Why no function can be named, "" where they can."""

    def lines(self) -> Iterator[str]:
        """Yield it as people read it."""
        yield f"stopped at {self.event}" + (f" ({self.reason})" if self.reason else "")
        for one in self.processors:
            where = " < ".join(map(str, one.frames)) or "nothing of the driver on its stack"
            yield f"processor {one.number} at {one.pc:#x}: {where}"
        if self.console:
            yield f"the guest's own words: {' < '.join(map(str, self.console))}"


def write_backtraces(folder: Path, stops: Sequence[Backtrace]) -> None:
    """Write backtrace.json into an evidence folder, before its end marker seals it."""
    document = {"schema": SCHEMA, "stops": [asdict(stop) for stop in stops]}
    try:
        (folder / FILE).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise LabError(f"{folder / FILE} cannot be written: {error.strerror}", remedy="free some space") from error


def read_backtraces(folder: Path) -> tuple[Backtrace, ...]:
    """Read backtrace.json of an evidence folder; () if there is none, LabError if it is not one."""
    if not (folder / FILE).exists() and not (folder / FILE).is_symlink():
        return ()
    try:
        with open_inside(folder, FILE, DOCUMENT_BYTES) as file:
            data = json.load(file)
        if data["schema"] != SCHEMA:
            raise ValueError(f"schema {data['schema']!r}, and this lab reads {SCHEMA}")
        return tuple(_stop(one) for one in data["stops"])
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise LabError(f"{folder / FILE} holds no backtraces: {error}", remedy=DAMAGED) from error


def _stop(data: Any) -> Backtrace:
    processors = tuple(
        ProcessorStop(int(one["number"]), int(one["pc"]), tuple(map(_frame, one["frames"]))) for one in data["processors"]
    )
    return Backtrace(str(data["event"]), float(data["t"]), processors, tuple(map(_frame, data["console"])), str(data["reason"]))


def _frame(data: Any) -> Frame:
    return Frame(str(data["function"]), int(data["offset"]), str(data["object"]), int(data["address"]))
