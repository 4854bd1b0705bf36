"""Cause first: which violations only follow from an earlier one, so that one mistake gives one failure at the top.

Four things make a violation a consequence:

- it rests on a queue (`Finding.rests_on`) that an earlier violation kept from being created;
- it is a failed answer after a load that failed, until the driver is loaded again;
- it is a wrong answer about data, or an access to memory, of a transfer whose command has broken a rule of transfers on the
  wire: a pointer that names the wrong memory, the wrong namespace, a slot that was not filled;
- it is itself a failed answer ("timed out", "did not load") where a rule that was made for this situation, or a command that
  the controller refused for breaking a rule, explains it.

A verdict all of whose violations are consequences is INCONCLUSIVE, "because …": nothing is known of its own rule.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from conformance.record.record import Asked, Record
from conformance.suite.check import MANDATORY, Check, Finding, Outcome
from lab.data.events import ActionEnded, Completed, Event, RegisterRead, RegisterWrite, Submitted
from lab.nvme.commands import CreateIoCq, CreateIoSq

LOAD, ANSWER, UNUSUAL = "every/load", "every/answer", "every/unusual-device"
GENERIC = (LOAD, ANSWER, UNUSUAL)
"""Checks of answers as such: whatever explains an answer explains their violations."""


TRANSFERS = frozenset({
    "read/nlb", "read/prp2", "read/prp-list", "read/prp-chain", "read/prp-entries", "read/prp1-aligned", "read/sgl-shape",
    "read/sgl-gate", "admin-queue/doorbell", "admin-queue/entry-written", "admin-queue/unique-cid", "admin-queue/bus-master",
    "multi-namespace/no-crosstalk", "io-queues/no-overlap",
})  # fmt: skip
"""Rules of the wire without which a transfer cannot end well."""
DATA = frozenset({
    "read/exact", "read/scattered", "read/first-last-high", "read/mbr", "read/prp1-offset", "read/block-4096", "write/exact",
    "write/signature", "multi-namespace/block-size", "read/media-error", "read/out-of-order",
    "read/prp-chain", "read/odd-buffer",
})  # fmt: skip
"""Checks of what a transfer has moved, whatever it was by."""
MEMORY = "read/owned-memory"
LENGTH = "read/nlb"
BY_LENGTH = frozenset({MEMORY, "read/prp2", "read/prp-list", "read/prp-chain", "read/odd-buffer"})
"""Checks of one command that a wrong length of it breaks too."""
CONTENT = frozenset({"multi-namespace/no-crosstalk", "write/zeroes-error", "write/retried", "write/error"})
"""Rules without which the disk does not hold what it must: later reads show it too."""
CAUSES = TRANSFERS | CONTENT | {MEMORY}
"""Checks that explain what others find about the same transfer."""


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

    def __init__(self, record: Record, violations: Mapping[Check, Sequence[Finding]]) -> None:
        """Take a record and the findings of each check against the rule; only mandatory checks explain others."""
        self._violations = {check: found for check, found in violations.items() if check.level == MANDATORY}
        """Of mandatory rules only: no failure hides behind a warning, but that the driver has refused the device."""
        self._unsupported = {id(one.event) for check, found in violations.items() if check.id == UNUSUAL for one in found}
        self._record = record
        self._refused = refused_creations(record)
        self._asked = {id(asked.ended): asked for asked in record.asked if asked.ended}
        self._failed_loads = [asked for asked in record.asked if asked.action == "load" and not asked.ok]
        self._loads = [asked for asked in record.asked if asked.action == "load"]

    def of(self, check: Check, finding: Finding) -> Cause | None:
        """Return what a violation follows from; None if it stands alone."""
        return self._missing_queue(check, finding) or self._answer(check, finding) or self._transfer(check, finding)

    def _others(self, check: Check) -> Iterator[tuple[Check, Finding]]:
        for other, found in self._violations.items():
            if other.id != check.id:
                yield from ((other, finding) for finding in found)

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

    def _transfer(self, check: Check, finding: Finding) -> Cause | None:
        """Return the rule of transfers that a command of this action, or the very command, had broken before."""
        event = finding.event
        asked = self._asked.get(id(event)) if isinstance(event, ActionEnded) else None
        command = self._command(event) if check.id in BY_LENGTH else None
        if (asked is None or check.id not in DATA) and command is None:
            return None
        for other, earlier in self._others(check):
            broken = earlier.event
            if broken is None or not earlier.exact:
                continue
            if asked is not None and other.id in CONTENT and broken.t < asked.started.t:
                return Cause(other.id, "the disk does not hold what it must")
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
        if check.id in GENERIC:
            return self._explained(asked)
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

    def _violations_of_others(self, without: tuple[str, ...]) -> Iterator[tuple[Check, Finding]]:
        for other, found in self._violations.items():
            if other.id not in without:
                yield from ((other, finding) for finding in found)


def consequence(check: Check, violations: Sequence[Finding], causes: Causes, outcome: Outcome) -> Cause | None:
    """Return what a whole verdict follows from: the cause of its first violation, if all of them have one."""
    if outcome not in (Outcome.FAIL, Outcome.WARN) or not violations:
        return None
    found = [causes.of(check, finding) for finding in violations]
    return found[0] if all(found) else None
