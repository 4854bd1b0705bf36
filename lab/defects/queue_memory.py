"""Defects of the memory of queues, and of the slots in it."""

from __future__ import annotations

from dataclasses import replace

from lab.defects.defect import defect
from lab.nvme.commands import DeleteIoCq, DeleteIoSq, LbaCommand, WriteZeroes
from lab.nvme.completions import Completion
from lab.nvme.registers import CC
from lab.reference import pci
from lab.reference.controller import Controller
from lab.reference.namespace import Namespace
from lab.reference.queue_pair import QueuePair
from lab.reference.registers import Registers
from lab.reference.request import Request
from lab.reference.ring import CQE_SIZE, PHASE_BYTE, SQE_SIZE, CompletionRing

PAGE = 4096
LEAVING = ("reset/shutdown", "admin-queue/again")


@defect("io-queues/no-overlap:admin-queues", scenarios=("admin-queue/basic",))
class AdminQueuesOverlap(Controller):
    """Has the admin completion queue begin in the second page of a submission queue that reaches into it."""

    def make_pair(self, qid: int, entries: int, vector: int | None) -> QueuePair:
        """Return an admin queue pair of 96 and 64 entries in two pages."""
        if qid == 0 and 0 not in self._pairs:
            memory = self.ring_memory(2 * PAGE)
            second = replace(memory, view=memory.view[PAGE:], pages=memory.pages[1:])
            rings = self.parts.submission_ring(memory, 96), self.parts.completion_ring(second, 64)
            self._pairs[0] = self.parts.queue_pair(self.registers, 0, *rings, vector)
        return super().make_pair(qid, entries if qid else 96, vector)


@defect("io-queues/kept-memory:before-deletion", scenarios=LEAVING)
class FreesBeforeDeletion(Controller):
    """Gives the memory of submission queues back before it deletes them."""

    def delete_io_queues(self) -> None:
        """Free the rings, and delete the queues then."""
        for pair in self.io:
            self.transport.free(self._pairs.pop(pair.qid).submission.memory)
        super().delete_io_queues()


@defect("io-queues/kept-memory:completion-queue", scenarios=LEAVING)
class FreesWithTheSubmissionQueue(Controller):
    """Gives the memory of a completion queue back once its submission queue is deleted."""

    def delete_io_queues(self) -> None:
        """Delete pair by pair, and free the completion ring in between."""
        pairs, self.io = self.io, []
        for pair in pairs:
            self.execution.admin(DeleteIoSq.of(QID=pair.qid))
            self.transport.free(self._pairs.pop(pair.qid).completion.memory)
            self.execution.admin(DeleteIoCq.of(QID=pair.qid))
            pair.live = False


@defect("reset/rings-kept:at-once", scenarios=("admin-queue/slow-disable",))
class FreesWhileStopping(Controller):
    """Gives the memory of its I/O queues back as soon as it has cleared CC.EN."""

    def stop(self) -> None:
        """Clear CC.EN, free the rings, and wait then."""
        cc = self.registers.read(CC)
        if cc.EN and self.stage:
            self.registers.write(cc.but(EN=0))
            for qid in [qid for qid in self._pairs if qid]:
                pair = self._pairs.pop(qid)
                self.transport.free(pair.submission.memory)
                self.transport.free(pair.completion.memory)
        super().stop()


@defect("admin-queue/entry-written:doorbell-first", scenarios=("io-queues/watched",))
class DoorbellFirst(QueuePair):
    """Rings for an I/O command, and writes its entry then."""

    def submit(self, request: Request, now: float) -> None:
        """Move the tail, ring, and fill the slot that was announced."""
        if not self.qid:
            super().submit(request, now)
            return
        cid, at = self.new_cid(), self.submission.tail
        request.start(now)
        self.outstanding[cid] = request
        self.submission.tail = self.submission.following(at)
        self.ring()
        self.submission.memory.write(at * SQE_SIZE, self.entry(request, cid))


@defect("admin-queue/entry-written:one-too-far", scenarios=("io-queues/watched",))
class OneTooFar(QueuePair):
    """Announces, once, a slot more than it has filled."""

    rounds = 0

    def ring(self) -> None:
        """Ring with the tail moved on by one, the second time."""
        if self.qid and self.submission.tail != self._rung:
            self.rounds += 1
            if self.rounds == 2:
                self.submission.tail = self.submission.following(self.submission.tail)
        super().ring()


@defect("admin-queue/bus-master:in-use", scenarios=("read/basic",))
class ClearsMastering(Registers):
    """Clears Bus Master Enable before it rings for an I/O command."""

    def ring(self, qid: int, *, completion: bool, value: int) -> None:
        """Clear the bit, and ring."""
        if qid and not completion:
            pci.clear_command(self._transport, pci.BUS_MASTER)
        super().ring(qid, completion=completion, value=value)


@defect("multi-namespace/no-crosstalk:zeroes", scenarios=("multi-namespace/trim",))
class ZeroesTheFirst(Namespace):
    """Zeroes the blocks of namespace 1, whichever was meant."""

    def command(self, kind: type[LbaCommand], lba: int, blocks: int, flags: dict[str, int]) -> LbaCommand:
        """Return the command, of namespace 1 if it is Write Zeroes."""
        command = super().command(kind, lba, blocks, flags)
        return command.but(NSID=1) if kind is WriteZeroes else command  # type: ignore[return-value]


@defect("io-queues/taken-first:doorbell-first", scenarios=("io-queues/watched", "admin-queue/wraps"))
class GivesBackUnread(QueuePair):
    """Gives a completion slot back as soon as the phase tag has turned, and reads the entry then."""

    def reap(self) -> list[Request]:
        """Give each slot back, and take what is in it."""
        ended, ring = list[Request](), self.completion
        while self.live and _has_turned(ring):
            at = ring.head * CQE_SIZE
            ring.advance()
            self.give_back()
            request = self.match(completion := Completion(ring.memory.read(at, CQE_SIZE)))
            if request is None:
                self.unexpected.append(completion)
            else:
                request.end(completion)
                ended.append(request)
        return ended


def _has_turned(ring: CompletionRing) -> bool:
    return bool(ring.memory.read(ring.head * CQE_SIZE + PHASE_BYTE, 1)[0] & 1 == ring.phase)
