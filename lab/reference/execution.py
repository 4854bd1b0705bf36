"""From a command to its result: many at a time, retried within bounds, never waited for without end.

Base 2.0, 3.3.3.2 "Common Completion Queue Entry": a status with DNR set must not be retried; CRD names a delay of
Identify Controller (CRDT1 to CRDT3, in 100 ms) to keep before a retry.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from lab.nvme.commands import Command
from lab.nvme.completions import Completion
from lab.reference.errors import CommandLost, ControllerGone
from lab.reference.queue_pair import QueuePair
from lab.reference.request import Request
from lab.reference.transport import Memory

if TYPE_CHECKING:
    from lab.reference.controller import Controller

CRD_UNIT = 0.1
"""Seconds of CRDT1 to CRDT3."""


class Execution:
    """Runs commands on a controller's queues."""

    def __init__(self, controller: Controller) -> None:
        self._c = controller

    # -- one admin command ------------------------------------------------------------------------------------------

    def admin(self, command: Command) -> Completion:
        """Runs a command that moves no data."""
        return self.run(self._c.admin, [command])[0]

    def admin_in(self, command: Command, length: int) -> bytes:
        """Runs a command; the ``length`` bytes that it returns."""
        with self._c.data.buffer(length) as memory:
            self.with_data(self._c.admin, command, memory, length)
            return memory.read(0, length)

    def admin_out(self, command: Command, data: bytes) -> Completion:
        """Runs a command that takes data."""
        with self._c.data.buffer(len(data)) as memory:
            memory.write(0, data)
            return self.with_data(self._c.admin, command, memory, len(data))

    def with_data(self, pair: QueuePair, command: Command, memory: Memory, length: int, *, retry: bool = True) -> Completion:
        """Runs a command whose data is the first ``length`` bytes of a buffer."""
        lists: list[Memory] = []
        try:
            return self.run(pair, [self._c.data.describe(command, memory, 0, length, lists)], retry=retry)[0]
        finally:
            for page in lists:
                self._c.data.release(page)

    # -- any number of commands -------------------------------------------------------------------------------------

    def run(
        self, pair: QueuePair, commands: Sequence[Command], *, retry: bool = True, depth: int | None = None
    ) -> list[Completion]:
        """Runs commands, as many at once as the ring holds, or ``depth``; they may end in any order.

        All have ended when this returns, or raises what the first of them that failed has to say.
        """
        requests = [Request(command) for command in commands]
        waiting, flying = deque(requests), set[Request]()
        while waiting or flying:
            self.launch(pair, waiting, flying, depth or len(commands))
            for request in self.wait(pair, flying):
                flying.discard(request)
                if retry and self.should_retry(request):
                    self._c.transport.sleep(self.retry_delay(request))
                    waiting.append(request)
        return [request.result() for request in requests]

    def launch(self, pair: QueuePair, waiting: deque[Request], flying: set[Request], depth: int) -> None:
        """Submits what there is room for, and rings one doorbell for all of it."""
        now = self._c.transport.now()
        if self._c.failed is None and pair.live:
            for _ in range(min(len(waiting), depth - len(flying), pair.room)):
                request = waiting.popleft()
                pair.submit(request, now)
                flying.add(request)
            pair.ring()
            return
        why = self._c.failed or CommandLost(f"I/O queue {pair.qid} did not come back after a reset")
        while waiting:
            request = waiting.popleft()
            request.start(now)
            request.end(lost=why)
            flying.add(request)

    def wait(self, pair: QueuePair, flying: Collection[Request]) -> list[Request]:
        """Waits until some of these have ended, or there is room for more. Recovery sees to it that it comes to that."""
        transport, settings = self._c.transport, self._c.settings
        look = transport.now() + settings.look_seconds
        while not (ended := [request for request in pair.reap() if request in flying]):
            now = transport.now()
            if now < look and pair.outstanding:
                transport.wait(pair.vector, look - now)
                continue
            # An interrupt may have been lost, a controller that has died does not send any, or all was ended elsewhere.
            if pair.outstanding:
                self.look(pair, now)
            look = now + settings.look_seconds
            ended = [request for request in flying if request.done]
            if ended or not flying:
                break
        return ended

    def look(self, pair: QueuePair, now: float) -> None:
        """Nothing has come for a while: is the controller well, and has a command been out for too long?"""
        try:
            status = self._c.registers.status()
        except ControllerGone as gone:
            self._c.give_up(gone)
            return
        if status.CFS or not status.RDY:
            self._c.recovery.reset(f"the controller stopped by itself: {status}")
        elif late := pair.oldest(now - self._c.settings.command_seconds):
            self._c.recovery.hung(pair, late)

    # -- retries ----------------------------------------------------------------------------------------------------

    def should_retry(self, request: Request) -> bool:
        """Whether a command that has ended is worth another try."""
        settings = self._c.settings
        if request.ok or self._c.failed or request.attempts > settings.retries or request.timeouts > settings.timeouts:
            return False
        return request.completion is None or not request.completion.DNR

    def retry_delay(self, request: Request) -> float:
        """Seconds that the controller asks for by CRD."""
        identity = self._c.identity
        if identity is None or request.completion is None or not request.completion.CRD:
            return 0.0
        return (identity.CRDT1, identity.CRDT2, identity.CRDT3)[request.completion.CRD - 1] * CRD_UNIT
