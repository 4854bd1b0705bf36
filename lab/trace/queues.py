"""The device's queues as the trace lets one follow them: where each ring lies and which slot comes next."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from lab.nvme.commands import Command, CreateIoCq, CreateIoSq, DeleteIoCq, DeleteIoSq
from lab.nvme.completions import Completion

SQE = 64
CQE = 16


@dataclass
class SubmissionQueue:
    """``head`` is the slot that the device fetches next."""

    base: int
    entries: int
    cqid: int
    head: int = 0

    def fetch(self) -> int:
        """Return the slot of the entry that was just fetched."""
        slot, self.head = self.head, (self.head + 1) % self.entries
        return slot


@dataclass(frozen=True)
class Posting:
    """A completion that the device has queued for a completion queue; its 16 bytes follow a moment later.

    ``status`` is bits 31:17 of dword 3; ``sqid`` is None where several queues have such a command in flight.
    """

    t: float
    cqid: int
    cid: int
    dw0: int
    dw1: int
    status: int
    sqid: int | None

    @property
    def exact(self) -> tuple[str, ...]:
        """The fields of the completion that the trace shows."""
        known = ("CID", "DW0", "DW1", "SC", "SCT", "CRD", "M", "DNR")
        return known if self.sqid is None else (*known, "SQID")

    def rebuilt(self) -> Completion:
        """Return the completion as far as it is exact; the rest is zero."""
        start = Completion.of(DW0=self.dw0, DW1=self.dw1, SQID=self.sqid or 0, CID=self.cid)
        return Completion(start[:14] + (self.status << 1).to_bytes(2, "little"))

    def posted_as(self, raw: bytes, phase: int) -> bool:
        """Return whether these 16 bytes are this completion, posted in the lap of ``phase``."""
        return (
            raw[0:8] == self.dw0.to_bytes(4, "little") + self.dw1.to_bytes(4, "little")
            and raw[12:14] == self.cid.to_bytes(2, "little")
            and raw[14:16] == (self.status << 1 | phase).to_bytes(2, "little")
            and (self.sqid is None or raw[10:12] == self.sqid.to_bytes(2, "little"))
        )


@dataclass
class CompletionQueue:
    """``tail`` is the slot that the device posts to next; it posts in the order of queueing."""

    base: int
    entries: int
    tail: int = 0
    phase: int = 1
    waiting: deque[Posting] = field(default_factory=deque)

    @property
    def address(self) -> int:
        """Of the next slot to be posted."""
        return self.base + self.tail * CQE

    def post(self) -> None:
        """Take note that the oldest waiting completion has been posted."""
        self.waiting.popleft()
        self.tail = (self.tail + 1) % self.entries
        self.phase ^= self.tail == 0


class Queues:
    """All queues of one controller, and the commands in flight on them."""

    def __init__(self) -> None:
        """Begin with no queue, as after a reset."""
        self.submission: dict[int, SubmissionQueue] = {}
        self.completion: dict[int, CompletionQueue] = {}
        self._in_flight: dict[tuple[int, int], deque[Command]] = {}

    def fetched(self, sqid: int, command: Command) -> None:
        """Take a command as in flight."""
        self._in_flight.setdefault((sqid, command.CID), deque()).append(command)

    def senders(self, cqid: int, cid: int) -> list[int]:
        """Return the submission queues that can have sent the command that completes on ``cqid``."""
        return [sqid for sqid, queue in self.submission.items() if queue.cqid == cqid and (sqid, cid) in self._in_flight]

    def completed(self, sqid: int, cid: int, ok: bool) -> None:
        """Take note that a command has ended; if it created or deleted a queue, update the queues."""
        flying = self._in_flight.get((sqid, cid))
        if flying is None:
            return
        command = flying.popleft()
        if not flying:
            del self._in_flight[sqid, cid]
        if sqid != 0 or not ok:
            return
        match command:
            case CreateIoSq():
                self.submission[command.QID] = SubmissionQueue(command.PRP1, command.entries, command.CQID)
            case CreateIoCq():
                self.completion[command.QID] = CompletionQueue(command.PRP1, command.entries)
            case DeleteIoSq():
                self.submission.pop(command.QID, None)
                self._in_flight = {key: value for key, value in self._in_flight.items() if key[0] != command.QID}
            case DeleteIoCq():
                self.completion.pop(command.QID, None)
