"""How many commands a second the driver gets done, one after the other and many at a time."""

from __future__ import annotations

import time
from dataclasses import dataclass

from lab.nvme.commands import Command, Read
from lab.reference.controller import Controller
from lab.reference.errors import Refused
from lab.reference.namespace import Namespace
from lab.reference.queue_pair import QueuePair

TRANSFER = 4096
"""Bytes of each read: a page, which needs no list."""
FIRST_ROUND = 128
"""Commands from which the length of the measurement is estimated."""
BATCH = 16
"""Rounds that are run in one go: a driver does not keep the results of all that it has ever done."""


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
    """Return the seconds that all commands take, ``times`` over."""
    began = time.perf_counter()
    for _ in range(times):
        controller.execution.run(pair, commands, depth=depth)
    return time.perf_counter() - began
