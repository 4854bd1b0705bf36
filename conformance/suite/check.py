"""What a check is: a statement with a citation, a level, its witnesses, and a function that yields findings.

::

    @check("io-queues/live-cq", cite=BASE_2_0["5.5"], level=MANDATORY, why="shall", witnesses=WIRE)
    def live_cq(record: Record) -> Iterator[Finding]:
        \"\"\"Create I/O SQ names a completion queue that exists at that moment.\"\"\"
        for state, event, command in record.commands(CreateIoSq):
            ok = command.CQID in state.cqs
            yield Finding(ok, event, expected="a live CQ", actual=f"CQ {command.CQID}", fields=("CQID",))

A check that yields nothing saw nothing: INCONCLUSIVE. It never acts, and it never looks at anything but the record.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, Literal, NamedTuple

from conformance.record.record import Record
from conformance.record.words import words
from conformance.suite.citations import Citation
from lab.data.events import Event

Level = Literal["M", "R", "O"]
MANDATORY: Level = "M"
RECOMMENDED: Level = "R"
OPTIONAL: Level = "O"

EVERY = "every"
"""The stage of rules that hold in every stage and profile."""

Witness = Literal["out", "wire", "store", "fault", "memory"]
"""What the driver says, what the device saw, what the disk holds; a fault or an odd device; the driver's own accesses to its
DMA memory, which only a driver in the lab's process lets anybody see."""


class Outcome(StrEnum):
    """The outcome of a verdict, in order of severity: over several scenarios the first of these wins."""

    FAIL = "FAIL"
    ERROR = "ERROR"  # the lab's own failure, never the driver's
    FLAKY = "FLAKY"  # failed, and did not fail in a fresh recording of the same scenario
    WARN = "WARN"  # a recommended or optional rule not met
    PASS = "PASS"
    UNSUPPORTED = "UNSUPPORTED"  # the manifest says so
    INCONCLUSIVE = "INCONCLUSIVE"  # nothing observed, or a violation seen only in sampled memory


class Finding(NamedTuple):
    """One thing that was looked at, and whether it was as it must be.

    ``fields`` are the fields of a `Submitted` or `Completed` event that the finding rests on: a violation counts only if the
    device itself saw all of them.
    """

    ok: bool
    event: Event | None = None
    expected: Any = ""
    actual: Any = ""
    fields: tuple[str, ...] = ()
    rests_on: str = ""
    """What had to be there for this to be right, as "CQ 1": if an earlier violation took it away, this one only follows."""

    @property
    def in_words(self) -> Finding:
        """Return the same finding with both sides in words."""
        return self._replace(expected=words(self.expected), actual=words(self.actual))

    @property
    def exact(self) -> bool:
        """Whether the device itself saw every field that the finding rests on; sampled fields do not count."""
        return self.event is None or self.event.is_exact(*self.fields)


Function = Callable[[Record], Iterator[Finding]]


@dataclass(frozen=True, eq=False)
class Check:
    """A rule that drivers are judged by. Its id is stage/slug and never changes. There is one object of each (`CHECKS`)."""

    id: str
    cite: Citation
    level: Level
    why: str  # what makes it that level: shall, should, integrity, safety, practice
    witnesses: tuple[Witness, ...]
    needs: tuple[str, ...]  # actions without which it cannot be judged
    scenarios: tuple[str, ...]  # where it is judged; none: an invariant, judged on all evidence
    find: Function
    stops: str = ""  # the stage after which a driver must be able to stop, or it cannot be judged
    uses: str = ""
    """What the rule is about, where every driver is free to use it or not: a driver that never does stands by the rule."""
    timed: bool = False
    """Whether it compares the driver's time with another clock's: a guest that is run in pieces lags behind, and catches up."""
    guards: bool = False
    """Whether it wants a request refused that is its user's business where a driver passes requests on as they are."""

    @cached_property
    def stage(self) -> str:
        """The stage, which is the first part of the id."""
        return self.id.partition("/")[0]

    @property
    def invariant(self) -> bool:
        """Whether it holds in every scenario."""
        return not self.scenarios

    @cached_property
    def statement(self) -> str:
        """The rule in a sentence about the driver: the function's docstring."""
        return inspect.cleandoc(self.find.__doc__ or "").replace("\n", " ")


CHECKS: dict[str, Check] = {}
"""Every check by its id, filled as the stages are imported (`conformance.suite.selection`)."""


def check(
    id: str,
    *,
    cite: Citation,
    level: Level,
    why: str,
    witnesses: Iterable[Witness],
    needs: Iterable[str] = (),
    stops: str = "",
    uses: str = "",
    scenarios: Iterable[str] = (),
    timed: bool = False,
    guards: bool = False,
) -> Callable[[Function], Check]:
    """Register the decorated function as a check; ValueError where the id is taken or the statement is missing."""

    def register(find: Function) -> Check:
        if id in CHECKS:
            raise ValueError(f"check {id} is declared twice")
        made = Check(id, cite, level, why, tuple(witnesses), tuple(needs), tuple(scenarios), find, stops, uses, timed, guards)
        if not made.statement:
            raise ValueError(f"check {id} has no statement: write a docstring")
        CHECKS[id] = made
        return made

    return register
