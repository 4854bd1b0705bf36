"""Legal ways to lay out, fill, read and give back the memory of queues."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from lab.nvme.commands import DeleteIoCq, DeleteIoSq, SetFeatures
from lab.nvme.completions import Completion
from lab.nvme.features import Fid, NumberOfQueues
from lab.reference import pci
from lab.reference.controller import Controller
from lab.reference.errors import CommandFailed
from lab.reference.queue_pair import QueuePair
from lab.reference.ring import CQE_SIZE, PHASE_BYTE, SQE_SIZE, CompletionRing, SubmissionRing
from lab.variants.variant import variant

WATCHED = ("io-queues/watched",)
DWORD = 4
SLOTS = (
    'Base 2.0, 3.3.1 "Memory-based Transport Queue Model": the producer fills free slots as it likes, and then moves the tail'
)
PHASE_DWORD = 12


@variant(
    "io-queues/one-allocation",
    allowed='Base 2.0, 5.4 and 5.5, PRP Entry 1: a queue begins at a memory page; nothing is said of what lies beside it',
    scenarios=("io-queues/basic",),
    excludes=("io-queues/long-completion-queues", "io-queues/short-completion-queues", "admin-queue/long-completion-queue",
              "admin-queue/short-completion-queue", "io-queues/shared-completion-queue", "io-queues/lists",
              "admin-queue/new-rings"),
)  # fmt: skip
class OneAllocation(Controller):
    """Has both rings of a pair in one piece of memory, the completion ring right behind the submission ring."""

    def make_pair(self, qid: int, entries: int, vector: int | None) -> QueuePair:
        """Return a pair whose completion ring begins in the page behind its submission ring."""
        if qid not in self._pairs and not self.settings.keep_alive:  # a successor finds rings by their allocations
            pages = -(-entries * SQE_SIZE // self.page_size)
            memory = self.ring_memory(pages * self.page_size + entries * CQE_SIZE)
            behind = replace(memory, view=memory.view[pages * self.page_size :], pages=memory.pages[pages:])
            rings = self.parts.submission_ring(memory, entries), self.parts.completion_ring(behind, entries)
            self._pairs[qid] = self.parts.queue_pair(self.registers, qid, *rings, vector)
        return super().make_pair(qid, entries, vector)


@variant(
    "io-queues/gives-rings-back",
    allowed='Base 2.0, 5.7 "Delete I/O Submission Queue command": the host may use the memory again once the queue is deleted',
    scenarios=("reset/shutdown",),
    excludes=("io-queues/one-allocation", "io-queues/shared-completion-queue", "io-queues/lists"),
)
class GivesRingsBack(Controller):
    """Gives the memory of a queue back as soon as the queue is deleted."""

    def was_deleted(self, command: DeleteIoSq | DeleteIoCq) -> bool:
        """Delete a queue, and free its ring."""
        deleted = super().was_deleted(command)
        if deleted and (pair := self._pairs.get(command.QID)) is not None and not pair.outstanding:
            ring = pair.submission if isinstance(command, DeleteIoSq) else pair.completion
            self.data.release(ring.memory)
            if isinstance(command, DeleteIoCq):
                del self._pairs[command.QID]
        return deleted


@variant("admin-queue/entry-in-parts", allowed=SLOTS, scenarios=WATCHED)
class EntryInParts(SubmissionRing):
    """Clears a slot, and writes the entry into it dword by dword."""

    def push(self, entry: bytes) -> None:
        """Fill the slot at the tail in parts, and then as a whole."""
        if self.free:
            at = self.tail * SQE_SIZE
            self.memory.write(at, bytes(SQE_SIZE))
            for part in range(0, SQE_SIZE, DWORD):
                self.memory.write(at + part, entry[part : part + DWORD])
        super().push(entry)


@variant(
    "admin-queue/completion-by-dwords",
    allowed='Base 2.0, 3.3.3.2 "Common Completion Queue Entry", P: the host looks at the phase tag first',
    scenarios=("admin-queue/wraps",),
)
class CompletionByDwords(CompletionRing):
    """Reads the dword with the phase tag first, and the other three then."""

    def peek(self) -> Completion | None:
        """Return the completion at the head, read dword by dword."""
        at = self.head * CQE_SIZE
        last = self.memory.read(at + PHASE_DWORD, DWORD)
        if last[PHASE_BYTE - PHASE_DWORD] & 1 != self.phase:
            return None
        return Completion(b"".join(self.memory.read(at + part, DWORD) for part in range(0, PHASE_DWORD, DWORD)) + last)


@variant("io-queues/completion-cleared", allowed=SLOTS + "; the consumer may write what it has taken", scenarios=WATCHED)
class CompletionCleared(CompletionRing):
    """Clears a completion once it has taken it, but for its phase tag."""

    def advance(self) -> None:
        """Clear the entry at the head, and move on."""
        at = self.head * CQE_SIZE
        self.memory.write(at, bytes(PHASE_BYTE))
        super().advance()


@variant(
    "io-queues/odd-sizes",
    allowed='Base 2.0, 3.3.1 "Memory-based Transport Queue Model": a queue has any number of entries from 2 to CAP.MQES + 1',
    scenarios=("io-queues/basic",),
)
class OddSizes(Controller):
    """Has I/O queues of 61 entries, which is no power of two."""

    def io_entries(self) -> int:
        """Return 61, or fewer where the controller allows fewer."""
        return min(super().io_entries(), 61)


@variant(
    "io-queues/even-ids",
    allowed='Base 2.0, 5.4 "Create I/O Completion Queue command", QID: any id up to the number that was granted',
    scenarios=("io-queues/basic",),
    warns=("multiqueue/own-vector",),
    excludes=("io-queues/shared-completion-queue", "io-queues/asks-twice", "io-queues/created-anew"),
)
class EvenIds(Controller):
    """Uses queues of even ids only, where enough are granted."""

    def queue_ids(self) -> Sequence[int]:
        """Return 2, 4 and so on, as many as are wanted and granted; 1 where only that is granted."""
        wanted = self.settings.io_queues
        value = NumberOfQueues.of(NSQR=2 * wanted - 1, NCQR=2 * wanted - 1)
        answer = NumberOfQueues(self.execution.admin(SetFeatures.of(FID=Fid.NUMBER_OF_QUEUES, CDW11=value)).DW0)
        granted = min(answer.NSQA, answer.NCQA) + 1
        return range(2, granted + 1, 2)[:wanted] or [1]


@variant(
    "io-queues/function-mask",
    allowed="PCI Local Bus 3.0, 6.8.2.3, Function Mask: all vectors are masked while it is set, whatever their own bits are",
    scenarios=("io-queues/basic",),
    excludes=("admin-queue/pin", "admin-queue/msi", "admin-queue/polls-masked", "admin-queue/late-vectors"),
)
class FunctionMask(Controller):
    """Switches MSI-X on with Function Mask set, and fills the table then."""

    def open_vectors(self) -> None:
        """Enable MSI-X masked, and open the vectors."""
        at, _ = pci.msix(self.transport)
        if at and self.vectors:
            control = self.transport.config_read(at + 2, 2)
            self.transport.config_write(at + 2, 2, control | pci.MSIX_ENABLE | pci.MSIX_MASK_ALL)
        super().open_vectors()


@variant(
    "reset/flushes-first",
    allowed='Base 2.0, 7.1 "Flush command": the host may send it at any time',
    scenarios=("reset/shutdown",),
)
class FlushesFirst(Controller):
    """Flushes each namespace before it shuts the controller down."""

    def take_memory_back(self) -> None:
        """Flush, where there is a cache, before anything else of the shutdown."""
        if self.io and self.identity is not None and self.identity.VWC.PRESENT:
            for namespace in self.namespaces.values():
                with suppress(CommandFailed):
                    namespace.noop()
        super().take_memory_back()
