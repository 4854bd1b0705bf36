"""Defects of how a device is kept busy."""

from __future__ import annotations

from collections import deque

from lab.defects.defect import defect
from lab.defects.multiqueue import OneLock
from lab.reference.execution import Execution
from lab.reference.load import Load
from lab.reference.queue_pair import QueuePair
from lab.reference.request import Request


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


@defect("performance/doorbells:twice")
class RungTwice(QueuePair):
    """Rings the doorbell for each command, and again for the whole batch."""

    def submit(self, request: Request, now: float) -> None:
        """Submit, and ring at once; the batch's doorbell follows."""
        super().submit(request, now)
        if self.qid:
            self._registers.ring(self.qid, completion=False, value=self.submission.tail)
