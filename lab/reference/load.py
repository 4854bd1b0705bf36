"""A load of many commands at once over all queues: each lane has one command outstanding, and sends the next when it ends.

A job stands for what runs on one CPU and uses that CPU's queue pair. Each pass submits the commands of all lanes of a queue by
one doorbell; what does not fit into the ring waits for room.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from lab.nvme.commands import Command, Read, Write
from lab.reference.core import Core
from lab.reference.data import DataPath
from lab.reference.errors import DriverError
from lab.reference.execution import Execution
from lab.reference.namespace import Namespace
from lab.reference.queue_pair import QueuePair
from lab.reference.request import Request
from lab.reference.transport import Memory


@dataclass(eq=False)
class Lane:
    """A sequence of commands: its remaining steps, (LBA, bytes) to write or (LBA, CRC-32) to read, and its buffer."""

    pair: QueuePair
    buffer: Memory
    length: int  # bytes of each step
    steps: deque[tuple[int, bytes | int]]
    lists: list[Memory] = field(default_factory=list)  # of the command in flight


@dataclass
class Backlog:
    """The commands of one queue: to be submitted, and in flight."""

    waiting: deque[Request] = field(default_factory=deque)
    in_flight: set[Request] = field(default_factory=set)


@dataclass
class LoadResult:
    """The results of all steps."""

    operations: int = 0
    errors: int = 0
    mismatches: int = 0
    first_error: str = ""


class Load:
    """Runs lanes on one controller."""

    def __init__(self, core: Core, data: DataPath, execution: Execution) -> None:
        """Take the controller that the load runs on."""
        self._c, self._data, self._execution = core, data, execution

    def pair_of(self, job: int) -> QueuePair:
        """Return the queue pair of the CPU that the job runs on; CPUs share pairs where there are not enough."""
        pairs = self._c.io
        return pairs[job % len(pairs)]

    def run(self, namespace: Namespace, blocks: int, lanes: Sequence[Mapping[str, Any]], data: bytes) -> LoadResult:
        """Run lanes (``job``, ``steps``); ``data`` holds the bytes of all writes, one after the other."""
        length, at = blocks * namespace.block_size, 0
        with ExitStack() as buffers:
            made = []
            for description in lanes:
                buffer = buffers.enter_context(self._data.buffer(length))
                lane = Lane(self.pair_of(description["job"]), buffer, length, deque())
                for lba, crc in description["steps"]:
                    lane.steps.append((lba, data[at : at + length] if crc is None else crc))
                    at += length if crc is None else 0
                made.append(lane)
            return self._run(namespace, blocks, made)

    def _run(self, namespace: Namespace, blocks: int, lanes: Sequence[Lane]) -> LoadResult:
        result = LoadResult()
        owners: dict[Request, Lane] = {}
        backlogs = {lane.pair: Backlog() for lane in lanes}

        def prepare_next(lane: Lane) -> None:
            if lane.steps:
                request = Request(self._command(namespace, blocks, lane))
                owners[request] = lane
                backlogs[lane.pair].waiting.append(request)

        for lane in lanes:
            prepare_next(lane)
        while owners:
            for pair, backlog in backlogs.items():
                self._execution.launch(pair, backlog.waiting, backlog.in_flight, pair.submission.entries)
            for pair, backlog in backlogs.items():
                for request in self._execution.wait(pair, backlog.in_flight) if backlog.in_flight else ():
                    backlog.in_flight.discard(request)
                    if self._execution.should_retry(request):
                        backlog.waiting.append(request)
                        continue
                    lane = owners.pop(request)
                    self._ended(request, lane, result)
                    prepare_next(lane)
        return result

    def _command(self, namespace: Namespace, blocks: int, lane: Lane) -> Command:
        """Return the lane's next command, with its data in the buffer."""
        lba, what = lane.steps[0]
        if isinstance(what, bytes):
            lane.buffer.write(0, what)
        command = namespace.command(Write if isinstance(what, bytes) else Read, lba, blocks, {})
        return self._data.describe(command, lane.buffer, 0, lane.length, lane.lists)

    def _ended(self, request: Request, lane: Lane, result: LoadResult) -> None:
        _, what = lane.steps.popleft()
        while lane.lists:
            self._data.release(lane.lists.pop())
        result.operations += 1
        try:
            request.result()
        except DriverError as error:
            result.errors += 1
            result.first_error = result.first_error or str(error)
        else:
            result.mismatches += isinstance(what, int) and zlib.crc32(lane.buffer.read(0, lane.length)) != what

    def digest(self, namespace: Namespace, job: int, lba: int, blocks: int) -> str:
        """Return the SHA-256 of a job's region, read through the job's own queues."""
        digest = hashlib.sha256()
        pair = self.pair_of(job)
        for at, count in namespace.split(lba, blocks):
            length = count * namespace.block_size
            with self._data.buffer(length) as memory:
                self._execution.with_data(pair, namespace.command(Read, at, count, {}), memory, length)
                digest.update(memory.read(0, length))
        return digest.hexdigest()
