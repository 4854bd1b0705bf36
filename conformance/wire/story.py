"""What the device saw of an action that did not go well, in one sentence: the cause behind an effect such as "timed out".

Each controller's part of the record between the question and the answer is folded into facts; the facts that explain most come
first. Nothing is judged here: a fact is something that the record holds, or that it does not hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from conformance.record.record import Asked, Record
from conformance.record.state import State
from conformance.wire.decode import command_name, printable, shortened
from lab.data.events import (
    Completed,
    Doorbell,
    Event,
    FaultInjected,
    Interrupt,
    Panicked,
    RegisterRead,
    RegisterWrite,
    Reset,
    Submitted,
)
from lab.nvme.registers import CC, CSTS

FACTS = 4
"""Facts that a sentence has at most."""
NAMED = 2
"""Commands that a fact names; of further ones it gives the number."""
LONGEST = 160
"""Characters of a guest's last words."""


@dataclass
class Facts:
    """What one controller saw between a question and its answer."""

    accesses: int = 0
    enabled_at: float | None = None
    status_reads: int = 0  # of CSTS since the last enable
    ready: bool = False  # RDY=1 was read since the last enable
    failed: bool = False  # CSTS.CFS=1 was read
    early: str = ""  # the first doorbell that was rung before RDY=1
    submitted: int = 0
    pending: dict[tuple[int, int], Submitted] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)  # commands and the status that each ended with
    untaken: dict[int, int] = field(default_factory=dict)  # CQ → completions whose slots were not given back
    interrupts: int = 0
    resets: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)  # behaviours of the device that the scenario asks for

    def take(self, state: State, event: Event) -> None:
        """Fold the next event, given its controller's state just before it."""
        match event:
            case RegisterWrite():
                self.accesses += 1
                self._write(state, event)
            case RegisterRead():
                self.accesses += 1
                self._read(event)
            case Doorbell():
                self.accesses += 1
                self._ring(state, event)
            case Submitted():
                self.submitted += 1
                self.pending[event.key] = event
            case Completed():
                self._complete(state, event)
            case Interrupt():
                self.interrupts += 1
            case Reset() if event.cause not in ("cc-en", "shutdown"):
                self.resets.append(event.cause)

    def _write(self, state: State, event: RegisterWrite) -> None:
        if event.offset != CC.OFFSET:
            return
        if CC(event.value).EN and not state.enabled:
            self.enabled_at, self.status_reads, self.ready = event.t, 0, False
        elif not CC(event.value).EN:
            self.pending.clear()
            self.untaken.clear()

    def _read(self, event: RegisterRead) -> None:
        if event.offset == CSTS.OFFSET and event.value & 0xFFFF_FFFF != 0xFFFF_FFFF:
            self.status_reads += 1
            self.ready |= bool(CSTS(event.value).RDY)
            self.failed |= bool(CSTS(event.value).CFS)

    def _ring(self, state: State, event: Doorbell) -> None:
        if event.completion:
            self.untaken.pop(event.qid, None)
        elif self.enabled_at is not None and not self.ready and not state.been_ready and not self.early:
            read = f"CSTS read {_times(self.status_reads)}, RDY=1 not seen" if self.status_reads else "CSTS not read since"
            late = (event.t - self.enabled_at) * 1e6
            self.early = f"doorbell SQ {event.qid} was rung {late:.0f} µs after CC.EN=1, before RDY=1; {read}"

    def _complete(self, state: State, event: Completed) -> None:
        sent = self.pending.pop(event.key, None) or state.answered(event)
        if not event.completion.ok and event.is_known("SC"):
            self.refused.append(f"{command_name(sent.command) if sent else 'a command'} ended with {event.completion.text}")
        self.untaken[event.cqid] = self.untaken.get(event.cqid, 0) + 1

    def said(self, *, in_time: bool) -> Iterator[str]:
        """Yield the facts in words, the one that explains most first; ``in_time``: the driver did answer."""
        if self.faults:
            yield f"the scenario injected {_some(self.faults)}"
        if self.resets:
            yield f"the controller was reset by {_some(self.resets)}"
        if self.early:
            yield self.early
        if self.failed:
            yield "CSTS.CFS=1 was read: the controller has failed"
        if self.enabled_at is not None and not self.ready and not self.early:
            read = f"CSTS read {_times(self.status_reads)}" if self.status_reads else "CSTS never read"
            yield f"CC.EN=1 was written, RDY=1 never seen ({read})"
        yield from self.refused[:NAMED]
        if self.pending:
            yield f"{_some([command_name(one.command) for one in self.pending.values()])} never completed"
        if not in_time:
            heard = f"{self.interrupts or 'no'} interrupt{'' if self.interrupts == 1 else 's'} sent"
            for cqid, count in self.untaken.items():
                yield f"{count} completion{'' if count == 1 else 's'} in CQ {cqid} not taken ({heard})"
        if not self.submitted and self.accesses:
            enabled = "" if self.enabled_at is not None else " and did not enable the controller"
            yield f"the driver accessed registers {_times(self.accesses)}, sent no command{enabled}"


def story(record: Record, asked: Asked) -> str:
    """Return what the device saw between an action and its answer, in a sentence; "" where it went well."""
    if asked.ok:
        return ""
    facts = {spec.id: Facts() for spec in record.controllers}
    behaviours = {fault.name: fault.behaviour for fault in record.scenario.faults}
    for state, event in record.during(asked):
        facts[state.spec.id].take(state, event)
        if isinstance(event, FaultInjected):
            facts[state.spec.id].faults.append(behaviours.get(event.fault, event.fault))
    told = [f"the guest died: {shortened(printable(one.text), LONGEST)}" for one in record.all(Panicked) if asked.covers(one)]
    if not any(one.accesses or one.submitted or one.resets or one.faults for one in facts.values()):
        return "; ".join([*told, "the driver did not touch the controller meanwhile"])
    for id, one in facts.items():
        prefix = f"{id}: " if len(facts) > 1 else ""
        told += [f"{prefix}{fact}" for fact in one.said(in_time=asked.status not in (None, "timeout"))]
    return "; ".join(told[:FACTS])


def _some(names: list[str]) -> str:
    shown = list(dict.fromkeys(names))
    more = f" and {len(shown) - NAMED} more" if len(shown) > NAMED else ""
    return ", ".join(shown[:NAMED]) + more


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"
