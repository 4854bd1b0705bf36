"""Legal ways to use several queues at once."""

from __future__ import annotations

import random

from lab.reference.controller import Controller
from lab.reference.errors import CommandLost
from lab.reference.queue_pair import QueuePair
from lab.variants.variant import variant

ANY = 'Base 2.0, 2.1 "Memory-Based Transport Model": which queue a command is put into is the host\'s choice'


@variant("multiqueue/first-queue", allowed=ANY, scenarios=("write/basic",))
class FirstQueue(Controller):
    """Sends everything but loads through its first I/O queue."""

    def pair(self) -> QueuePair:
        """Return the first I/O queue pair."""
        if not self.io:
            raise self.failed or CommandLost("there are no I/O queues")
        return self.io[0]


@variant("multiqueue/any-queue", allowed=ANY, scenarios=("write/basic",))
class AnyQueue(Controller):
    """Draws the I/O queue of each command by lot."""

    lot: random.Random | None = None

    def pair(self) -> QueuePair:
        """Return a random I/O queue pair, the same ones in each run."""
        if not self.io:
            raise self.failed or CommandLost("there are no I/O queues")
        self.lot = self.lot or random.Random(0)
        return self.lot.choice(self.io)


@variant(
    "multiqueue/no-shadows",
    allowed='Base 2.0, 5.8 "Doorbell Buffer Config command": optional; the host may go on with doorbells',
    scenarios=("multiqueue/shadow",),
)
class NoShadows(Controller):
    """Never uses shadow doorbells."""

    def configure_shadows(self) -> None:
        """Leave the controller to its doorbells."""


@variant(
    "multiqueue/one-vector",
    allowed='PCIe 1.0, 3.5 "Interrupts": several completion queues may share one vector',
    scenarios=("multiqueue/plain",),
    warns=("multiqueue/own-vector",),
    excludes=("io-queues/falling-vectors", "admin-queue/pin"),
)
class OneVector(Controller):
    """Takes the interrupts of all queues by vector 0."""

    def vector_of(self, qid: int) -> int | None:
        """Return 0 for all queues; None without vectors."""
        return 0 if self.vectors else None
