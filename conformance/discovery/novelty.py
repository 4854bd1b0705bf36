"""What an input reaches: lines of a Python driver, blocks of machine code in a guest, pairs of successive steps on the wire."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import lab.reference
from conformance.discovery.oracles import without_numbers
from conformance.wire.decode import timeline
from conformance.wire.diff import joined, steps
from lab.data.coverage import RecordingCoverage
from lab.data.events import Event
from lab.data.plan import Scenario

DRIVER = str(Path(lab.reference.__file__).parent)
TOOL = "nvme-lab fuzz"
TRACED_CALLS = 40
"""Calls of one function whose lines are looked at, where each line costs: a driver that polls makes millions."""

Feature = tuple[str, ...]


def block_features(coverage: RecordingCoverage | None) -> set[Feature]:
    """Return each basic block of a driver's machine code that was executed."""
    return {
        ("block", item.name, function.name, str(number))
        for item in (coverage.objects if coverage else ())
        for function in item.functions
        for number in _bits(function.executed & function.blocks)
    }


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def wire_features(scenario: Scenario, events: Iterable[Event]) -> set[Feature]:
    """Return each pair of successive steps on the wire, without their numbers."""
    words = ["", *(without_numbers(step.words) for step in steps(timeline(scenario, joined(events))))]
    return {("wire", one, other) for one, other in pairwise(words)}


@contextmanager
def driver_lines(found: set[Feature]) -> Iterator[None]:
    """Collect the lines of the reference driver that are executed in the block.

    From Python 3.12 on by `sys.monitoring`, where a line costs something only the first time; before by `sys.settrace`.
    """
    if sys.version_info >= (3, 12):
        yield from _monitored(found)
    else:
        yield from _traced(found)


def _traced(found: set[Feature]) -> Iterator[None]:
    reached: set[tuple[CodeType, int]] = set()
    calls: Counter[CodeType] = Counter()

    def line(frame: FrameType, _event: str, _argument: Any) -> Any:
        reached.add((frame.f_code, frame.f_lineno))
        return line

    def call(frame: FrameType, _event: str, _argument: Any) -> Any:
        code = frame.f_code
        if not code.co_filename.startswith(DRIVER):
            return None
        calls[code] += 1
        return line if calls[code] <= TRACED_CALLS else None

    before = sys.gettrace()
    sys.settrace(call)
    try:
        yield
    finally:
        sys.settrace(before)
        found |= {("line", code.co_filename[len(DRIVER) :], str(number)) for code, number in reached}


def _monitored(found: set[Feature]) -> Iterator[None]:
    monitoring: Any = sys.monitoring  # type: ignore[attr-defined,unused-ignore]
    tool = monitoring.COVERAGE_ID

    def line(code: CodeType, number: int) -> Any:
        if code.co_filename.startswith(DRIVER):
            found.add(("line", code.co_filename[len(DRIVER) :], str(number)))
        return monitoring.DISABLE

    monitoring.use_tool_id(tool, TOOL)
    try:
        monitoring.restart_events()
        monitoring.register_callback(tool, monitoring.events.LINE, line)
        monitoring.set_events(tool, monitoring.events.LINE)
        yield
    finally:
        monitoring.set_events(tool, monitoring.events.NO_EVENTS)
        monitoring.register_callback(tool, monitoring.events.LINE, None)
        monitoring.free_tool_id(tool)
