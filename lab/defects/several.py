"""Defects that keep once what is needed once for each: of commands of one request, namespaces, controllers."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence

from lab.defects.defect import defect
from lab.nvme.commands import (
    BROADCAST_NSID,
    Command,
    CreateIoCq,
    DeleteIoCq,
    DeleteIoSq,
    Flush,
    GetLogPage,
    LbaCommand,
    Write,
    WriteZeroes,
)
from lab.nvme.completions import Completion
from lab.nvme.fields import Register
from lab.nvme.identify import IdentifyNamespace
from lab.nvme.prp import ENTRY
from lab.nvme.registers import ACQ, AQA, ASQ
from lab.reference.controller import Controller
from lab.reference.data import DataPath
from lab.reference.execution import Execution
from lab.reference.health import Health
from lab.reference.identification import Identification, Identifiers
from lab.reference.namespace import Namespace
from lab.reference.queue_pair import QueuePair
from lab.reference.registers import Registers
from lab.reference.request import Request
from lab.reference.ring import CQE_SIZE, SQE_SIZE
from lab.reference.transport import Memory

LOW = 0xFFFF_FFFF
SPLIT = ("read/media-error-split",)


# -- several commands of one request --------------------------------------------------------------------------------


class _Pieces(Execution):
    """Runs the commands of a request without a retry."""

    def run(
        self, pair: QueuePair, commands: Sequence[Command], *, retry: bool = True, depth: int | None = None
    ) -> list[Completion]:
        """Run the commands, none of them a second time."""
        requests = [Request(command) for command in commands]
        waiting, in_flight = deque(requests), set[Request]()
        while waiting or in_flight:
            self.launch(pair, waiting, in_flight, depth or len(commands))
            for request in self.wait(pair, in_flight):
                in_flight.discard(request)
                self.ended(request)
        return self.results(requests)

    def ended(self, request: Request) -> None:
        """Take the end of one command."""

    def results(self, requests: Sequence[Request]) -> list[Completion]:
        """Return the completions of a request."""
        return [request.result() for request in requests]


class LastStatus(_Pieces):
    """Takes the status of the last command of a request for that of all."""

    def results(self, requests: Sequence[Request]) -> list[Completion]:
        """Return the last command's completion for each."""
        return [requests[-1].result() for _ in requests]


class FirstStatus(_Pieces):
    """Takes the status of the first command of a request for that of all."""

    def results(self, requests: Sequence[Request]) -> list[Completion]:
        """Return the first command's completion for each."""
        return [requests[0].result() for _ in requests]


for _id, _where in (("read/failed-data", SPLIT), ("read/media-error", SPLIT), ("write/error", ("write/error-split",))):
    defect(f"{_id}:first-status", scenarios=_where)(type("FirstStatus", (FirstStatus,), {"__doc__": FirstStatus.__doc__}))
for _id, _where in (("read/failed-data", SPLIT), ("read/media-error", SPLIT), ("write/error", ("write/error-split",))):
    defect(f"{_id}:last-status", scenarios=_where)(type("LastStatus", (LastStatus,), {"__doc__": LastStatus.__doc__}))


@defect("read/owned-memory:gives-up-early", scenarios=SPLIT)
class GivesUpEarly(_Pieces):
    """Ends a request with the first of its commands that fails, and gives the buffer back while others are in flight."""

    def ended(self, request: Request) -> None:
        """Raise the error of a command that has failed, at once."""
        if request.completion is not None and not request.ok:
            request.result()


@defect("admin-queue/match-completion:code-only", scenarios=("admin-queue/type-only",))
class CodeOnly(QueuePair):
    """Looks at the status code and not at its type, so that a path error of code 00h is a success."""

    def reap(self) -> list[Request]:
        """End the commands that were completed, with success where the status code is 0."""
        ended = super().reap()
        for request in ended:
            request.ok = request.completion is not None and not request.completion.SC
        return ended


