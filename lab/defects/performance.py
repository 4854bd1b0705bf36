"""Defects of how a device is kept busy."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from lab.defects.defect import defect
from lab.defects.multiqueue import OneLock
from lab.reference.controller import Controller
from lab.reference.execution import Execution
from lab.reference.io_ring import IoRing
from lab.reference.load import Load
from lab.reference.queue_pair import QueuePair
from lab.reference.request import Request
from lab.reference.schedulers import SCHEDULERS, Scheduler
from lab.reference.service import Reply, Service
from lab.reference.settings import Settings
from lab.reference.transport import Transport

TAGS = 8
"""Of a driver with one pool of them."""
BUSY = 32
"""I/O commands after which a driver is busy."""


@defect("performance/fairness:first-come")
class FirstCome(OneLock):
    """Serves the CPU that came first until it has nothing more to do."""


@defect("performance/affinity:any-queue")
class AnyQueue(Load):
    """Sends each lane of a CPU to the next queue, whichever CPU it runs on."""

    turn = 0

    def pair_of(self, job: int) -> QueuePair:
        """Return a later pair at each call."""
        self.turn += 1
        return super().pair_of(job + self.turn)


@defect("performance/depth:four")
class FourAtMost(Execution):
    """Keeps four commands in flight at most."""

    def launch(self, pair: QueuePair, waiting: deque[Request], in_flight: set[Request], depth: int) -> None:
        """Limit the depth of I/O queues to four."""
        super().launch(pair, waiting, in_flight, min(depth, 4) if pair.qid else depth)


@defect("performance/scaling:one-at-a-time")
class OneCpuAtATime(OneLock):
    """Lets only one CPU use the device at a time."""


@defect("performance/throughput:shared-tags", scenarios=("performance/curve",))
class SharedTags(Execution):
    """Has eight tags for all queues together, so that one CPU uses up what four could."""

    def launch(self, pair: QueuePair, waiting: deque[Request], in_flight: set[Request], depth: int) -> None:
        """Submit to I/O queues only while fewer than eight commands are outstanding on all of them."""
        if not pair.qid:
            super().launch(pair, waiting, in_flight, depth)
            return
        free = TAGS - sum(len(one.outstanding) for one in self._c.io)
        super().launch(pair, waiting, in_flight, min(depth, len(in_flight) + max(free, 0)))


@defect("performance/doorbells:twice")
class RungTwice(QueuePair):
    """Rings the doorbell for each command, and again for the whole batch."""

    def submit(self, request: Request, now: float) -> None:
        """Submit, and ring at once; the batch's doorbell follows."""
        super().submit(request, now)
        if self.qid:
            self._registers.ring(self.qid, completion=False, value=self.submission.tail)


@defect("performance/tail:newest-first", scenarios=("performance/deep",))
class NewestFirst(Execution):
    """Keeps four commands in flight, and once it is busy sends the newest of those that wait."""

    sent = 0

    def launch(self, pair: QueuePair, waiting: deque[Request], in_flight: set[Request], depth: int) -> None:
        """Submit the newest first."""
        if not pair.qid:
            super().launch(pair, waiting, in_flight, depth)
            return
        before, newest_first = len(waiting), self.sent >= BUSY
        if newest_first:
            waiting.reverse()
        super().launch(pair, waiting, in_flight, min(depth, 4))
        self.sent += before - len(waiting)
        if newest_first:
            waiting.reverse()


@defect("performance/polling:interrupted")
class PolledAndInterrupted(Controller):
    """Leaves interrupts on for the queues that it polls."""

    @property
    def vectors(self) -> int:
        """Return as many as for queues that interrupt."""
        return min(self.transport.vectors, 1 + self.settings.io_queues)

    def vector_of(self, qid: int) -> int | None:
        """Return a vector for each queue, polled or not."""
        return min(qid, self.vectors - 1)


class _FirstCome(IoRing):
    """Rings whose schedulers take operations in the order in which they came."""

    schedulers: ClassVar[Mapping[str, type[Scheduler]]] = dict.fromkeys(SCHEDULERS, Scheduler)


@defect("performance/priority:first-come")
class NoClasses(Service):
    """Takes operations of all classes in the order in which they came."""

    ring = _FirstCome


@defect("performance/deadline:first-come")
class NoDeadlines(Service):
    """Takes operations in the order in which they came, and reports late ones as good."""

    ring = _FirstCome


@defect("performance/zero-copy:bounce")
class Bounces(Controller):
    """Copies through memory of its own, although the caller's is fit for the device."""

    def __init__(self, transport: Transport, settings: Settings | None = None) -> None:
        """Overrule the setting."""
        super().__init__(transport, replace(settings or Settings(), zero_copy=False))


@defect("performance/counted:once-more", scenarios=("performance/fio",))
class CountsOnceMore(Service):
    """Counts the last read of a load twice."""

    def perform(self, action: str, arguments: Mapping[str, Any], data: bytes | None = None) -> Reply:
        """Add one to what is reported of a load."""
        reply = super().perform(action, arguments, data)
        if action == "load-fio" and "reads" in reply.fields:
            return replace(reply, fields={**reply.fields, "reads": reply.fields["reads"] + 1})
        return reply
