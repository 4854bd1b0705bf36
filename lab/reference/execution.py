"""Runs commands to their results: many at a time, retried within bounds, never waited for without end.

Base 2.0, 3.3.3.2 "Common Completion Queue Entry": a status with DNR set is expected to come again, so that a
retry is pointless; CRD names a delay of Identify Controller (CRDT1 to CRDT3, in 100 ms) to keep before a retry.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from typing import Protocol

from lab.nvme.commands import Abort, Command, CreateIoCq, CreateIoSq, DeleteIoCq, DeleteIoSq
from lab.nvme.completions import Completion
from lab.nvme.status import Status
from lab.reference.core import Core
from lab.reference.data import DataPath
from lab.reference.errors import CommandLost, ControllerGone
from lab.reference.queue_pair import QueuePair
from lab.reference.request import Request
from lab.reference.transport import Memory

NOT_AFTER_RESET = (CreateIoCq, CreateIoSq, DeleteIoCq, DeleteIoSq, Abort)
"""Commands that are useless on their own after a reset: the step that sent them is repeated."""
ANA_STATUSES = (Status.ANA_PERSISTENT_LOSS, Status.ANA_INACCESSIBLE, Status.ANA_TRANSITION)
"""Statuses of a namespace that the controller does not serve for the time being."""
CRD_UNIT = 0.1
"""Seconds of CRDT1 to CRDT3."""


class Rescue(Protocol):
    """What is done about a controller that does not answer; see `lab.reference.recovery.Recovery`."""

    def handle_timeout(self, pair: QueuePair, request: Request) -> None:
        """End a command that has been outstanding for too long."""

    def reset(self, reason: str) -> None:
        """Reset the controller."""


class Execution:
    """Runs commands on a controller's queues."""

    recovery: Rescue
    """Set by the controller, because recovery runs commands too."""

    def __init__(self, core: Core, data: DataPath) -> None:
        """Run commands of one controller."""
        self._c, self._data = core, data

    # -- one admin command ------------------------------------------------------------------------------------------

    def admin(self, command: Command) -> Completion:
        """Run an admin command that moves no data."""
        return self.run(self._c.admin, [command])[0]

    def admin_in(self, command: Command, length: int) -> bytes:
        """Run an admin command and return the ``length`` bytes that it transfers."""
        with self._data.buffer(length) as memory:
            self.with_data(self._c.admin, command, memory, length)
            return memory.read(0, length)

    def admin_out(self, command: Command, data: bytes) -> Completion:
        """Run an admin command that takes data."""
        with self._data.buffer(len(data)) as memory:
            memory.write(0, data)
            return self.with_data(self._c.admin, command, memory, len(data))

    def with_data(self, pair: QueuePair, command: Command, memory: Memory, length: int, *, retry: bool = True) -> Completion:
        """Run a command whose data is the first ``length`` bytes of a buffer."""
        lists: list[Memory] = []
        try:
            return self.run(pair, [self._data.describe(command, memory, 0, length, lists)], retry=retry)[0]
        finally:
            for page in lists:
                self._data.release(page)

    # -- any number of commands -------------------------------------------------------------------------------------

    def run(
        self, pair: QueuePair, commands: Sequence[Command], *, retry: bool = True, depth: int | None = None
    ) -> list[Completion]:
        """Run commands, as many at once as the ring holds, or ``depth``; they may end in any order.

        All have ended when this returns, or raises the error of the first of them that failed.
        """
        requests = [Request(command) for command in commands]
        waiting, in_flight = deque(requests), set[Request]()
        while waiting or in_flight:
            self.launch(pair, waiting, in_flight, depth or len(commands))
            for request in self.wait(pair, in_flight):
                in_flight.discard(request)
                if retry and not request.ok and self.should_retry(request):
                    self._c.transport.sleep(self.retry_delay(request))
                    waiting.append(request)
        return [request.result() for request in requests]

    def launch(self, pair: QueuePair, waiting: deque[Request], in_flight: set[Request], depth: int) -> None:
        """Submit the commands that there is room for, and ring one doorbell for all of them."""
        now = self._c.transport.now()
        if self._c.failed is None and pair.live:
            for _ in range(min(len(waiting), depth - len(in_flight), pair.room)):
                request = waiting.popleft()
                pair.submit(request, now)
                in_flight.add(request)
            pair.ring()
            return
        reason = self._c.failed or CommandLost(f"I/O queue {pair.qid} did not come back after a reset")
        while waiting:
            request = waiting.popleft()
            request.start(now)
            request.end(lost=reason)
            in_flight.add(request)

    def wait(self, pair: QueuePair, in_flight: Collection[Request]) -> list[Request]:
        """Wait until some of these have ended, or there is room for more. Recovery ends commands that hang."""
        transport, settings = self._c.transport, self._c.settings
        check_at = transport.now() + settings.check_seconds
        while not (ended := [request for request in pair.reap() if request in in_flight]):
            now = transport.now()
            if now < check_at and pair.outstanding:
                transport.wait(pair.vector, check_at - now)
                continue
            # An interrupt may be lost, a dead controller sends none, or the commands were ended elsewhere.
            if pair.outstanding:
                self.check_progress(pair, now)
            check_at = now + settings.check_seconds
            ended = [request for request in in_flight if request.done]
            if ended or not in_flight:
                break
        return ended

    def check_progress(self, pair: QueuePair, now: float) -> None:
        """Look for a dead controller and for a command that hangs, after a while without a completion."""
        try:
            status = self._c.registers.status()
        except ControllerGone as gone:
            self._c.give_up(gone)
            return
        if status.CFS or not status.RDY:
            self.recovery.reset(f"the controller stopped on its own: {status}")
        elif status.PP and now - pair.oldest_start() < self._c.settings.pause_seconds:
            return  # it has paused, and will go on. Base 2.0, 3.1.3.6
        elif late := pair.oldest(now - self._c.settings.command_seconds):
            self.recovery.handle_timeout(pair, late)

    # -- retries ----------------------------------------------------------------------------------------------------

    def should_retry(self, request: Request) -> bool:
        """Return whether a command that has ended may be retried."""
        settings = self._c.settings
        if request.ok or self._c.failed or request.attempts > settings.retries or request.timeouts > settings.timeouts:
            return False
        if request.completion is None:
            return not isinstance(request.command, NOT_AFTER_RESET)
        return not request.completion.DNR

    def retry_delay(self, request: Request) -> float:
        """Return the seconds that the controller asks for by CRD, or that a transition needs."""
        if delay := self.transition_delay(request):
            return delay
        identity = self._c.identity if self._c.honours_retry_delays else None
        if identity is None or request.completion is None or not request.completion.CRD:
            return 0.0
        return (identity.CRDT1, identity.CRDT2, identity.CRDT3)[request.completion.CRD - 1] * CRD_UNIT

    def transition_delay(self, request: Request) -> float:
        """Return a part of ANATT where the namespace is between two states of access. Base 2.0, 8.10."""
        identity = self._c.identity
        if identity is None or request.completion is None or request.completion.status not in ANA_STATUSES:
            return 0.0
        return identity.ANATT / max(1, self._c.settings.retries)
