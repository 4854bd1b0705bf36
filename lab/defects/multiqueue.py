"""Defects of many commands on many queues."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lab.defects.defect import defect
from lab.nvme.commands import Command, CreateIoSq, DoorbellBufferConfig
from lab.nvme.completions import Completion
from lab.nvme.registers import doorbell_offset
from lab.reference.controller import Controller
from lab.reference.data import DataPath
from lab.reference.errors import CommandLost, ControllerFailed
from lab.reference.execution import Execution
from lab.reference.load import Lane, Load, LoadResult
from lab.reference.namespace import Namespace
from lab.reference.queue_pair import QueuePair
from lab.reference.recovery import Recovery
from lab.reference.registers import Registers
from lab.reference.request import Request
from lab.reference.shadow_doorbells import ENTRY, ShadowDoorbells, passes
from lab.reference.transport import Memory


@defect("multiqueue/degrade:one-each")
class OneEach(Controller):
    """Insists on a queue pair for each CPU."""

    def granted_queues(self) -> int:
        """Return the number of queues; ControllerFailed if it is less than wanted."""
        granted = super().granted_queues()
        if granted < self.settings.io_queues:
            raise ControllerFailed(f"{self.settings.io_queues} queues are needed")
        return granted


@defect("multiqueue/per-cpu:all-to-one")
class AllToOne(Load):
    """Submits everything to the first queue."""

    def pair_of(self, job: int) -> QueuePair:
        """Return the first pair for every job."""
        return super().pair_of(0)


@defect("multiqueue/per-cpu:turns")
class Turns(Load):
    """Submits to the queues in turn, whichever CPU it runs on."""

    turn = 0

    def pair_of(self, job: int) -> QueuePair:
        """Return the next pair, whatever the job."""
        self.turn += 1
        return super().pair_of(self.turn)


@defect("multiqueue/own-vector:one-for-all")
class OneForAll(Controller):
    """Gives all I/O completion queues the same vector, although there are more."""

    def vector_of(self, qid: int) -> int | None:
        """Return vector 1 for all I/O queues."""
        vector = super().vector_of(qid)
        return None if vector is None else min(vector, 1)


@defect("multiqueue/depth:serial")
class Serial(Execution):
    """Waits for each command before it submits the next one to a queue."""

    def launch(self, pair: QueuePair, waiting: deque[Request], flying: set[Request], depth: int) -> None:
        """Keep one command in flight."""
        super().launch(pair, waiting, flying, 1)


@defect("multiqueue/batch:one-each")
class RingsForEach(QueuePair):
    """Rings the doorbell for each command."""

    def submit(self, request: Request, now: float) -> None:
        """Submit, and ring at once."""
        super().submit(request, now)
        self.ring()


SHADOW, REFUSED = "multiqueue/shadow", "multiqueue/shadow-refused"


@defect("multiqueue/shadow-barrier:none", source="SPDK 7188bb994f")
class NoBarrier(ShadowDoorbells):
    """Reads the EventIdx without a barrier after it has written the shadow doorbell."""

    def must_ring(self, qid: int, *, completion: bool, value: int) -> bool:
        """Write the shadow doorbell and compare with EventIdx, without a barrier between."""
        at = self.place(qid, completion=completion)
        old = int.from_bytes(self.doorbells.read(at, ENTRY), "little")
        self.doorbells.write(at, value.to_bytes(ENTRY, "little"))
        return passes(int.from_bytes(self.indexes.read(at, ENTRY), "little"), old, value)


@defect("multiqueue/shadow-barrier:index-first")
class IndexFirst(ShadowDoorbells):
    """Reads the EventIdx before it writes the shadow doorbell."""

    def must_ring(self, qid: int, *, completion: bool, value: int) -> bool:
        """Compare with the EventIdx that was read before the shadow doorbell was written."""
        at = self.place(qid, completion=completion)
        old, index = (int.from_bytes(buffer.read(at, ENTRY), "little") for buffer in (self.doorbells, self.indexes))
        self.doorbells.write(at, value.to_bytes(ENTRY, "little"))
        self._transport.publish()
        return passes(index, old, value)


@defect("multiqueue/shadow-barrier:entries-unfenced")
class EntriesUnfenced(Registers):
    """Writes the shadow doorbell without a barrier after the entries that it announces."""

    def ring(self, qid: int, *, completion: bool, value: int) -> None:
        """Write the shadow doorbell, and ring if needed, without a barrier before."""
        if self.shadows is None or not self.shadows.covers(qid):
            super().ring(qid, completion=completion, value=value)
        elif self.shadows.must_ring(qid, completion=completion, value=value):
            self._transport.write32(doorbell_offset(qid, completion=completion, dstrd=self.dstrd), value)


@defect("multiqueue/shadow-barrier:doorbell-first")
class DoorbellFirst(Registers):
    """Rings the doorbell, and writes its shadow then."""

    def ring(self, qid: int, *, completion: bool, value: int) -> None:
        """Ring the doorbell always, and write the shadow after it."""
        shadows, self.shadows = self.shadows, None
        super().ring(qid, completion=completion, value=value)
        self.shadows = shadows
        if shadows is not None and shadows.covers(qid):
            shadows.must_ring(qid, completion=completion, value=value)


@defect("multiqueue/shadow-barrier:places")
class Places(ShadowDoorbells):
    """Takes the places in the buffers for twice as far apart as CAP.DSTRD says."""

    def place(self, qid: int, *, completion: bool) -> int:
        """Return twice the offset in bytes."""
        return 2 * super().place(qid, completion=completion)


@defect("multiqueue/shadow-barrier:swapped")
class Swapped(Controller):
    """Gives the controller the two buffers the wrong way round."""

    def shadow_command(self, shadows: ShadowDoorbells) -> DoorbellBufferConfig:
        """Return the command with PRP1 and PRP2 exchanged."""
        command = super().shadow_command(shadows)
        return command.but(PRP1=command.PRP2, PRP2=command.PRP1)


@defect("multiqueue/shadow-doorbells:not-refused", scenarios=(REFUSED,))
class NotRefused(Controller):
    """Uses shadow doorbells although Doorbell Buffer Config has failed."""

    def configure_shadows(self) -> None:
        """Send the command, and use the buffers whatever the answer was."""
        super().configure_shadows()
        self.registers.shadows = self._shadows


@defect("multiqueue/shadow-barrier:one-too-many", source="Linux CVE-2026-43449", scenarios=(REFUSED,))
class OneTooMany(Controller):
    """Clears, when Doorbell Buffer Config has failed, the shadow doorbells of one queue more than there are."""

    def configure_shadows(self) -> None:
        """Send the command; if it fails, clear the entries of one queue too many."""
        super().configure_shadows()
        if self.registers.shadows is None and self._shadows is not None:
            for qid in range(1, len(self.io) + 2):
                self._shadows.doorbells.write(self._shadows.place(qid, completion=False), bytes(ENTRY))


@defect("multiqueue/shadow-doorbells:never-rings", scenarios=(SHADOW,))
class NeverRings(ShadowDoorbells):
    """Trusts the controller to look at the shadow doorbells without a doorbell, whatever the EventIdx says."""

    def must_ring(self, qid: int, *, completion: bool, value: int) -> bool:
        """Write the shadow doorbell, and return False."""
        super().must_ring(qid, completion=completion, value=value)
        return False


@defect("multiqueue/back-pressure:drops")
class Drops(Execution):
    """Ends what does not fit into a full ring with an error."""

    def launch(self, pair: QueuePair, waiting: deque[Request], flying: set[Request], depth: int) -> None:
        """Submit what there is room for, and end the rest as lost."""
        super().launch(pair, waiting, flying, depth)
        while waiting and pair.qid and not pair.room:
            request = waiting.popleft()
            request.attempts = self._c.settings.retries
            request.start(self._c.transport.now())
            request.end(lost=CommandLost("the ring is full"))
            flying.add(request)


@defect("multiqueue/back-pressure:deadlock", source="Haiku cb53bf1e28")
class Deadlock(Execution):
    """Waits for room in a full ring, and looks for no completion meanwhile."""

    def launch(self, pair: QueuePair, waiting: deque[Request], flying: set[Request], depth: int) -> None:
        """Wait until there is room, without reaping, which alone makes room."""
        super().launch(pair, waiting, flying, depth)
        while waiting and not pair.room:
            self._c.transport.wait(pair.vector, self._c.settings.check_seconds)


class _Sharing(QueuePair):
    """Reaps the completion queue that all pairs share, and takes each completion for its own."""

    def match(self, completion: Completion) -> Request | None:
        self.submission.fetched(completion.SQHD)
        return self.outstanding.pop(completion.CID, None)

    def reap(self) -> list[Request]:
        ended, taken = [], False
        while self.live and (completion := self.completion.peek()) is not None:
            self.completion.advance()
            taken = True
            if request := self.match(completion):
                request.end(completion)
                ended.append(request)
        if taken:
            self._registers.ring(min(self.qid, 1), completion=True, value=self.completion.head)
        return ended


@defect("multiqueue/shared-cq:sqid-ignored")
class SqidIgnored(Controller):
    """Lets all submission queues share a completion queue, and distinguishes their completions by CID alone."""

    parts = replace(Controller.parts, queue_pair=_Sharing)

    def create_pair(self, qid: int, entries: int) -> QueuePair:
        """Create a pair, and let it reap the first pair's completion ring."""
        pair = super().create_pair(qid, entries)
        if qid > 1:
            pair.completion, pair.vector = self.io[0].completion, self.io[0].vector
        return pair

    def create_sq_command(self, pair: QueuePair) -> CreateIoSq:
        """Return the command with CQID=1."""
        return super().create_sq_command(pair).but(CQID=1)


