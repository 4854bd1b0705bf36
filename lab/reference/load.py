"""A load of many commands at once, over all queues: each lane has one outstanding, and the next one when that has ended.

A job is what runs on one CPU, and it uses that CPU's queue pair. Each pass submits what all lanes of a queue want by one
doorbell; what does not fit into the ring waits for room.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lab.nvme.commands import Command, Read, Write
from lab.reference.errors import DriverError
from lab.reference.namespace import Namespace
from lab.reference.queue_pair import QueuePair
from lab.reference.request import Request
from lab.reference.transport import Memory

if TYPE_CHECKING:
    from lab.reference.controller import Controller


@dataclass(eq=False)
class Lane:
    """Its steps to come, (LBA, bytes) to write or (LBA, CRC-32) to read, and the buffer that it keeps."""

    pair: QueuePair
    buffer: Memory
    length: int  # bytes of each step
    steps: deque[tuple[int, bytes | int]]
    lists: list[Memory] = field(default_factory=list)  # of the command on its way


@dataclass
class Lines:
    """One queue's: what is to be submitted, and what is on its way."""

    waiting: deque[Request] = field(default_factory=deque)
    flying: set[Request] = field(default_factory=set)


@dataclass
class Outcome:
    """What became of the steps."""

    operations: int = 0
    errors: int = 0
    mismatches: int = 0
    first_error: str = ""


class Load:
    """One controller's."""

    def __init__(self, controller: Controller) -> None:
        self._c = controller

    def pair_of(self, job: int) -> QueuePair:
        """The I/O queues of the CPU that the job runs on; CPUs share them where there are not enough."""
        pairs = self._c.io
        return pairs[job % len(pairs)]

    def run(self, namespace: Namespace, blocks: int, lanes: Sequence[Mapping[str, Any]], data: bytes) -> Outcome:
        """Runs lanes as the action tells them; ``data`` holds the bytes of all writes, one after the other."""
        length, at = blocks * namespace.block_size, 0
        with ExitStack() as buffers:
            made = []
            for told in lanes:
                buffer = buffers.enter_context(self._c.data.buffer(length))
                lane = Lane(self.pair_of(told["job"]), buffer, length, deque())
                for lba, crc in told["steps"]:
                    lane.steps.append((lba, data[at : at + length] if crc is None else crc))
                    at += length if crc is None else 0
                made.append(lane)
            return self._run(namespace, blocks, made)

    def _run(self, namespace: Namespace, blocks: int, lanes: Sequence[Lane]) -> Outcome:
        outcome = Outcome()
        owners: dict[Request, Lane] = {}
        lines = {lane.pair: Lines() for lane in lanes}

        def following(lane: Lane) -> None:
            if lane.steps:
                request = Request(self._command(namespace, blocks, lane))
                owners[request] = lane
                lines[lane.pair].waiting.append(request)

        for lane in lanes:
            following(lane)
        while owners:
            for pair, line in lines.items():
                self._c.execution.launch(pair, line.waiting, line.flying, pair.submission.entries)
            for pair, line in lines.items():
                for request in self._c.execution.wait(pair, line.flying) if line.flying else ():
                    line.flying.discard(request)
                    if self._c.execution.should_retry(request):
                        line.waiting.append(request)
                        continue
                    lane = owners.pop(request)
                    self._ended(request, lane, outcome)
                    following(lane)
        return outcome

    def _command(self, namespace: Namespace, blocks: int, lane: Lane) -> Command:
        """The lane's next command, its data in place."""
        lba, what = lane.steps[0]
        if isinstance(what, bytes):
            lane.buffer.write(0, what)
        command = namespace.command(Write if isinstance(what, bytes) else Read, lba, blocks, {})
        return self._c.data.describe(command, lane.buffer, 0, lane.length, lane.lists)

    def _ended(self, request: Request, lane: Lane, outcome: Outcome) -> None:
        _, what = lane.steps.popleft()
        while lane.lists:
            self._c.data.release(lane.lists.pop())
        outcome.operations += 1
        try:
            request.result()
        except DriverError as error:
            outcome.errors += 1
            outcome.first_error = outcome.first_error or str(error)
        else:
            outcome.mismatches += isinstance(what, int) and zlib.crc32(lane.buffer.read(0, lane.length)) != what

    def digest(self, namespace: Namespace, job: int, lba: int, blocks: int) -> str:
        """SHA-256 of what a job's region holds, read by the job's own queues."""
        found = hashlib.sha256()
        pair = self.pair_of(job)
        for at, count in namespace.pieces(lba, blocks):
            length = count * namespace.block_size
            with self._c.data.buffer(length) as memory:
                self._c.execution.with_data(pair, namespace.command(Read, at, count, {}), memory, length)
                found.update(memory.read(0, length))
        return found.hexdigest()
