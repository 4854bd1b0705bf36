"""Cause first: which violations only follow from another one, so that one mistake gives one failure at the top.

A violation is a consequence where

- it rests on a queue (`Finding.rests_on`) that an earlier violation kept from being created;
- it is a failed answer after a load that failed, until the driver is loaded again;
- it is a failed answer, wrong data, or an access to memory, and the same action, or the very command, had broken a rule of the
  wire;
- another check finds the same in the same event, and says it more exactly; of two checks of data, the one that finds it in more
  answers speaks, for it says what all of them have in common;
- a table says that the other violation brings it about (`conformance.judging.explanations`).

A verdict all of whose violations are consequences is INCONCLUSIVE, "because …": nothing is known of its own rule.
Only mandatory checks explain others, and what explains is itself shown as a failure, or as the consequence of one that is.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass

from conformance.judging.explanations import (
    ANSWER,
    BY_LENGTH,
    CONTENT,
    DATA,
    DISCOVERY,
    EARLIER,
    EVER,
    GENERIC,
    LATENT,
    LENGTH,
    LOAD,
    MEMORY,
    NOT_BACK,
    OF_EMPTY_SLOTS,
    PANIC,
    QUEUES,
    SAME,
    TRANSFERS,
    UNUSUAL,
)
from conformance.record.record import Asked, Record
from conformance.suite.check import MANDATORY, Check, Finding, Outcome
from lab.data.events import ActionEnded, Completed, Event, Panicked, RegisterRead, RegisterWrite, Submitted
from lab.nvme.commands import CreateIoCq, CreateIoSq

EMPTY_SLOT = bytes(64)
RANK = {id: rank for rank, id in enumerate(DATA)}


@dataclass(frozen=True)
class Cause:
    """The check that a violation follows from, and in words how."""

    check: str
    why: str


def refused_creations(record: Record) -> Mapping[int, str]:
    """Return, by the submission's identity, the queue that a refused Create command was for."""
    found: dict[int, str] = {}
    for state, event in record.walk(Completed):
        sent = state.answered(event)
        if sent is not None and not event.completion.ok and isinstance(sent.command, CreateIoCq | CreateIoSq):
            found[id(sent)] = f"{'CQ' if isinstance(sent.command, CreateIoCq) else 'SQ'} {sent.command.QID}"
    return found


