"""Legal ways to keep a device busy."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from lab.reference.controller import Controller
from lab.reference.execution import Execution
from lab.reference.io_ring import IoRing
from lab.reference.operation import Operation
from lab.reference.queue_pair import QueuePair
from lab.reference.request import Request
from lab.reference.schedulers import SCHEDULERS, EarliestDeadline, Priority, Scheduler
from lab.reference.service import Reply, Service
from lab.variants.variant import variant

ORDER = 'Base 2.0, 3.4.1 "Command Ordering Requirements": commands are independent, and the host chooses their order'


@variant("performance/newest-first", allowed=ORDER, scenarios=("performance/deep",), excludes=("io-queues/one-pair",))
class NewestFirst(Execution):
    """Sends the newest of the commands that wait, as many as there is room for."""

    def launch(self, pair: QueuePair, waiting: deque[Request], in_flight: set[Request], depth: int) -> None:
        """Submit the newest first."""
        if pair.qid:
            waiting.reverse()
        super().launch(pair, waiting, in_flight, depth)


@variant(
    "performance/admin-interrupts",
    allowed='Base 2.0, 5.4 "Create I/O Completion Queue command": interrupts are enabled queue by queue (IEN)',
    scenarios=("performance/polled",),
    excludes=("multiqueue/one-vector", "io-queues/falling-vectors", "admin-queue/pin"),
)
class AdminInterrupts(Controller):
    """Takes interrupts for the admin queue while it polls the I/O queues."""

    @property
    def vectors(self) -> int:
        """Return one, of the admin queue, where I/O queues are polled."""
        return min(self.transport.vectors, 1) if self.settings.polling else super().vectors

    def vector_of(self, qid: int) -> int | None:
        """Return the vector of the admin queue only, where I/O queues are polled."""
        return (None if qid else 0) if self.settings.polling else super().vector_of(qid)


class _OneQueuePriority(Priority):
    """All classes on one queue."""

    def take(self, pairs: Sequence[QueuePair]) -> Iterator[tuple[QueuePair, Operation]]:
        self._queues = 1
        return super().take(pairs)


class _OneQueueDeadline(EarliestDeadline):
    """All deadlines on one queue."""

    def take(self, pairs: Sequence[QueuePair]) -> Iterator[tuple[QueuePair, Operation]]:
        return super().take(pairs[:1])


class _OneQueueRing(IoRing):
    schedulers: ClassVar[Mapping[str, type[Scheduler]]] = {
        **SCHEDULERS, "priority": _OneQueuePriority, "deadline": _OneQueueDeadline,
    }  # fmt: skip


@variant("performance/one-queue", allowed=ORDER, scenarios=("performance/deadlines", "performance/classes"))
class OneQueue(Service):
    """Sends operations of all classes and deadlines to one queue, in the order of both."""

    ring = _OneQueueRing


@variant(
    "performance/reads-ahead",
    allowed='NVM 1.0, 3.2.4 "Read command": what is read, and how often, is the host\'s choice',
    scenarios=("performance/fio",),
)
class ReadsAhead(Service):
    """Reads more than its caller asks for, here the first blocks at the end of each load."""

    def perform(self, action: str, arguments: Mapping[str, Any], data: bytes | None = None) -> Reply:
        """Read once more in the time of the load."""
        reply = super().perform(action, arguments, data)
        if action == "load-fio":
            super().perform("read", {"nsid": arguments["nsid"], "lba": 0, "blocks": arguments["blocks"]})
        return reply
