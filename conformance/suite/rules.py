"""Rules of every stage: whatever a driver is asked, it must load, answer, and leave the guest alive."""

from __future__ import annotations

from collections.abc import Iterator

from conformance.record.record import Record
from conformance.suite.check import MANDATORY, Finding, check
from conformance.suite.citations import PRACTICE
from lab.data.events import Panicked


@check("every/load", cite=PRACTICE, level=MANDATORY, why="practice", witnesses=["out"])
def load(record: Record) -> Iterator[Finding]:
    """Loads, unless the device is one that it may refuse."""
    for asked in record.answers("load") if not record.scenario.hostile else ():
        yield Finding(asked.ok, asked.ended, "success", asked.status)


@check("every/answer", cite=PRACTICE, level=MANDATORY, why="practice", witnesses=["out"])
def answer(record: Record) -> Iterator[Finding]:
    """Answers every question in time."""
    for asked in record.asked:
        if asked.ended:
            yield Finding(asked.status != "timeout", asked.ended, f"an answer to {asked.action}", asked.status)


@check("every/panic", cite=PRACTICE, level=MANDATORY, why="safety", witnesses=["out"])
def panic(record: Record) -> Iterator[Finding]:
    """Never takes the guest down."""
    died = record.all(Panicked)
    for event in died:
        yield Finding(False, event, "a guest that lives", event.text)
    if record.asked and not died:
        yield Finding(True, record.asked[-1].ended, "a guest that lives", "alive")
