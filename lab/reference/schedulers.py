"""Schedulers: which queue pair an operation goes to, and which of the waiting operations goes next.

===============  ======================================================================================
``none``         one queue for everything, in the order of submission
``round-robin``  the queues in turn
``cpuaffinity``  the queue of the CPU that submits the operation
``priority``     a queue for each class; a lower class waits while a higher one has operations waiting
``deadline``     the earliest deadline first, on the queue with the most room; expired ones are ended
===============  ======================================================================================
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from math import inf

from lab.reference.operation import CLASSES, Operation
from lab.reference.queue_pair import QueuePair


class Scheduler:
    """Everything to the first queue, in the order of submission: the scheduler ``none``."""

    def __init__(self, queues: int) -> None:
        """Schedule onto so many queues."""
        self._waiting: list[deque[Operation]] = [deque() for _ in range(queues)]

    def __len__(self) -> int:
        """Return the number of waiting operations."""
        return sum(map(len, self._waiting))

    keeps_deadlines = False
    """Whether operations are ended at their deadline."""

    @property
    def earliest(self) -> float:
        """The earliest deadline of a waiting operation."""
        return inf

    def queue_of(self, operation: Operation) -> int:
        """Return the index of the queue pair that an operation goes to."""
        del operation
        return 0

    def add(self, operation: Operation) -> None:
        """Let an operation wait for its queue."""
        self._waiting[self.queue_of(operation)].append(operation)

    def take(self, pairs: Sequence[QueuePair]) -> Iterator[tuple[QueuePair, Operation]]:
        """Yield the waiting operations that have room, with their queue pairs; the caller submits each at once."""
        for pair, waiting in zip(pairs, self._waiting, strict=True):
            for _ in range(min(pair.room, len(waiting))):
                yield pair, waiting.popleft()

    def drain(self) -> list[Operation]:
        """Remove and return all waiting operations."""
        waiting = [operation for queue in self._waiting for operation in queue]
        for queue in self._waiting:
            queue.clear()
        return waiting

    def expired(self, now: float) -> list[Operation]:
        """Remove and return the waiting operations whose deadline has passed; only ``deadline`` knows of deadlines."""
        del now
        return []


class RoundRobin(Scheduler):
    """The queues in turn."""

    def __init__(self, queues: int) -> None:
        """Start with the first queue."""
        super().__init__(queues)
        self._turns = count()

    def queue_of(self, operation: Operation) -> int:
        """Return the next queue."""
        del operation
        return next(self._turns) % len(self._waiting)


class CpuAffinity(Scheduler):
    """The queue of the CPU that submits the operation; CPUs share queues where there are not enough."""

    def queue_of(self, operation: Operation) -> int:
        """Return the queue of the operation's CPU."""
        return operation.cpu % len(self._waiting)


class Priority(Scheduler):
    """A queue for each class, and the higher class first; classes share the last queue where there are not enough."""

    def __init__(self, queues: int) -> None:
        """Schedule onto so many queues."""
        super().__init__(CLASSES)
        self._queues = queues

    def queue_of(self, operation: Operation) -> int:
        """Return the operation's class, 0 the most urgent."""
        return min(operation.priority, CLASSES - 1)

    def take(self, pairs: Sequence[QueuePair]) -> Iterator[tuple[QueuePair, Operation]]:
        """Yield operations of the highest waiting class; the lower classes follow when none of it is left."""
        for number, waiting in enumerate(self._waiting):
            pair = pairs[min(number, self._queues - 1)]
            for _ in range(min(pair.room, len(waiting))):
                yield pair, waiting.popleft()
            if waiting:
                return


class EarliestDeadline(Scheduler):
    """The earliest deadline first, on the queue with the most room. Operations without a deadline come last."""

    keeps_deadlines = True

    def __init__(self, queues: int) -> None:
        """Schedule onto so many queues."""
        super().__init__(queues)
        self._heap: list[tuple[float, int, Operation]] = []
        self._order = count()

    def __len__(self) -> int:
        """Return the number of waiting operations."""
        return len(self._heap)

    @property
    def earliest(self) -> float:
        """The earliest deadline of a waiting operation."""
        return self._heap[0][0] if self._heap else inf

    def add(self, operation: Operation) -> None:
        """Let an operation wait until it has the earliest deadline."""
        heapq.heappush(self._heap, (operation.deadline, next(self._order), operation))

    def take(self, pairs: Sequence[QueuePair]) -> Iterator[tuple[QueuePair, Operation]]:
        """Yield operations by rising deadline while any queue has room."""
        while self._heap and (pair := max(pairs, key=lambda one: one.room)).room:
            yield pair, heapq.heappop(self._heap)[2]

    def drain(self) -> list[Operation]:
        """Remove and return all waiting operations."""
        waiting = [operation for _, _, operation in sorted(self._heap)]
        self._heap.clear()
        return waiting

    def expired(self, now: float) -> list[Operation]:
        """Remove and return the waiting operations whose deadline has passed."""
        late = list[Operation]()
        while self._heap and self._heap[0][2].is_late(now):
            late.append(heapq.heappop(self._heap)[2])
        return late


SCHEDULERS: Mapping[str, type[Scheduler]] = {
    "none": Scheduler, "round-robin": RoundRobin, "cpuaffinity": CpuAffinity, "priority": Priority,
    "deadline": EarliestDeadline,
}  # fmt: skip
