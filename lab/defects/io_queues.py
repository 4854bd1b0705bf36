"""Defects of creating, using and deleting I/O queues."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any, cast

from lab.defects.defect import defect
from lab.nvme.commands import CreateIoCq, CreateIoSq, DeleteIoCq, DeleteIoSq
from lab.reference.controller import Controller
from lab.reference.errors import CommandFailed, ControllerFailed
from lab.reference.execution import Execution
from lab.reference.namespace import Namespace
from lab.reference.pending import Pending, PendingOperation
from lab.reference.queue_pair import QueuePair
from lab.reference.request import Request
from lab.reference.ring import CQE_SIZE, PHASE_BYTE, CompletionRing, SubmissionRing


@defect("io-queues/number-of-queues:not-asked", source="Managarm 4ae88a69a")
class NotAsked(Controller):
    """Creates as many queues as it wants, without Set Features 07h."""

    def granted_queues(self) -> int:
        """Return the number that the settings want, without a command."""
        return self.settings.io_queues


@defect("io-queues/grant:ignored", scenarios=("io-queues/few",))
class Ignored(Controller):
    """Negotiates the number of queues, and creates as many as it wants all the same."""

    def granted_queues(self) -> int:
        """Ask the controller, and return the number that the settings want."""
        super().granted_queues()
        return self.settings.io_queues


@defect("io-queues/grant:kept", scenarios=("multiqueue/fewer",))
class GrantedOnce(Controller):
    """Takes after a reset as many queues as the first answer granted, whatever the second one grants."""

    def granted_queues(self) -> int:
        """Ask the controller, and return what the first bring-up was granted."""
        granted = super().granted_queues()
        self._first_granted: int = getattr(self, "_first_granted", granted)
        return self._first_granted


@defect("io-queues/order:sq-first")
class SubmissionFirst(Controller):
    """Creates the submission queue before the completion queue that it names."""

    def create_pair(self, qid: int, entries: int) -> QueuePair:
        """Create the submission queue, then the completion queue."""
        pair = self.make_pair(qid, entries, self.vector_of(qid))
        self.execution.admin(self.create_sq_command(pair))
        self.execution.admin(self.create_cq_command(pair))
        pair.live = True
        return pair


@defect("io-queues/cq-after-sqs:cq-first", scenarios=("admin-queue/again",))
class CompletionDeletedFirst(Controller):
    """Deletes completion queues before the submission queues that use them."""

    def delete_io_queues(self) -> None:
        """Delete each completion queue, then its submission queue."""
        for pair in self.io:
            self.execution.admin(DeleteIoCq.of(QID=pair.qid))
            self.execution.admin(DeleteIoSq.of(QID=pair.qid))
            pair.live = False
        self.io = []


@defect("io-queues/size:fixed", source="EDK2 05bf4747dd", scenarios=("io-queues/small",))
class FixedSize(Controller):
    """Makes rings of 256 entries, whatever MQES says."""

    def io_entries(self) -> int:
        """Return 256."""
        return 256


@defect("reset/new-firmware:keeps-size", source="Linux 7.3", scenarios=("reset/new-firmware",))
class SizesOnce(Controller):
    """Keeps the size of its rings over a reset, although the controller takes only shorter ones now."""

    def io_entries(self) -> int:
        """Return what the first bring-up has found."""
        self._first_entries: int = getattr(self, "_first_entries", 0) or super().io_entries()
        return self._first_entries


@defect("io-queues/wrap:constant", source="EDK2 7607174192", scenarios=("io-queues/small",))
class WrapsAtAConstant(SubmissionRing):
    """Wraps a ring at 64 entries, however long it is."""

    def following(self, slot: int) -> int:
        """Return the next slot modulo 64."""
        return (slot + 1) % 64


@defect("io-queues/contiguous:pc-0")
class NotContiguous(Controller):
    """Creates completion queues with PC=0, although CAP.CQR asks for contiguous ones."""

    def create_cq_command(self, pair: QueuePair) -> CreateIoCq:
        """Return the command with PC=0."""
        return super().create_cq_command(pair).but(PC=0)


@defect("io-queues/aligned:off-by-64")
class OddBase(Controller):
    """Puts submission queues 64 bytes into a page."""

    def create_sq_command(self, pair: QueuePair) -> CreateIoSq:
        """Return the command with PRP1 64 bytes into the page."""
        return super().create_sq_command(pair).but(PRP1=pair.submission.memory.address + 64)


@defect("io-queues/unique-qid:all-the-same")
class AllTheSame(Controller):
    """Gives every completion queue the id 1."""

    def create_cq_command(self, pair: QueuePair) -> CreateIoCq:
        """Return the command with QID=1."""
        return super().create_cq_command(pair).but(QID=1)


@defect("io-queues/vector:beyond")
class VectorBeyond(Controller):
    """Counts vectors from 1, and names one that the controller has not."""

    def create_cq_command(self, pair: QueuePair) -> CreateIoCq:
        """Return the command with the number of vectors as its vector."""
        return super().create_cq_command(pair).but(IEN=1, IV=self.transport.vectors)


@defect("io-queues/vector:one-message", scenarios=("io-queues/msi",))
class OneMessage(Controller):
    """Gets one MSI message, and spreads its queues over several vectors all the same."""

    def open_vectors(self) -> None:
        """Switch MSI on with one message."""
        cast(Any, self.transport).open_msi(1)

    def create_cq_command(self, pair: QueuePair) -> CreateIoCq:
        """Return the command with the queue's id as its vector."""
        return super().create_cq_command(pair).but(IEN=1, IV=pair.qid)