@defect("multiqueue/spurious-interrupt:reaps-twice")
class ReapsTwice(Execution):
    """Takes an interrupt for the news that a command has ended."""

    def wait(self, pair: QueuePair, flying: Collection[Request]) -> list[Request]:
        """End the oldest command after an interrupt that brought no completion."""
        if pair.qid == 0 or not self._c.transport.wait(pair.vector, self._c.settings.check_seconds):
            return super().wait(pair, flying)
        ended = [request for request in pair.reap() if request in flying]
        if not ended and pair.outstanding:
            request = pair.outstanding.pop(next(iter(pair.outstanding)))
            request.end(Completion.of())
            ended = [request]
        return ended


@defect("multiqueue/integrity:shared-list", scenarios=("multiqueue/long",))
class SharedList(DataPath):
    """Has one PRP list page, which commands in flight overwrite for each other."""

    page: Memory | None = None

    def describe(self, command: Command, memory: Memory, offset: int, length: int, lists: list[Memory]) -> Command:
        """Return the command with its PRP list copied into the one shared page."""
        first = len(lists)
        described = super().describe(command, memory, offset, length, lists)
        if len(lists) == first:
            return described
        if self.page is None:
            self.page = self._c.transport.allocate(memory.page_size, memory.page_size)
        self.page.write(0, lists[first].read(0, memory.page_size))
        return described.but(PRP2=self.page.address)


