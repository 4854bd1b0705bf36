"""How many commands a second the driver gets done, one after the other and many at a time."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

from lab.nvme.commands import Command, Read
from lab.reference.controller import Controller
from lab.reference.errors import Refused
from lab.reference.namespace import Namespace
from lab.reference.queue_pair import QueuePair
from lab.reference.request import Request

TRANSFER = 4096
"""Bytes of each read: a page, which needs no list."""
FIRST_ROUND = 128
"""Commands from which the length of the measurement is estimated."""
BATCH = 16
"""Rounds that are run in one go: a driver does not keep the results of all that it has ever done."""
SHARE = 2
"""Of many commands at a time, a half is submitted by one doorbell and reaped by another, as io_uring and SPDK do."""


@dataclass(frozen=True)
class Figure:
    """The commands of one depth, how long they took, and their latencies."""

    depth: int
    commands: int
    seconds: float

    @property
    def rate(self) -> float:
        """Commands a second."""
        return self.commands / self.seconds


def reads(controller: Controller, namespace: Namespace, depth: int, seconds: float) -> Figure:
    """Measure reads of 4 KiB all over the namespace, ``depth`` outstanding on one queue pair, for about so long."""
    blocks = max(1, TRANSFER // namespace.block_size)
    places = namespace.blocks // blocks
    if not places:
        raise Refused(f"namespace {namespace.nsid} is smaller than {TRANSFER} bytes")
    pair, length = controller.pair(), blocks * namespace.block_size
    with controller.data.buffer(length) as memory:
        commands = [
            controller.data.describe(namespace.command(Read, n % places * blocks, blocks, {}), memory, 0, length, [])
            for n in range(FIRST_ROUND)
        ]
        rounds = max(1, round(seconds / _timed(controller, pair, commands, depth, 1)))
        batches = -(-rounds // BATCH)
        passed = _timed(controller, pair, commands * min(rounds, BATCH), depth, batches)
        return Figure(depth, batches * min(rounds, BATCH) * FIRST_ROUND, passed)


def _timed(controller: Controller, pair: QueuePair, commands: list[Command], depth: int, times: int) -> float:
    """Return the seconds that all commands take, ``times`` over; DriverError if one fails."""
    execution, batch = controller.execution, max(1, depth // SHARE)
    began = time.perf_counter()
    for _ in range(times):
        requests = [Request(command) for command in commands]
        waiting, in_flight = deque(requests), set[Request]()
        while waiting or in_flight:
            if waiting and len(in_flight) <= depth - batch:
                execution.launch(pair, waiting, in_flight, depth)
            in_flight.difference_update(execution.wait(pair, in_flight))
        for request in requests:
            request.result()
    return time.perf_counter() - began