@defect("write/signature:stale-cache", scenarios=("write/reread",))
class StaleCache(Namespace):
    """Keeps what it has read, and forgets nothing of it where it writes."""

    kept: dict[tuple[int, int], bytes] | None = None

    def read(self, lba: int, blocks: int, offset: int = 0) -> bytes:
        """Return what an earlier read of the same blocks has returned, else read them."""
        self.kept = {} if self.kept is None else self.kept
        if (lba, blocks) not in self.kept:
            self.kept[lba, blocks] = super().read(lba, blocks, offset)
        return self.kept[lba, blocks]


# -- blocks ---------------------------------------------------------------------------------------------------------


class _Blocks(Namespace):
    """Changes the blocks of one kind of command."""

    kind: type[LbaCommand] = Write

    def changed(self, lba: int, blocks: int) -> tuple[int, int]:
        """Return the blocks that the command names."""
        return lba & LOW, blocks

    def command(self, kind: type[LbaCommand], lba: int, blocks: int, flags: dict[str, int]) -> Command:
        """Return the command, with other blocks if it is of the kind."""
        return super().command(kind, *(self.changed(lba, blocks) if kind is self.kind else (lba, blocks)), flags)


@defect("write/signature:32-bit", scenarios=("write/high-lba",))
class WriteLba32(_Blocks):
    """Keeps the LBA of a write in 32 bits."""


@defect("write/exact:zeroes-32-bit", scenarios=("write/high-lba",))
class ZeroesLba32(_Blocks):
    """Keeps the LBA of Write Zeroes in 32 bits."""

    kind = WriteZeroes


@defect("write/signature:zeroes-one-more", scenarios=("write/zeroes",))
class ZeroesOneMore(_Blocks):
    """Zeroes one block too many, as NLB of Write Zeroes is 0's based."""

    kind = WriteZeroes

    def changed(self, lba: int, blocks: int) -> tuple[int, int]:
        """Return one block more."""
        return lba, blocks + 1


