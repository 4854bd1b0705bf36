"""Legal ways to create, size and share I/O queues."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress

from lab.nvme.commands import CreateIoCq, CreateIoSq, DeleteIoCq, DeleteIoSq, SetFeatures
from lab.nvme.features import Fid, NumberOfQueues
from lab.reference.controller import Controller
from lab.reference.errors import CommandFailed, ControllerFailed
from lab.reference.execution import Execution
from lab.reference.pending import Pending, PendingOperation
from lab.reference.queue_pair import QueuePair
from lab.reference.request import Request
from lab.reference.ring import CQE_SIZE, SQE_SIZE
from lab.variants.admin_queue import BoundedPair
from lab.variants.variant import variant

BASIC = ("io-queues/basic",)
SHALLOW = ("multiqueue/depth", "multiqueue/scaling", "multiqueue/batch")
"""Checks that recommend to have many commands in flight."""
SIZES = 'Base 2.0, 3.3.1 "Memory-based Transport Queue Model": each queue has a size of its own, up to CAP.MQES'


class _OwnSizes(Controller):
    """Makes I/O completion queues whose size is not the submission queue's."""

    def completion_entries(self, entries: int) -> int:
        raise NotImplementedError

    def make_pair(self, qid: int, entries: int, vector: int | None) -> QueuePair:
        if qid and qid not in self._pairs:
            slots = self.completion_entries(entries)
            submission = self.parts.submission_ring(self.ring_memory(entries * SQE_SIZE), entries)
            completion = self.parts.completion_ring(self.ring_memory(slots * CQE_SIZE), slots)
            self._pairs[qid] = self.parts.queue_pair(self.registers, qid, submission, completion, vector)
        return super().make_pair(qid, entries, vector)


@variant("io-queues/long-completion-queues", allowed=SIZES, scenarios=BASIC)
class LongCompletionQueues(_OwnSizes):
    """Has completion queues of twice as many entries as the submission queues."""

    def completion_entries(self, entries: int) -> int:
        """Return twice the number, as far as MQES allows."""
        return min(2 * entries, self.max_queue_entries)