class Causes:
    """The causes in one record, given what each check has found."""

    def __init__(
        self, record: Record, violations: Mapping[Check, Sequence[Finding]], known: Container[str] = frozenset()
    ) -> None:
        """Take a record and the findings of each check against the rule; only mandatory checks explain others.

        ``known`` are the checks that the manifest knows the driver to fail here.
        """
        self._violations = {
            check: exact
            for check, found in violations.items()
            if check.level == MANDATORY and not (check.id in LATENT and check.id in known)
            if (exact := [finding for finding in found if finding.exact])
        }
        """Of mandatory rules only, and what the device itself saw: no failure hides behind a warning, but that the driver has
        refused the device; nor behind one that the driver lives with."""
        self._unsupported = {id(one.event) for check, found in violations.items() if check.id == UNUSUAL for one in found}
        self._record = record
        self._refused = refused_creations(record)
        self._asked = {id(asked.ended): asked for asked in record.asked if asked.ended}
        self._failed_loads = [asked for asked in record.asked if asked.action == "load" and not asked.ok]
        self._loads = [asked for asked in record.asked if asked.action == "load"]
        self._answers = {
            check.id: {id(one.event) for one in found if isinstance(one.event, ActionEnded)}
            for check, found in violations.items()
        }

    def of(self, check: Check, finding: Finding) -> Cause | None:
        """Return what a violation follows from; None if it stands alone."""
        return (
            self._missing_queue(check, finding)
            or self._answer(check, finding)
            or self._transfer(check, finding)
            or self._same(check, finding)
            or self._before(check, finding)
            or self._situation(check, finding)
        )

    def _others(self, check: Check) -> Iterator[tuple[Check, Finding]]:
        for other, found in self._violations.items():
            if other.id != check.id:
                yield from ((other, finding) for finding in found)

    def _named(self, names: Container[str], check: Check) -> Iterator[tuple[Check, Event]]:
        """Yield the violations of these checks, with their events."""
        for other, finding in self._others(check):
            if other.id in names and finding.event is not None:
                yield other, finding.event

    def _missing_queue(self, check: Check, finding: Finding) -> Cause | None:
        """Return the earlier violation that kept the queue from being created that this one rests on."""
        if not finding.rests_on or finding.event is None:
            return None
        for other, earlier in self._others(check):
            before = earlier.event is not None and earlier.event.t < finding.event.t
            broken = self._refused.get(id(earlier.event)) == finding.rests_on
            if before and broken and earlier.rests_on != finding.rests_on:
                return Cause(other.id, f"{finding.rests_on} was never created")
        return None

    # -- the wire explains answers and memory ------------------------------------------------------------------------

    def _transfer(self, check: Check, finding: Finding) -> Cause | None:
        """Return the rule of transfers that a command of this action, or the very command, had broken before."""
        event = finding.event
        asked = self._asked.get(id(event)) if isinstance(event, ActionEnded) else None
        command = self._command(event) if check.id in BY_LENGTH else None
        if (asked is None or check.id not in DATA) and command is None:
            return None
        for other, earlier in self._others(check):
            broken = earlier.event
            if broken is None:
                continue
            if asked is not None and other.id in CONTENT and broken.t < asked.started.t:
                return Cause(other.id, "the disk does not hold what it must")
            if asked is not None and other.id in DISCOVERY and broken.t < asked.started.t:
                return Cause(other.id, f"{asked.action} went wrong by it")
            if command is not None and check.id == MEMORY and broken is command:
                return Cause(other.id, "its command says so")
            if other.id not in TRANSFERS and (other.id != MEMORY or asked is None):
                continue
            if command is not None and check.id != MEMORY and other.id != LENGTH:
                continue
            if asked is not None and asked.covers(broken) and not isinstance(broken, ActionEnded):
                return Cause(other.id, f"{asked.action} failed by it")
            if command is not None and command is self._command(broken):
                return Cause(other.id, "its command says so")
        return None

    def _command(self, event: Event | None) -> Submitted | None:
        """Return the command that an event is, or belongs to."""
        return event if isinstance(event, Submitted) or event is None else self._record.owner(event)

    # -- the same event, or one before -------------------------------------------------------------------------------

    def _same(self, check: Check, finding: Finding) -> Cause | None:
        """Return the check that finds the same in the same event, or in the same command or answer, more exactly."""
        event = finding.event
        if event is None:
            return None
        command = self._command(event)
        for other, broken in self._named(SAME.get(check.id, ()), check):
            if broken is event or (command is not None and command is self._command(broken)):
                return Cause(other.id, "it is the same mistake")
        if check.id not in RANK or not isinstance(event, ActionEnded):
            return None
        for other, answer in self._others(check):
            if answer.event is event and other.id not in (*GENERIC, MEMORY) and self._says_more(other, check):
                return Cause(other.id, "it is the same answer")
        return None

    def _says_more(self, other: Check, check: Check) -> bool:
        """Return whether the other check stands above one of data that judges the same answer.

        One that is about more than data does. Of two checks of data it is that which is broken by more answers, those of the
        other among them; where both are broken by the same answers, that which stands first in the table.
        """
        if other.id not in RANK:
            return True
        ours, theirs = self._answers[check.id], self._answers[other.id]
        return ours < theirs or (ours == theirs and RANK[other.id] < RANK[check.id])

    def _before(self, check: Check, finding: Finding) -> Cause | None:
        """Return the violation that, by a table, brings this one about."""
        event = finding.event
        if event is None:
            return None
        for other, _ in self._named(EVER.get(check.id, ()), check):
            return Cause(other.id, "it follows from that")
        for other, broken in self._named(EARLIER.get(check.id, ()), check):
            if broken.t <= event.t:
                return Cause(other.id, "it follows from that")
        if check.id in OF_EMPTY_SLOTS and (command := self._command(event)) is not None and _is_empty(command):
            for other, broken in self._named(QUEUES, check):
                if broken.t <= event.t:
                    return Cause(other.id, "the controller took an empty slot for a command")
        return None

    # -- the situation that a scenario makes --------------------------------------------------------------------------

    def _situation(self, check: Check, finding: Finding) -> Cause | None:
        """Return the rule of the scenario's own situation that the same action has broken.

        It explains a crash, and memory that was given back while a command was in flight. A rule of queues that was
        broken during an action explains in turn how the driver came through the situation.
        """
        event = finding.event
        if event is None:
            return None
        if check.id in (MEMORY, PANIC):
            for other, broken in self._others(check):
                if self._is_situation(other) or (other.id == ANSWER and check.id == MEMORY):
                    asked = self._asked.get(id(broken.event))
                    if broken.event is event or (asked is not None and asked.started.t <= event.t):
                        return Cause(other.id, f"{asked.action if asked else 'the driver'} failed by it")
                    if isinstance(broken.event, Panicked) and self._together(broken.event, event):
                        return Cause(other.id, "the driver crashed")
        asked = self._asked.get(id(event)) if isinstance(event, ActionEnded) else None
        if asked is not None and self._is_situation(check):
            for other, at in self._named(QUEUES, check):
                if asked.covers(at) and not isinstance(at, ActionEnded):
                    return Cause(other.id, f"{asked.action} failed by it")
        return None

    def _is_situation(self, check: Check) -> bool:
        """Return whether a check is made for situations of some scenarios, and not for data."""
        return bool(check.scenarios) and check.id not in RANK and check.id not in GENERIC

    def _together(self, one: Event, other: Event) -> bool:
        """Return whether two events belong to the same action."""
        return any(asked.covers(one) and asked.covers(other) for asked in self._record.asked)

    # -- answers as such ---------------------------------------------------------------------------------------------

    def _answer(self, check: Check, finding: Finding) -> Cause | None:
        asked = self._asked.get(id(finding.event)) if isinstance(finding.event, ActionEnded) else None
        if asked is None or asked.ok:
            return None
        if (failed := self._load_before(asked)) is not None and check.id != LOAD:
            if explained := self._explained(failed):
                return explained
            if id(failed.ended) in self._unsupported:
                return Cause(UNUSUAL, "the driver has refused the device")
            return Cause(LOAD, "the driver did not load") if self._fails(LOAD) else None
        if check.id in RANK and (stuck := self._not_back(asked, check)):
            return stuck
        if check.id in GENERIC:
            if explained := self._explained(asked) or self._by_wire(asked, check) or self._still_hung(asked, check):
                return explained
            at_load = check.id == ANSWER and asked.action == "load" and id(asked.ended) in self._answers.get(LOAD, ())
            return Cause(LOAD, "the load was not answered in time") if at_load else None
        if not self._judges(check, asked) and self._fails(LOAD):
            return Cause(LOAD, "the driver did not load, and never looked at the controller")
        if not check.scenarios and asked.status == "timeout" and self._fails(ANSWER):
            return Cause(ANSWER, f"{asked.action} was not answered in time")
        return None

    def _judges(self, check: Check, asked: Asked) -> bool:
        """Return whether a failed answer can come from the situation that a check is made for.

        A driver that has accessed no register while it loaded saw nothing of the controller but its configuration space.
        """
        return (
            asked.action != "load"
            or check.stage == "detect"
            or any(asked.covers(event) for kind in (RegisterRead, RegisterWrite) for event in self._record.all(kind))
        )

    def _load_before(self, asked: Asked) -> Asked | None:
        """Return the load that failed, if the last one before an action did."""
        before = [load for load in self._loads if load.number < asked.number]
        return before[-1] if before and before[-1] in self._failed_loads else None

    def _fails(self, id: str) -> bool:
        return any(check.id == id and found for check, found in self._violations.items())

    def _explained(self, asked: Asked) -> Cause | None:
        """Return the rule whose breaking explains a failed answer: one made for the situation, or a refused command's."""
        for other, finding in self._violations_of_others(GENERIC):
            if finding.event is asked.ended and other.scenarios and self._judges(other, asked):
                return Cause(other.id, f"{asked.action} failed by it")
        for other, finding in self._violations_of_others(GENERIC):
            event = finding.event
            if isinstance(event, Submitted) and id(event) in self._refused and asked.covers(event):
                return Cause(other.id, f"{self._refused[id(event)]} was never created")
        return None

    def _by_wire(self, asked: Asked, check: Check) -> Cause | None:
        """Return the first rule of the wire that the driver broke during an action without a good answer.

        What a driver does wrong while it brings a controller up explains why it does not come up. A queue that stands still
        explains every later answer.
        """
        broken = [
            (finding.event.t, other)
            for other, finding in self._violations_of_others((*GENERIC, PANIC, MEMORY))
            if finding.event is not None
            and not isinstance(finding.event, ActionEnded | Panicked)
            and (asked.covers(finding.event) or (other.id in QUEUES and finding.event.t < asked.started.t))
            and (asked.action == "load" or other.id in TRANSFERS or other.id in OF_EMPTY_SLOTS)
            and other.id != check.id
        ]
        first = min(broken, key=lambda one: one[0], default=None)
        return Cause(first[1].id, f"{asked.action} failed by it") if first else None

    def _not_back(self, asked: Asked, check: Check) -> Cause | None:
        """Return the rule of queues, or of the way back from a reset, that left the driver unable to do anything."""
        for other, event in self._named(QUEUES | NOT_BACK, check):
            if other.id in NOT_BACK or event.t < asked.started.t:
                return Cause(other.id, f"{asked.action} could not be done any more")
        return None

    def _still_hung(self, asked: Asked, check: Check) -> Cause | None:
        """Return why the action before was not answered in time, if this one is not either: the driver still hangs there."""
        before = next((one for one in self._record.asked if one.number == asked.number - 1), None)
        if asked.status != "timeout" or before is None or before.status != "timeout":
            return None
        return self._explained(before) or self._by_wire(before, check) or self._still_hung(before, check)

    def _violations_of_others(self, without: tuple[str, ...]) -> Iterator[tuple[Check, Finding]]:
        for other, found in self._violations.items():
            if other.id not in without:
                yield from ((other, finding) for finding in found)