@defect("multiqueue/integrity:shared-buffer", scenarios=("multiqueue/latency",))
class SharedBuffer(Load):
    """Moves the data of all commands through one buffer."""

    def _run(self, namespace: Namespace, blocks: int, lanes: Sequence[Lane]) -> LoadResult:
        for lane in lanes:
            lane.buffer = lanes[0].buffer
        return super()._run(namespace, blocks, lanes)


@defect("multiqueue/reset-under-load:lost")
class Lost(Recovery):
    """Forgets at a reset what was in flight."""

    def reset(self, reason: str) -> None:
        """Drop the outstanding I/O commands, and reset."""
        for pair in self._c.io:
            pair.outstanding.clear()
        super().reset(reason)


@defect("multiqueue/reset-under-load:taken-for-done")
class TakenForDone(Recovery):
    """Ends with success at a reset what was in flight."""

    def reset(self, reason: str) -> None:
        """End the outstanding I/O commands with success, and reset."""
        for pair in self._c.io:
            while pair.outstanding:
                pair.outstanding.pop(next(iter(pair.outstanding))).end(Completion.of())
        super().reset(reason)


@defect("multiqueue/scaling:one-lock")
class OneLock(Load):
    """Lets one job after the other have its commands in flight."""

    def run(self, namespace: Namespace, blocks: int, lanes: Sequence[Mapping[str, Any]], data: bytes) -> LoadResult:
        """Run the lanes of each job on their own, and add the results up."""
        length, whole = blocks * namespace.block_size, LoadResult()
        for job in sorted({lane["job"] for lane in lanes}):
            mine = b""
            at = 0
            for lane in lanes:
                size = length * sum(crc is None for _, crc in lane["steps"])
                mine += data[at : at + size] if lane["job"] == job else b""
                at += size
            part = super().run(namespace, blocks, [lane for lane in lanes if lane["job"] == job], mine)
            whole.operations += part.operations
            whole.errors += part.errors
            whole.mismatches += part.mismatches
        return whole


@defect("multiqueue/shadow-zeroed:residue", scenarios=("multiqueue/shadow",))
class ShadowResidue(ShadowDoorbells):
    """Gives the controller shadow doorbells as it has found them in memory."""

    def clear(self) -> None:
        """Fill both buffers with what was there."""
        for buffer in (self.doorbells, self.indexes):
            buffer.write(0, b"\x05\0\0\0" * (len(buffer) // 4))
