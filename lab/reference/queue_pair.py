"""A submission ring, its completion ring, and the commands between them. Base 2.0, 3.3.1 and 3.3.3.

At most N - 1 commands are outstanding on rings of N slots: so neither ring can overflow.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Self

from lab.nvme.completions import Completion
from lab.reference.errors import DriverError
from lab.reference.registers import Registers
from lab.reference.request import Request
from lab.reference.ring import CompletionRing, SubmissionRing

CIDS = 0xFFFF
"""Command identifiers 0 to FFFEh. FFFFh is left out: in the Error Information log page it means that there is no command."""


_IDENTITY = Struct("<HHH").unpack_from
"""SQHD, SQID and CID of a completion, from byte 8: decoded at once, because every command passes here."""


class Numbers:
    """Counts from ``first`` on. Unlike itertools.count it says where it is."""

    def __init__(self, first: int = 0) -> None:
        """Begin with ``first``."""
        self.next = first

    def __iter__(self) -> Self:
        """Return the counter itself."""
        return self

    def __next__(self) -> int:
        """Return the next number."""
        self.next += 1
        return self.next - 1


class QueuePair:
    """A queue pair; ``qid`` 0 is the admin queue pair. ``vector`` None means that completions are polled for."""

    def __init__(
        self, registers: Registers, qid: int, submission: SubmissionRing, completion: CompletionRing, vector: int | None
    ) -> None:
        """Join two empty rings."""
        self._registers = registers
        self.qid = qid
        self.submission, self.completion = submission, completion
        self.vector = vector
        self.outstanding: dict[int, Request] = {}
        """By command identifier."""
        self.unexpected: list[Completion] = []
        """Completions that match no outstanding command."""
        self.live = False
        """Whether the controller has the queues: only then is the ring read, and are the doorbells rung."""
        self._cids = Numbers()
        self._rung = 0  # the tail that the controller knows

    def restart(self) -> None:
        """Clear both rings after a reset; all outstanding commands must have been ended."""
        assert not self.outstanding
        self._rung = 0
        self.submission.restart()
        self.completion.restart()

    @property
    def next_cid(self) -> int:
        """The number that the next command identifier is made of."""
        return self._cids.next

    def settle(self) -> None:
        """Tell the controller all that it does not know yet, before a successor takes the queues over."""
        self.ring()

    def resume(self, next_cid: int) -> None:
        """Go on where a predecessor was: the rings hold its entries, and the controller knows their tail."""
        self._cids = Numbers(next_cid)
        self._rung = self.submission.tail

    @property
    def room(self) -> int:
        """The number of commands that can be submitted now."""
        return min(self.submission.free, self.submission.entries - 1 - len(self.outstanding))

    def new_cid(self) -> int:
        """Return an identifier that no outstanding command has, used as long ago as possible."""
        cid = next(self._cids) % CIDS
        while cid in self.outstanding:
            cid = next(self._cids) % CIDS
        return cid

    def submit(self, request: Request, now: float) -> None:
        """Put a command into the ring. There must be `room`; `ring` notifies the controller."""
        cid = self.new_cid()
        request.start(now)
        self.submission.push(self.entry(request, cid))
        self.outstanding[cid] = request

    def entry(self, request: Request, cid: int) -> bytes:
        """Return the command with its identifier in bytes 2 and 3."""
        return request.command[:2] + cid.to_bytes(2, "little") + request.command[4:]

    def ring(self) -> None:
        """Notify the controller of all commands submitted since the last time, by one doorbell."""
        if self.submission.tail != self._rung:
            self._rung = self.submission.tail
            self._registers.ring(self.qid, completion=False, value=self._rung)

    def reap(self) -> list[Request]:
        """End the commands that were completed and return them; one doorbell frees all their slots."""
        ended, taken = [], False
        while self.live and (completion := self.completion.peek()) is not None:
            self.completion.advance()
            taken = True
            request = self.match(completion)
            if request is None:
                self.unexpected.append(completion)
                continue
            request.end(completion)
            ended.append(request)
        if taken:
            self.give_back()
        return ended

    def give_back(self) -> None:
        """Give the slots of the completions that were taken back to the controller, by one doorbell."""
        self._registers.ring(self.qid, completion=True, value=self.completion.head)

    def match(self, completion: Completion) -> Request | None:
        """Return the command that a completion ends, no longer outstanding; None if its SQID, SQHD or CID is wrong."""
        sqhd, sqid, cid = _IDENTITY(completion, 8)
        if sqid != self.qid or cid not in self.outstanding or not self.submission.fetched(sqhd):
            return None
        return self.outstanding.pop(cid)

    def abandon(self, reason: DriverError) -> None:
        """End all outstanding commands without a completion; the controller must have stopped."""
        for request in self._take_all():
            request.end(lost=reason)

    def oldest_start(self) -> float:
        """Return when the command that has been outstanding for the longest time was started; 0 if there is none."""
        return min((r.started_at for r in self.outstanding.values() if r.on_end is None), default=0.0)

    def oldest(self, before: float) -> Request | None:
        """Return a command with a waiting caller that was started before that moment."""
        return next((r for r in self.outstanding.values() if r.on_end is None and r.started_at <= before), None)

    def cid_of(self, request: Request) -> int | None:
        """Return the identifier of an outstanding command; None if it is not outstanding."""
        return next((cid for cid, other in self.outstanding.items() if other is request), None)

    def _take_all(self) -> Iterator[Request]:
        while self.outstanding:
            yield self.outstanding.pop(next(iter(self.outstanding)))
