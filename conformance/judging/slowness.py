"""Was it the driver, or was the machine too slow? A driver's time-out that fires may be this machine's doing."""

from __future__ import annotations

from collections.abc import Iterable

from lab.data.events import ActionEnded, Completed, Doorbell, Event, FaultInjected, Submitted
from lab.data.evidence import Evidence
from lab.data.machine import TOO_SLOW
from lab.nvme.commands import AsyncEventRequest

FINE = ("success", "unsupported")
"""Answers that tell of no trouble."""


def slowness(evidence: Evidence) -> str:
    """Return why a driver may have failed because of the machine; "" if it cannot have, or no guest took part."""
    machine = evidence.end.machine if evidence.end else None
    if machine is None:
        return ""
    if machine.trouble:
        return machine.trouble
    latency = device_latency(evidence.events())
    if latency > machine.bound:
        return f"{TOO_SLOW}: the device took {latency:.1f} s for a command (allowed: {machine.bound:g} s)"
    return ""


def gave_up(evidence: Evidence) -> str:
    """Return how the machine was too slow where the driver has reported errors; "" if it was not, or all went well.

    Nothing need fail then, where a driver may refuse its device. But what it left undone nobody can judge.
    """
    if evidence.end is None or evidence.end.machine is None:
        return ""  # no guest: nothing to look for in its events
    failed = (isinstance(event, ActionEnded) and event.answer.get("status") not in FINE for event in evidence.events())
    return slowness(evidence) if any(failed) else ""


def starved(evidence: Evidence) -> str:
    """Return why what the driver's clock decided proves nothing: the guest was run in small pieces; "" if it was not."""
    machine = evidence.end.machine if evidence.end else None
    return machine.starvation if machine else ""


def device_latency(events: Iterable[Event]) -> float:
    """Return the longest time in seconds that the device took for a command where no fault was in play.

    It counts from the last doorbell before the command was fetched. Asynchronous Event Requests wait for events, and a fault
    may delay the command that it strikes, so those are left out.
    """
    longest = 0.0
    rung: dict[tuple[str, int], float] = {}
    fetched: dict[tuple[str, int, int], float] = {}
    for event in events:
        match event:
            case Doorbell(completion=False):
                rung[event.controller, event.qid] = event.t
            case Submitted() if not isinstance(event.command, AsyncEventRequest):
                began = rung.pop((event.controller, event.sqid), event.t)
                fetched[event.controller, event.sqid, event.command.CID] = began
            case FaultInjected():
                fetched.pop((event.controller, event.sqid, event.cid), None)
            case Completed():
                completion = event.completion
                began = fetched.pop((event.controller, completion.SQID, completion.CID), event.t)
                longest = max(longest, event.t - began)
    return longest