class _OnlyInterrupts(Execution):
    """Looks for completions after an interrupt and at no other time."""

    def wait(self, pair: QueuePair, in_flight: Collection[Request]) -> list[Request]:
        ended = list[Request]()
        while not ended:
            if self._c.transport.wait(pair.vector, self._c.settings.check_seconds):
                ended = [request for request in pair.reap() if request in in_flight]
        return ended


@defect("io-queues/handled-vector:late-handler", source="Redox 5286f45, Asterinas issue 1984", scenarios=("io-queues/basic",))
class LateHandler(Controller):
    """Has a handler for the admin queue's vector only, until the first command is on its way on an I/O queue."""

    parts = replace(Controller.parts, execution=_OnlyInterrupts)

    def open_vectors(self) -> None:
        """Open the admin queue's vector."""
        self.transport.open_vectors(1)

    def create_io_queues(self) -> None:
        """Create the queues, send one command, and open the other vectors after it."""
        super().create_io_queues()
        self.namespaces[min(self.namespaces)].noop()
        super().open_vectors()


@defect("io-queues/live-cq:next")
class NextCompletionQueue(Controller):
    """Names in Create I/O SQ the completion queue that will be created next."""

    def create_sq_command(self, pair: QueuePair) -> CreateIoSq:
        """Return the command with CQID one too large."""
        return super().create_sq_command(pair).but(CQID=pair.qid + 1)


@defect("io-queues/no-overlap:one-page")
class OnePage(Controller):
    """Puts the submission queue into the page of its completion queue."""

    def create_sq_command(self, pair: QueuePair) -> CreateIoSq:
        """Return the command with the completion ring's address in PRP1."""
        return super().create_sq_command(pair).but(PRP1=pair.completion.memory.address)


@defect("io-queues/mqes-min:sixteen")
class AtLeastSixteen(Controller):
    """Refuses a controller whose queues have less than 16 entries."""

    def io_entries(self) -> int:
        """Return the number of entries; ControllerFailed if MQES allows less than 16."""
        if self.max_queue_entries < 16:
            raise ControllerFailed("queues are too short")
        return super().io_entries()


@defect("io-queues/mqes-max:overflow", source="SeaBIOS 79619174")
class Overflow(Controller):
    """Keeps the number of entries in 16 bits, where 65536 is 0."""

    def io_entries(self) -> int:
        """Return the number of entries; ControllerFailed if its lower 16 bits are 0."""
        entries = super().io_entries() if self.max_queue_entries & 0xFFFF else 0
        if not entries:
            raise ControllerFailed("the controller has no queue entries")
        return entries


@defect("io-queues/noop:never-sent")
class NeverSent(Namespace):
    """Reports a command without data as done, and never sends it."""

    def noop(self) -> None:
        """Send nothing."""


@defect("io-queues/waiting:forgotten", source="QEMU cf4fbc3030", scenarios=("io-queues/waiting",))
class Forgotten(Pending):
    """Never sends a request for which the ring has no room, and never ends it."""

    def submit(self, one: PendingOperation, pair: QueuePair) -> None:
        """Put an operation's command into a ring that has room."""
        if pair.room:
            super().submit(one, pair)
        else:
            one.status = "never sent"


@defect("io-queues/create-fails:blind-delete", source="U-Boot 61280341e92", scenarios=("io-queues/no-queue",))
class BlindDelete(Controller):
    """Deletes both queues of a pair, also the one whose creation failed."""

    def create_pair(self, qid: int, entries: int) -> QueuePair:
        """Create a pair, and delete its submission queue if either creation fails."""
        try:
            return super().create_pair(qid, entries)
        except CommandFailed:
            self.execution.admin(DeleteIoSq.of(QID=qid))
            raise


@defect("admin-queue/cq-zeroed:as-it-was")
class AdminAsItWas(CompletionRing):
    """Hands over every ring as it was, with a phase tag set in its last slot: the admin completion ring first."""

    def restart(self) -> None:
        """Restart, and set the phase tag of the last slot."""
        super().restart()
        self.memory.write((self.entries - 1) * CQE_SIZE + PHASE_BYTE, b"\1")


@defect("io-queues/cq-zeroed:as-it-was")
class AsItWas(CompletionRing):
    """Hands over memory as it was, with a phase tag set in its last slot."""

    def restart(self) -> None:
        """Restart, and set the phase tag of the last slot."""
        super().restart()
        self.memory.write((self.entries - 1) * CQE_SIZE + PHASE_BYTE, b"\1")