def _is_empty(command: Submitted) -> bool:
    return bytes(command.raw) == EMPTY_SLOT


def consequences(
    violations: Mapping[Check, Sequence[Finding]], causes: Causes, outcomes: Mapping[Check, Outcome]
) -> dict[Check, Cause]:
    """Return the verdicts that only follow from others, each with the cause that is shown as a failure.

    A verdict follows where each of its violations does. Of verdicts that would follow from one another the first speaks.
    """
    found: dict[Check, list[Cause]] = {}
    for check, broken in violations.items():
        if outcomes[check] in (Outcome.FAIL, Outcome.WARN):
            each = [causes.of(check, finding) for finding in broken]
            if all(each):
                found[check] = [cause for cause in each if cause]
    by_id = {check.id: check for check in violations}
    settled: dict[Check, Cause] = {}
    while waiting := [check for check in found if check not in settled]:
        ready = [check for check in waiting if all(_speaks(cause, by_id, found, settled) for cause in found[check])]
        for check in ready:
            cause = found[check][0]
            top = settled.get(by_id[cause.check]) if cause.check in by_id else None
            settled[check] = Cause(top.check, f"{cause.why} ({cause.check})") if top else cause
        if not ready:
            del found[waiting[0]]
    return settled


def _speaks(
    cause: Cause, by_id: Mapping[str, Check], found: Mapping[Check, Sequence[Cause]], settled: Mapping[Check, Cause]
) -> bool:
    """Return whether a cause is shown itself, or its own cause is known."""
    check = by_id.get(cause.check)
    return check is None or check not in found or check in settled
