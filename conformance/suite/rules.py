"""Rules of every stage: whatever a driver is asked, it must load, answer, and leave the guest alive."""

from __future__ import annotations

from collections.abc import Iterator

from conformance.record.disk import replay
from conformance.record.record import Record
from conformance.suite.check import MANDATORY, RECOMMENDED, Finding, check
from conformance.suite.citations import PRACTICE
from conformance.suite.refusals import may_refuse, unusual
from lab.data.events import Panicked


@check("every/load", cite=PRACTICE, level=MANDATORY, why="practice", witnesses=["out"])
def load(record: Record) -> Iterator[Finding]:
    """Loads where the device is an ordinary one. What it may refuse is judged by every/unusual-device."""
    ordinary = not record.scenario.hostile and not unusual(record.scenario)
    for asked in record.answers("load"):
        if ordinary or (asked.ok and not record.scenario.hostile):
            yield Finding(asked.ok, asked.ended, "success", asked.status)


@check("every/unusual-device", cite=PRACTICE, level=RECOMMENDED, why="practice", witnesses=["out"])
def unusual_device(record: Record) -> Iterator[Finding]:
    """Supports conformant devices that are unusual, and blocks that not every driver reaches, although it may refuse them."""
    if record.scenario.hostile:
        return
    if why := unusual(record.scenario):
        for asked in record.answers("load"):
            yield Finding(asked.ok, asked.ended, f"a driver that supports {why}", asked.said)
    for asked, disk in replay(record):
        if asked.action not in ("read", "write") or not asked.ended or asked.status == "unsupported":
            continue
        inside = int(asked.arguments["lba"]) + int(asked.arguments["blocks"]) <= disk.namespace.blocks
        if inside and (why := may_refuse(disk.namespace, asked.arguments)):
            yield Finding(asked.ok, asked.ended, f"a driver that supports {why}", asked.said)


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
