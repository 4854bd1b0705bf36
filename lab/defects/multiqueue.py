"""Defects of many commands on many queues."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lab.defects.defect import defect
from lab.nvme.commands import Command, CreateIoSq
from lab.nvme.completions import Completion
from lab.reference.controller import Controller
from lab.reference.data import DataPath
from lab.reference.errors import CommandLost, ControllerFailed
from lab.reference.execution import Execution
from lab.reference.load import Lane, Load, Outcome
from lab.reference.namespace import Namespace
from lab.reference.queue_pair import QueuePair
from lab.reference.recovery import Recovery
from lab.reference.request import Request
from lab.reference.transport import Memory


@defect("multiqueue/degrade:one-each")
class OneEach(Controller):
    """Insists on a queue pair for each CPU."""

    def granted_queues(self) -> int:
        granted = super().granted_queues()
        if granted < self.settings.io_queues:
            raise ControllerFailed(f"{self.settings.io_queues} queues are needed")
        return granted


@defect("multiqueue/per-cpu:all-to-one")
class AllToOne(Load):
    """Submits everything to the first queue."""

    def pair_of(self, job: int) -> QueuePair:
        return super().pair_of(0)


@defect("multiqueue/per-cpu:turns")
class Turns(Load):
    """Submits to the queues in turn, whichever CPU it runs on."""

    turn = 0

    def pair_of(self, job: int) -> QueuePair:
        self.turn += 1
        return super().pair_of(self.turn)


@defect("multiqueue/own-vector:one-for-all")
class OneForAll(Controller):
    """Gives all I/O completion queues the same vector, although there are more."""

    def vector_of(self, qid: int) -> int | None:
        vector = super().vector_of(qid)
        return None if vector is None else min(vector, 1)


@defect("multiqueue/depth:serial")
class Serial(Execution):
    """Waits for each command before it submits the next one to a queue."""

    def launch(self, pair: QueuePair, waiting: deque[Request], flying: set[Request], depth: int) -> None:
        super().launch(pair, waiting, flying, 1)


@defect("multiqueue/batch:one-each")
class RingsForEach(QueuePair):
    """Rings the doorbell for each command."""

    def submit(self, request: Request, now: float) -> None:
        super().submit(request, now)
        self.ring()


@defect("multiqueue/back-pressure:drops")
class Drops(Execution):
    """Ends what does not fit into a full ring with an error."""

    def launch(self, pair: QueuePair, waiting: deque[Request], flying: set[Request], depth: int) -> None:
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
        super().launch(pair, waiting, flying, depth)
        while waiting and not pair.room:
            self._c.transport.wait(pair.vector, self._c.settings.look_seconds)


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
    """Lets all submission queues share a completion queue, and tells their completions apart by CID alone."""

    parts = replace(Controller.parts, queue_pair=_Sharing)

    def create_pair(self, qid: int, entries: int) -> QueuePair:
        pair = super().create_pair(qid, entries)
        if qid > 1:
            pair.completion, pair.vector = self.io[0].completion, self.io[0].vector
        return pair

    def create_sq_command(self, pair: QueuePair) -> CreateIoSq:
        return super().create_sq_command(pair).but(CQID=1)


@defect("multiqueue/spurious-interrupt:reaps-twice")
class ReapsTwice(Execution):
    """Takes an interrupt for the news that a command has ended."""

    def wait(self, pair: QueuePair, flying: Collection[Request]) -> list[Request]:
        if pair.qid == 0 or not self._c.transport.wait(pair.vector, self._c.settings.look_seconds):
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

    def _run(self, namespace: Namespace, blocks: int, lanes: Sequence[Lane]) -> Outcome:
        for lane in lanes:
            lane.buffer = lanes[0].buffer
        return super()._run(namespace, blocks, lanes)


@defect("multiqueue/reset-under-load:lost")
class Lost(Recovery):
    """Forgets at a reset what was in flight."""

    def reset(self, why: str) -> None:
        for pair in self._c.io:
            pair.outstanding.clear()
        super().reset(why)


@defect("multiqueue/reset-under-load:taken-for-done")
class TakenForDone(Recovery):
    """Ends with success at a reset what was in flight."""

    def reset(self, why: str) -> None:
        for pair in self._c.io:
            while pair.outstanding:
                pair.outstanding.pop(next(iter(pair.outstanding))).end(Completion.of())
        super().reset(why)


@defect("multiqueue/scaling:one-lock")
class OneLock(Load):
    """Lets one job after the other have its commands in flight."""

    def run(self, namespace: Namespace, blocks: int, lanes: Sequence[Mapping[str, Any]], data: bytes) -> Outcome:
        length, whole = blocks * namespace.block_size, Outcome()
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
