"""Asynchronous I/O by a submission and a completion ring, in the manner of io_uring, over all queue pairs of a controller.

::

    ring = IoRing(controller)
    memory = ring.allocate(32 * 4096)
    for n in range(32):
        ring.prepare(Operation(Read, namespace, lba=8 * n, blocks=8, address=memory.address + 4096 * n | PHYSICAL, user_data=n))
    ring.submit()                        # one doorbell for each queue
    for result in ring.wait(32):         # or reap() for those that have ended already
        ...

Nothing blocks but `wait`. A scheduler chooses the queue pair and the order (`lab.reference.schedulers`); what does not fit into
the queues waits in it. Failed commands are retried, hung ones aborted, as in `lab.reference.execution`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Mapping
from math import inf
from typing import ClassVar

from lab.nvme.commands import Command, Flush, LbaCommand, Read, Write
from lab.reference.address_space import AddressSpace, round_to_pages
from lab.reference.controller import Controller
from lab.reference.errors import CommandTimedOut, DriverError, Refused
from lab.reference.operation import PHYSICAL, Operation, Result
from lab.reference.queue_pair import QueuePair
from lab.reference.request import Request
from lab.reference.schedulers import SCHEDULERS, Scheduler
from lab.reference.statistics import Direction, Statistics
from lab.reference.transport import Memory

ENTRIES = 4096
"""Operations that a ring holds by default."""
_REGISTERED = 1 << 12, 1 << 47
"""The addresses of registered buffers."""


class IoRing:
    """The rings of one caller. Use it from one thread, and close it: ``with IoRing(controller) as ring``."""

    schedulers: ClassVar[Mapping[str, type[Scheduler]]] = SCHEDULERS
    """By the names that settings have for them."""

    def __init__(self, controller: Controller, entries: int = ENTRIES, scheduler: str | None = None) -> None:
        """Open rings of ``entries`` operations; ``scheduler`` overrides the controller's setting."""
        controller.require("multiqueue")
        self._c, self.entries = controller, entries
        self._scheduler = self.schedulers[scheduler or controller.settings.scheduler](len(controller.io))
        self._prepared: deque[Operation] = deque()
        self._in_flight: dict[Request, tuple[QueuePair, Operation]] = {}
        self._ended: deque[Result] = deque()
        self._allocated: dict[int, Memory] = {}  # by first bus address
        self._registered: dict[int, tuple[memoryview, int]] = {}  # by address: buffer, bytes reserved
        self._addresses = AddressSpace(*_REGISTERED)
        self._check_at = controller.transport.now() + controller.settings.check_seconds
        self.statistics = Statistics(controller.transport.now())

    def __enter__(self) -> IoRing:
        """Return the ring itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the ring."""
        self.close()

    def close(self) -> None:
        """Wait for all operations, and free the memory of the ring."""
        self.wait(self.outstanding)
        for memory in self._allocated.values():
            self._c.data.release(memory)
        self._allocated.clear()

    # -- memory -----------------------------------------------------------------------------------------------------

    def allocate(self, length: int) -> Memory:
        """Allocate contiguous DMA memory until `close`; ``memory.address | PHYSICAL`` names it without a copy."""
        memory = self._c.transport.allocate(length, self._c.page_size, contiguous=True)
        self._allocated[memory.address] = memory
        return memory

    def register(self, buffer: bytearray | memoryview) -> int:
        """Return the address by which operations name an ordinary buffer; the driver copies from and to it."""
        reserved = round_to_pages(max(len(buffer), 1), self._c.page_size)
        address = self._addresses.allocate(reserved, self._c.page_size)
        self._registered[address] = memoryview(buffer), reserved
        return address

    def unregister(self, address: int) -> None:
        """Forget a registered buffer."""
        _, reserved = self._registered.pop(address)
        self._addresses.free(address, reserved)

    # -- submission -------------------------------------------------------------------------------------------------

    @property
    def outstanding(self) -> int:
        """The number of operations whose results were not reaped."""
        return len(self._prepared) + len(self._scheduler) + len(self._in_flight) + len(self._ended)

    @property
    def depth(self) -> int:
        """The number of commands that the controller has."""
        return len(self._in_flight)

    def prepare(self, operation: Operation) -> bool:
        """Put an operation into the submission ring; return False if the ring is full.

        Refused for blocks outside the namespace, an address outside the ring's memory, or more than one command may move.
        """
        if self.outstanding >= self.entries:
            return False
        if operation.kind is not Flush:
            operation.namespace.check_range(operation.lba, operation.blocks)
            if operation.blocks > operation.namespace.max_blocks:
                raise Refused(f"one command may move {operation.namespace.max_blocks} blocks, not {operation.blocks}")
            self._find(operation.address, operation.length)
        self._prepared.append(operation)
        return True

    def submit(self) -> int:
        """Give all prepared operations to the scheduler, and as many as fit to the queues; return how many were prepared."""
        now, count = self._c.transport.now(), len(self._prepared)
        for operation in self._prepared:
            operation.prepared_at = now
            self._scheduler.add(operation)
        self._prepared.clear()
        self._dispatch()
        return count

    def _dispatch(self) -> None:
        """Submit what has room, in the scheduler's order, with one doorbell for each queue."""
        now, rung = self._c.transport.now(), dict[QueuePair, None]()
        if self._scheduler.keeps_deadlines:
            self._expire(now)
        if not self._c.io:
            self._lose_all()
            return
        for pair, operation in self._scheduler.take(self._c.io):
            request = Request(self._command(operation))
            pair.submit(request, now)
            self._in_flight[request] = pair, operation
            self.statistics.submitted(now, len(self._in_flight))
            rung[pair] = None  # in the order of submission
        for pair in rung:
            pair.ring()

    # -- completion -------------------------------------------------------------------------------------------------

    def reap(self, most: int | None = None) -> list[Result]:
        """Return the results of operations that have ended, at most so many, without waiting."""
        self._poll()
        count = len(self._ended) if most is None else min(most, len(self._ended))
        return [self._ended.popleft() for _ in range(count)]

    def wait(self, count: int = 1, seconds: float | None = None) -> list[Result]:
        """Wait until ``count`` operations have ended, or all, or ``seconds`` have passed; return what `reap` returns."""
        if self._prepared:
            self.submit()
        until = None if seconds is None else self._c.transport.now() + seconds
        self._poll()
        while len(self._ended) < count and (self._in_flight or len(self._scheduler)):
            now = self._c.transport.now()
            if until is not None and now >= until:
                break
            self._sleep(min(self._check_at, until or self._check_at) - now)
            self._poll()
        return self.reap()

    def _sleep(self, seconds: float) -> None:
        """Wait for an interrupt of the queue with the oldest command, or until the next poll if it is polled."""
        pair = next(iter(self._in_flight.values()))[0] if self._in_flight else None
        if self._scheduler.keeps_deadlines:
            seconds = min(seconds, self._next_deadline() - self._c.transport.now())
        if pair is None or pair.vector is None:
            seconds = min(seconds, self._c.settings.poll_interval)
        self._c.transport.wait(pair.vector if pair else None, max(seconds, 0.0))

    def _poll(self) -> None:
        """Take the completions of all queues, and use the room for waiting operations."""
        for pair in self._c.io:
            if pair.outstanding:
                for request in pair.reap():
                    self._end(request)
        if len(self._in_flight) > sum(len(pair.outstanding) for pair in self._c.io):
            self._sweep()
        now = self._c.transport.now()
        if now >= self._check_at:
            self._check(now)
        if self._scheduler.keeps_deadlines:
            self._expire(now)
        if len(self._scheduler):
            self._dispatch()

    def _check(self, now: float) -> None:
        """Look for a dead controller and for hung commands."""
        for pair in {pair for pair, _ in self._in_flight.values()}:
            if pair.outstanding:
                self._c.execution.check_progress(pair, now)
        self._sweep()
        self._check_at = self._c.transport.now() + self._c.settings.check_seconds

    def _sweep(self) -> None:
        """End operations whose commands were ended elsewhere: by a reset, by Abort, or by another caller of the queue."""
        for request in [request for request in self._in_flight if request.done]:
            self._end(request)

    def _end(self, request: Request) -> None:
        """Turn the end of a command into a result, or retry it."""
        if request not in self._in_flight:  # of another caller
            return
        pair, operation = self._in_flight.pop(request)
        if not request.ok and not operation.is_late(self._c.transport.now()) and self._c.execution.should_retry(request):
            self._retry(pair, request, operation)
            return
        error: DriverError | None = None
        try:
            request.result()
        except DriverError as failure:
            error = failure
        self._finish(operation, error)

    def _retry(self, pair: QueuePair, request: Request, operation: Operation) -> None:
        self._c.transport.sleep(self._c.execution.retry_delay(request))
        if not pair.live or not pair.room:
            self._release(operation)
            self._scheduler.add(operation)
            return
        pair.submit(request, self._c.transport.now())
        pair.ring()
        self._in_flight[request] = pair, operation

    def _finish(self, operation: Operation, error: DriverError | None) -> None:
        now = self._c.transport.now()
        direction, length = self._direction(operation), operation.length
        if error is None:
            if operation.bounce and operation.kind is Read and operation.memory is not None:
                self._target(operation)[:] = operation.memory.read(0, length)
            self.statistics.ended(direction, now, now - operation.prepared_at, length, len(self._in_flight))
        else:
            self.statistics.failed(direction, now, timeout=isinstance(error, CommandTimedOut))
        self._release(operation)
        self._ended.append(Result(operation, error, now - operation.prepared_at))

    def _direction(self, operation: Operation) -> Direction:
        if operation.kind is Flush:
            return self.statistics.others
        return self.statistics.reads if operation.kind is Read else self.statistics.writes

    def _lose_all(self) -> None:
        """End what waits for a controller that is lost."""
        lost = self._c.failed or DriverError("there are no I/O queues")
        for waiting in self._scheduler.drain():
            self._finish(waiting, lost)

    # -- deadlines --------------------------------------------------------------------------------------------------

    def _expire(self, now: float) -> None:
        """End operations whose deadline has passed: waiting ones at once, those in flight by Abort."""
        for operation in self._scheduler.expired(now):
            self._finish(operation, CommandTimedOut("the deadline passed before the command could be submitted"))
        for request, (pair, operation) in list(self._in_flight.items()):
            if operation.is_late(now) and not request.done:
                request.timeouts += 1
                self._c.recovery.abort(pair, request)
                self._sweep()

    def _next_deadline(self) -> float:
        in_flight = (operation.deadline for _, operation in self._in_flight.values())
        return min(self._scheduler.earliest, min(in_flight, default=inf))

    # -- from operations to commands --------------------------------------------------------------------------------

    def _command(self, operation: Operation) -> Command:
        """Return the command of an operation, with its data in place and PRPs that describe it."""
        namespace = operation.namespace
        if not issubclass(operation.kind, LbaCommand):
            return Flush.of(NSID=namespace.nsid)
        memory, offset = self._memory_of(operation)
        operation.memory, operation.lists = memory, []
        command = namespace.command(operation.kind, operation.lba, operation.blocks, {})
        return self._c.data.describe(command, memory, offset, operation.length, operation.lists)

    def _memory_of(self, operation: Operation) -> tuple[Memory, int]:
        """Return the memory that the device moves data to or from, and where in it: the caller's own, or a copy."""
        memory, offset = self._find(operation.address, operation.length)
        if isinstance(memory, Memory) and self._c.settings.zero_copy:
            operation.bounce = False
            return memory, offset
        operation.bounce = True
        bounce = self._c.transport.allocate(operation.length, self._c.page_size)
        if operation.kind is Write:
            bounce.write(0, self._target(operation))
        return bounce, 0

    def _find(self, address: int, length: int) -> tuple[Memory | memoryview, int]:
        """Return the memory or buffer that an address names, and the offset in it; Refused if there is none."""
        place = address & ~PHYSICAL
        known = sorted(self._allocated if address & PHYSICAL else self._registered)
        at = bisect_right(known, place) - 1
        if at >= 0:
            first = known[at]
            found = self._allocated[first] if address & PHYSICAL else self._registered[first][0]
            if place + length <= first + len(found):
                return found, place - first
        kind = "allocated DMA memory" if address & PHYSICAL else "a registered buffer"
        raise Refused(f"{length} bytes at {place:#x} are not in {kind} of this ring")

    def _target(self, operation: Operation) -> memoryview:
        """Return the caller's bytes of an operation."""
        found, offset = self._find(operation.address, operation.length)
        view = found.view if isinstance(found, Memory) else found
        return view[offset : offset + operation.length]

    def _release(self, operation: Operation) -> None:
        """Free what the driver allocated for an operation."""
        for page in operation.lists or ():
            self._c.data.release(page)
        if operation.bounce and operation.memory is not None:
            self._c.data.release(operation.memory)
        operation.memory, operation.lists, operation.bounce = None, None, False