@defect("features/trim:32-bit", scenarios=("write/high-lba",))
class TrimLba32(Namespace):
    """Keeps the LBA of a range to trim in 32 bits."""

    def trim(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Trim ranges whose LBA has lost its upper half."""
        super().trim([(lba & LOW, blocks) for lba, blocks in ranges])


@defect("features/trim:range-too-many", scenarios=("features/trim",))
class RangeTooMany(Namespace):
    """Sends a range more than it has filled in, which names the first block."""

    def trim(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Trim the first block too."""
        super().trim([*ranges, (0, 1)])


@defect("write/exact:cut-short", scenarios=("write/basic",))
class CutShort(Namespace):
    """Leaves the last block of a longer write out, and says that it is done."""

    def write(self, lba: int, data: bytes, *, fua: bool = False, offset: int = 0) -> None:
        """Write all blocks but the last."""
        super().write(lba, data[: max(self.block_size, len(data) - self.block_size)], fua=fua, offset=offset)


@defect("identify/capacity64:one-more", scenarios=("identify/basic",))
class OneMore(Namespace):
    """Takes NSZE for 0's based."""

    @property
    def blocks(self) -> int:
        """NSZE and one."""
        return super().blocks + 1


# -- several namespaces ---------------------------------------------------------------------------------------------


@defect("write/flush:first-namespace", scenarios=("multi-namespace/flush",))
class FlushesTheFirst(Namespace):
    """Flushes namespace 1, whichever was written to."""

    def noop(self) -> None:
        """Flush namespace 1."""
        self._run([Flush.of(NSID=1)])


@defect("features/trim-units:first-namespace", scenarios=("multi-namespace/trim",))
class TrimsTheFirst(Namespace):
    """Trims the blocks of namespace 1, whichever was meant."""

    def trim(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Trim blocks of namespace 1."""
        meant, self.nsid = self.nsid, 1
        try:
            super().trim(ranges)
        finally:
            self.nsid = meant


@defect("features/format-scope:all", scenarios=("features/format",))
class FormatsAll(Namespace):
    """Formats all namespaces where one is to be formatted."""

    def format(self, index: int) -> None:
        """Format by NSID FFFFFFFFh."""
        meant, self.nsid = self.nsid, BROADCAST_NSID
        try:
            super().format(index)
        finally:
            self.nsid = meant


@defect("features/format-scope:next-format", scenarios=("features/format",))
class NextFormat(Namespace):
    """Takes the index of an LBA format for 1's based."""

    def format(self, index: int) -> None:
        """Format by the index and one."""
        super().format(index + 1)


@defect("features/format-scope:first-format", source="EDK2 c8833afa7a", scenarios=("write/format-kept",))
class FirstFormat(Namespace):
    """Loses the dword that says which format: the first one of the list is taken."""

    def format(self, index: int) -> None:
        """Format with dword 10 as 0."""
        super().format(index & 0)


@defect("identify/names:reversed", scenarios=("identify/names",))
class Reversed(Identification):
    """Tells an NGUID by its bytes from the last to the first."""

    def identifiers(self, nsid: int, identity: IdentifyNamespace) -> Identifiers:
        """Return the identifiers with the NGUID from its last byte to its first."""
        names = super().identifiers(nsid, identity)
        return Identifiers(uuid=names.uuid, nguid=bytes.fromhex(names.nguid)[::-1].hex(), eui64=names.eui64)


# -- several controllers --------------------------------------------------------------------------------------------


class _OfTheFirst(Controller):
    """Knows of which device it has driven a controller first."""

    first: dict[int, Controller] = {}  # noqa: RUF012

    @property
    def leader(self) -> Controller:
        """The controller of this system that was taken first."""
        system = id(self.transport._device)  # type: ignore[attr-defined]
        return self.first.setdefault(system, self)


@defect("admin-queue/doorbell:one-stride", scenarios=("detect/two-kinds",))
class OneStride(_OfTheFirst):
    """Keeps the doorbell stride of the first controller for all."""

    def detect(self) -> None:
        """Detect the controller, and take the first one's stride."""
        super().detect()
        self.registers.dstrd = self.leader.cap.DSTRD


@defect("read/mdts-split:one-for-all", scenarios=("detect/two-kinds",))
class OneMdts(_OfTheFirst):
    """Keeps the transfer limit of the first controller for all."""

    first: dict[int, Controller] = {}  # noqa: RUF012

    @property
    def max_transfer(self) -> int | None:
        """The first controller's limit."""
        leader = self.leader
        return super().max_transfer if leader is self else leader.max_transfer


# -- queues and pointers --------------------------------------------------------------------------------------------


@defect("io-queues/owned-memory:largest", scenarios=("io-queues/few",))
class LargestQueue(Controller):
    """Creates completion queues of as many entries as CAP.MQES allows, and has memory for its own depth."""

    def create_cq_command(self, pair: QueuePair) -> CreateIoCq:
        """Return Create I/O CQ with QSIZE as CAP.MQES."""
        return super().create_cq_command(pair).but(QSIZE=self.cap.MQES)


@defect("io-queues/awaited:one-doorbell", scenarios=("io-queues/basic",))
class OneDoorbell(Controller):
    """Submits the creation of both queues of a pair by one doorbell."""

    def create_pair(self, qid: int, entries: int) -> QueuePair:
        """Create both queues at once."""
        pair = self.make_pair(qid, entries, self.vector_of(qid))
        self.execution.run(self.admin, [self.create_cq_command(pair), self.create_sq_command(pair)])
        pair.live = True
        return pair


@defect("io-queues/awaited:deletes-at-once", scenarios=("reset/shutdown",))
class DeletesAtOnce(Controller):
    """Submits the deletion of all queues by one doorbell, the submission queues first."""

    def delete_io_queues(self) -> None:
        """Delete all queues by one doorbell."""
        pairs, self.io = self.io, []
        commands = [kind.of(QID=pair.qid) for kind in (DeleteIoSq, DeleteIoCq) for pair in pairs]
        self.execution.run(self.admin, commands)
        for pair in pairs:
            pair.live = False


@defect("io-queues/awaited:anew-at-once", scenarios=("io-queues/basic",))
class AnewAtOnce(Controller):
    """Submits the deletion of its first submission queue and its creation anew by one doorbell."""

    def create_io_queues(self) -> None:
        """Create all queues, and the first submission queue once more."""
        super().create_io_queues()
        pair = self.io[0]
        self.execution.run(self.admin, [DeleteIoSq.of(QID=pair.qid), self.create_sq_command(pair)])
        pair.restart()


TICK_SECONDS = 0.5


@defect("every/prompt:by-the-clock", scenarios=("write/basic",))
class ByTheClock(Execution):
    """Takes no interrupt and looks for completions twice a second."""

    def wait(self, pair: QueuePair, in_flight: Collection[Request]) -> list[Request]:
        """Sleep, then look for completions."""
        self._c.transport.sleep(TICK_SECONDS)
        return super().wait(pair, in_flight)


@defect("admin-queue/doorbell:sizes-swapped", scenarios=("admin-queue/wraps",))
class SizesSwapped(Controller):
    """Writes the size of the admin completion queue to ASQS, and that of the submission queue to ACQS."""

    def make_pair(self, qid: int, entries: int, vector: int | None) -> QueuePair:
        """Return a pair; that of the admin queues has rings of two sizes."""
        if qid:
            return super().make_pair(qid, entries, vector)
        if qid not in self._pairs:
            submission = self.parts.submission_ring(self.ring_memory(16 * SQE_SIZE), 16)
            completion = self.parts.completion_ring(self.ring_memory(64 * CQE_SIZE), 64)
            self._pairs[qid] = self.parts.queue_pair(self.registers, qid, submission, completion, vector)
        return super().make_pair(qid, 16, vector)  # cleared, where there was one

    def program_admin_queue(self, admin: QueuePair) -> None:
        """Write AQA with its fields swapped."""
        submission, completion = admin.submission, admin.completion
        self.registers.write(AQA.of(ASQS=completion.entries - 1, ACQS=submission.entries - 1))
        self.registers.write(ASQ(submission.memory.address))
        self.registers.write(ACQ(completion.memory.address))


@defect("io-queues/owned-memory:upper-half", scenarios=("admin-queue/basic",))
class UpperHalf(Registers):
    """Writes 0 to the upper half of ACQ."""

    def write(self, value: Register) -> None:
        """Write a register; of ACQ the lower half only."""
        super().write(ACQ(int(value) & LOW) if isinstance(value, ACQ) else value)


@defect("read/owned-memory:upper-half", scenarios=("read/sizes",))
class Prp2UpperHalf(DataPath):
    """Keeps the address in PRP2 in 32 bits."""

    def describe(self, command: Command, memory: Memory, offset: int, length: int, lists: list[Memory]) -> Command:
        """Return the command with the lower half of PRP2."""
        described = super().describe(command, memory, offset, length, lists)
        return described.but(PRP2=described.PRP2 & LOW)


@defect("read/exact:list-of-one", scenarios=("read/sizes",))
class ListOfOne(DataPath):
    """Makes a list where PRP2 is the second page itself: two pages."""

    def describe(self, command: Command, memory: Memory, offset: int, length: int, lists: list[Memory]) -> Command:
        """Return the command with a list of one page where two pages are touched."""
        described, page = super().describe(command, memory, offset, length, lists), memory.page_size
        if -(-(offset % page + length) // page) != 2:
            return described
        lists.append(self._c.transport.allocate(page, page))
        lists[-1].write(0, described.PRP2.to_bytes(ENTRY, "little"))
        return described.but(PRP2=lists[-1].address)


@defect("features/smart-scope:namespace", scenarios=("features/no-optional",))
class SmartOfNamespace(Health):
    """Asks for the SMART log of namespace 1, whatever LPA says."""

    def command(self, lid: int, length: int, offset: int, nsid: int) -> GetLogPage:
        """Return Get Log Page of namespace 1."""
        return super().command(lid, length, offset, 1)
