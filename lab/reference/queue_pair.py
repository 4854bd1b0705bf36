"""A submission ring, its completion ring, and the commands between them. Base 2.0, 3.3.1 and 3.3.3.

At most N - 1 commands are outstanding on rings of N slots: so neither ring can overflow.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from lab.nvme.completions import Completion
from lab.reference.errors import DriverError
from lab.reference.registers import Registers
from lab.reference.request import Request
from lab.reference.ring import CompletionRing, SubmissionRing

CIDS = 0xFFFF
"""Command identifiers 0 to FFFEh. FFFFh is left out: in the Error Information log page it means that there is no command."""


class QueuePair:
    """One pair; ``qid`` 0 is the admin queues. ``vector`` None means that completions are looked for, not signalled."""

    def __init__(
        self, registers: Registers, qid: int, submission: SubmissionRing, completion: CompletionRing, vector: int | None
    ) -> None:
        self._registers = registers
        self.qid = qid
        self.submission, self.completion = submission, completion
        self.vector = vector
        self.outstanding: dict[int, Request] = {}
        """By command identifier."""
        self.strays: list[Completion] = []
        """Completions that belong to no command of ours."""
        self.live = False
        """The controller knows it: only then is it looked at, and are its doorbells rung."""
        self._cids = count()
        self._told = 0  # the tail that the controller knows

    def restart(self) -> None:
        """As new, after a reset; whatever is outstanding must have been ended."""
        assert not self.outstanding
        self._told = 0
        self.submission.restart()
        self.completion.restart()

    @property
    def room(self) -> int:
        """Commands that can be submitted now."""
        return min(self.submission.free, self.submission.entries - 1 - len(self.outstanding))

    def new_cid(self) -> int:
        """An identifier that no outstanding command has; it comes again as late as possible."""
        return next(cid for number in self._cids if (cid := number % CIDS) not in self.outstanding)

    def submit(self, request: Request, now: float) -> None:
        """Puts a command into the ring. There must be `room`; `ring` tells the controller."""
        cid = self.new_cid()
        request.start(now)
        self.submission.push(self.entry(request, cid))
        self.outstanding[cid] = request

    def entry(self, request: Request, cid: int) -> bytes:
        """The command with its identifier, which lies in bytes 2 and 3."""
        return request.command[:2] + cid.to_bytes(2, "little") + request.command[4:]

    def ring(self) -> None:
        """Tells the controller of all commands submitted since the last time, by one doorbell."""
        if self.submission.tail != self._told:
            self._told = self.submission.tail
            self._registers.ring(self.qid, completion=False, value=self._told)

    def reap(self) -> list[Request]:
        """Ends the commands whose completions are there, and returns them; one doorbell gives back all their slots."""
        ended, taken = [], False
        while self.live and (completion := self.completion.peek()) is not None:
            self.completion.advance()
            taken = True
            request = self.match(completion)
            if request is None:
                self.strays.append(completion)
                continue
            request.end(completion)
            ended.append(request)
        if taken:
            self._registers.ring(self.qid, completion=True, value=self.completion.head)
        return ended

    def match(self, completion: Completion) -> Request | None:
        """The command that a completion ends, no longer outstanding; None where queue, slot or identifier cannot be."""
        if completion.SQID != self.qid or completion.CID not in self.outstanding:
            return None
        if not self.submission.fetched(completion.SQHD):
            return None
        return self.outstanding.pop(completion.CID)

    def abandon(self, why: DriverError) -> None:
        """Ends all that is outstanding without a completion; the controller must have stopped."""
        for request in self._taken_out():
            request.end(lost=why)

    def oldest(self, before: float) -> Request | None:
        """A command that was started before that moment and is waited for."""
        return next((r for r in self.outstanding.values() if r.on_end is None and r.started_at <= before), None)

    def cid_of(self, request: Request) -> int | None:
        """The identifier of an outstanding command."""
        return next((cid for cid, other in self.outstanding.items() if other is request), None)

    def _taken_out(self) -> Iterator[Request]:
        while self.outstanding:
            yield self.outstanding.pop(next(iter(self.outstanding)))