class _ShortOfIo(_OwnSizes):
    """Makes short I/O completion queues."""

    def completion_entries(self, entries: int) -> int:
        return max(2, entries // 4)


@variant(
    "io-queues/short-completion-queues",
    allowed=SIZES + "; no more commands are outstanding than it has room for",
    scenarios=BASIC,
    warns=(*SHALLOW, "performance/depth"),
    also=(_ShortOfIo,),
)
class ShortCompletionQueues(BoundedPair):
    """Has completion queues of a quarter of the submission queues, and sends no more than they can hold."""


@variant(
    "io-queues/two-entries",
    allowed=SIZES + "; the smallest is two entries",
    scenarios=BASIC,
    settings={"depth": 2},
    warns=SHALLOW,
)
class TwoEntries(Controller):
    """Has I/O queues of two entries, so that one command is outstanding."""


@variant("io-queues/largest", allowed=SIZES, scenarios=BASIC, settings={"depth": 1 << 16})
class Largest(Controller):
    """Has I/O queues as long as the controller allows, up to 65536 entries."""


@variant(
    "io-queues/one-pair",
    allowed='Base 2.0, 5.27.1.5 "Number of Queues": what is granted is an upper bound',
    scenarios=("multiqueue/plain",),
    settings={"io_queues": 1},
    warns=("multiqueue/per-cpu", "multiqueue/scaling", "performance/scaling"),
)
class OnePair(Controller):
    """Uses one pair of I/O queues, however many processors there are."""


class _SharingPair(QueuePair):
    """A submission queue whose completions come through the completion queue of the first pair, with those of all others."""

    owner: _SharingPair | None = None
    sharers: list[_SharingPair] | None = None

    def share(self, owner: _SharingPair) -> None:
        """Take the completion queue of another pair."""
        assert owner.sharers is not None
        self.owner, self.completion = owner, owner.completion
        owner.sharers.append(self)

    @property
    def room(self) -> int:
        owner = self.owner or self
        taken = sum(len(one.outstanding) for one in owner.sharers or [owner])
        return max(0, min(super().room, owner.completion.entries - 1 - taken))

    def restart(self) -> None:
        if self.owner is None:
            super().restart()
        else:
            self._rung = 0
            self.submission.restart()

    def reap(self) -> list[Request]:
        if self.owner is not None:
            return self.owner.reap()
        if self.sharers is None:
            return super().reap()
        ended, taken = [], False
        while any(one.live for one in self.sharers) and (completion := self.completion.peek()) is not None:
            self.completion.advance()
            taken = True
            meant = next((one for one in self.sharers if one.qid == completion.SQID), self)
            if (request := meant.match(completion)) is None:
                self.unexpected.append(completion)
                continue
            request.end(completion)
            ended.append(request)
        if taken:
            self.give_back()
        return ended


class _WaitsForShared(Execution):
    """Notices requests that were ended while another queue was looked at."""

    def wait(self, pair: QueuePair, flying: Collection[Request]) -> list[Request]:
        if done := [request for request in flying if request.done]:
            return done
        return super().wait(pair, flying)


@variant(
    "io-queues/shared-completion-queue",
    allowed='Base 2.0, 3.3.1 "Memory-based Transport Queue Model": several submission queues may use one completion queue',
    scenarios=BASIC,
    also=(_SharingPair, _WaitsForShared),
    excludes=("io-queues/long-completion-queues", "io-queues/falling-vectors", "admin-queue/new-rings"),
)
class SharedCompletionQueue(Controller):
    """Has one I/O completion queue for all submission queues, and so more of these than of those."""

    def create_pair(self, qid: int, entries: int) -> QueuePair:
        """Create a pair; from the second one on a submission queue only, unless a successor takes the queues over."""
        if self.settings.keep_alive:
            return super().create_pair(qid, entries)
        if not self.io:
            first = super().create_pair(qid, entries)
            assert isinstance(first, _SharingPair)
            first.sharers = [first]
            return first
        owner = self.io[0]
        pair = self.make_pair(qid, entries, owner.vector)
        assert isinstance(pair, _SharingPair)
        assert isinstance(owner, _SharingPair)
        if pair.owner is None:
            pair.share(owner)
        else:
            assert owner.sharers is not None
            owner.sharers.append(pair)
        self.execution.admin(self.create_sq_command(pair).but(CQID=owner.qid))
        pair.live = True
        return pair

    def delete_io_queues(self) -> None:
        """Delete all submission queues, then the one completion queue."""
        if self.settings.keep_alive:
            super().delete_io_queues()
            return
        pairs, self.io = self.io, []
        for pair in pairs:
            self.execution.admin(DeleteIoSq.of(QID=pair.qid))
        for pair in pairs[:1]:
            self.execution.admin(DeleteIoCq.of(QID=pair.qid))
        for pair in pairs:
            pair.live = False


@variant(
    "io-queues/spare-queues",
    allowed='Base 2.0, 5.27.1.5 "Number of Queues": the host may ask for more than it will create',
    scenarios=BASIC,
)
class SpareQueues(Controller):
    """Asks for 64 submission and 32 completion queues, and creates as many as it needs."""

    def granted_queues(self) -> int:
        """Ask for 64 and 32 queues; return as many as are wanted and granted."""
        value = NumberOfQueues.of(NSQR=63, NCQR=31)
        answer = NumberOfQueues(self.execution.admin(SetFeatures.of(FID=Fid.NUMBER_OF_QUEUES, CDW11=value)).DW0)
        return min(self.settings.io_queues, answer.NSQA + 1, answer.NCQA + 1)


@variant(
    "io-queues/asks-twice",
    allowed='Base 2.0, 5.27.1.5 "Number of Queues": it may be set, and read, as long as no I/O queue was created',
    scenarios=BASIC,
    excludes=("io-queues/spare-queues",),
)
class AsksTwice(Controller):
    """Sets Number of Queues twice before it creates the first queue."""

    def granted_queues(self) -> int:
        """Ask twice, and return the second answer."""
        with suppress(CommandFailed):
            super().granted_queues()
        return super().granted_queues()


@variant(
    "io-queues/falling-ids",
    allowed='Base 2.0, 5.4 "Create I/O Completion Queue command", QID: any id up to what was granted, in no given order',
    scenarios=("multiqueue/plain",),
)
class FallingIds(Controller):
    """Creates its queues from the highest id down."""

    def queue_ids(self) -> Sequence[int]:
        """Return the ids from the highest down."""
        return super().queue_ids()[::-1]


@variant(
    "io-queues/completion-queues-first",
    allowed='Base 2.0, 5.5 "Create I/O Submission Queue command": the completion queue exists, since when does not matter',
    scenarios=("multiqueue/plain",),
    excludes=("io-queues/shared-completion-queue", "io-queues/falling-ids"),
)
class CompletionQueuesFirst(Controller):
    """Creates all completion queues, then all submission queues."""

    def create_io_queues(self) -> None:
        """Create all completion queues, then their submission queues."""
        entries, made = self.io_entries(), list[QueuePair]()
        try:
            for qid in range(1, self.granted_queues() + 1):
                pair = self.make_pair(qid, entries, self.vector_of(qid))
                self.execution.admin(self.create_cq_command(pair))
                made.append(pair)
        except CommandFailed as failure:
            if not made:
                raise ControllerFailed(f"{self.transport.name}: no completion queue can be created: {failure}") from failure
        for pair in made:
            try:
                self.execution.admin(self.create_sq_command(pair))
            except CommandFailed as failure:
                self._take_back([one for one in made if not one.live])
                if not self.io:
                    raise ControllerFailed(f"{self.transport.name}: no I/O queue can be created: {failure}") from failure
                return
            pair.live = True
            self.io.append(pair)

    def _take_back(self, pairs: list[QueuePair]) -> None:
        for pair in pairs:
            self.execution.admin(DeleteIoCq.of(QID=pair.qid))


@variant(
    "io-queues/falling-vectors",
    allowed='PCIe 1.0, 3.2 "Interrupts", Base 2.0, 5.4, IV: any vector that there is, for any queue',
    scenarios=("multiqueue/plain",),
)
class FallingVectors(Controller):
    """Gives its queues the vectors from the highest down; two may share one."""

    def vector_of(self, qid: int) -> int | None:
        """Return the number of vectors less the usual vector."""
        found = super().vector_of(qid)
        return found if not found or self.vectors < 2 else self.vectors - found


@variant(
    "io-queues/priority-unused",
    allowed='Base 2.0, 5.5 "Create I/O Submission Queue command", QPRIO: ignored unless weighted round robin is selected',
    scenarios=BASIC,
)
class PriorityUnused(Controller):
    """Gives each submission queue a priority although round robin is selected."""

    def create_sq_command(self, pair: QueuePair) -> CreateIoSq:
        """Return the command with QPRIO set."""
        return super().create_sq_command(pair).but(QPRIO=pair.qid % 4)


@variant(
    "io-queues/created-anew",
    allowed='Base 2.0, 5.6 "Delete I/O Completion Queue command": queues may be deleted and created again at any time',
    scenarios=BASIC,
    warns=("io-queues/second-fails",),
    excludes=("io-queues/shared-completion-queue", "io-queues/falling-ids", "io-queues/completion-queues-first"),
)
class CreatedAnew(Controller):
    """Deletes its first queue pair as soon as it has been created, and creates it again."""

    def create_pair(self, qid: int, entries: int) -> QueuePair:
        """Create a pair; the first one twice, deleted between."""
        pair = super().create_pair(qid, entries)
        if qid == 1 and not self.io:
            pair.live = False
            self.execution.admin(DeleteIoSq.of(QID=qid))
            self.execution.admin(DeleteIoCq.of(QID=qid))
            return super().create_pair(qid, entries)
        return pair


@variant(
    "io-queues/quiet-queues",
    allowed='Base 2.0, 5.4 "Create I/O Completion Queue command": IEN is chosen for each queue',
    scenarios=BASIC,
)
class QuietQueues(Controller):
    """Takes interrupts of the admin queue only and polls the I/O queues."""

    def create_cq_command(self, pair: QueuePair) -> CreateIoCq:
        """Return the command with IEN=0."""
        return super().create_cq_command(pair).but(IEN=0, IV=0)


@variant(
    "io-queues/coalescing",
    allowed='Base 2.0, 5.27.1.6 "Interrupt Coalescing": the host may set it; admin completions are not delayed',
    scenarios=BASIC,
)
class Coalescing(Controller):
    """Asks for interrupt coalescing before it creates queues."""

    def create_io_queues(self) -> None:
        """Set Interrupt Coalescing, and create the queues."""
        with suppress(CommandFailed):
            self.execution.admin(SetFeatures.of(FID=Fid.INTERRUPT_COALESCING, CDW11=0x0102))
        super().create_io_queues()


@variant(
    "io-queues/by-batches",
    allowed='Base 2.0, 3.3.1.2 "Full Queue": when a queue has room again the host may submit, or wait for longer',
    scenarios=("io-queues/waiting",),
)
class ByBatches(Pending):
    """Waits until all commands of a full queue have ended before it submits another one."""

    def submit(self, one: PendingOperation, pair: QueuePair) -> None:
        """Put an operation's command into a ring that has room, or into an empty one."""
        while not pair.room and pair.outstanding:
            pair.ring()
            while pair.outstanding:
                self.wait(pair)
        super().submit(one, pair)


@variant(
    "io-queues/after-refusal",
    allowed='Base 2.0, 5.6 "Delete I/O Completion Queue command": nothing says what follows where an SQ cannot be deleted',
    scenarios=("reset/delete-fails",),
)
class DeletesAfterRefusal(Controller):
    """Deletes the completion queues too when the controller refuses to delete a submission queue, like Linux."""

    def delete_io_queues(self) -> None:
        """Delete all submission queues, then all completion queues."""
        pairs, self.io = self.io, []
        for command in (DeleteIoSq, DeleteIoCq):
            for pair in pairs:
                self.was_deleted(command.of(QID=pair.qid))
                pair.live = False
