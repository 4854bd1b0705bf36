"""Defects of any stage: a driver that does not load, does not answer, or takes its system down."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from lab.defects.defect import defect
from lab.reference.controller import Controller
from lab.reference.data import DataPath
from lab.reference.errors import Refused
from lab.reference.execution import Execution
from lab.reference.queue_pair import QueuePair
from lab.reference.request import Request


@defect("every/load:one-vendor")
class OneVendor(Controller):
    """Binds to one vendor's controllers only."""

    def detect(self) -> None:
        """Refuse all vendor ids but Intel's."""
        if self.transport.config_read(0, 2) != 0x8086:
            raise Refused("not our hardware")
        super().detect()


@defect("every/unusual-device:deep-rings-only", scenarios=("io-queues/smallest",))
class DeepRingsOnly(Controller):
    """Refuses controllers whose queues cannot hold 16 entries."""

    def enable(self) -> None:
        """Refuse small queues, else enable the controller."""
        if self.cap.MQES < 15:
            raise Refused("queues of less than 16 entries are not supported")
        super().enable()


class _NoIoDoorbell(QueuePair):
    """Rings for admin commands only."""

    def ring(self) -> None:
        if self.qid == 0:
            super().ring()


class _NoTimeLimit(Execution):
    """Waits for a command as long as it takes."""

    def check_progress(self, pair: QueuePair, now: float) -> None:
        pass


@defect("every/answer:late-doorbell", scenarios=("io-queues/basic",))
class LateDoorbell(Controller):
    """Rings for an I/O command only when the next one comes, and waits for it without a time limit."""

    parts = replace(Controller.parts, queue_pair=_NoIoDoorbell, execution=_NoTimeLimit)


@defect("every/answer:waits-for-ever", scenarios=("io-queues/basic",))
class WaitsForEver(Execution):
    """Spins until the command is completed, and looks for that on the wrong queue."""

    def wait(self, pair: QueuePair, flying: Collection[Request]) -> list[Request]:
        """Reap the admin queue, whatever queue the commands are on, until they have ended."""
        while not (ended := [request for request in self._c.admin.reap() if request in flying]):
            pass
        return ended


@defect("every/panic:odd-buffer", scenarios=("read/odd-buffer",))
class OddBuffer(DataPath):
    """Takes it for granted that buffers are aligned, and runs into an assertion where one is not."""

    def can_describe(self, offset: int) -> bool:
        """Return True for every offset, aligned or not."""
        return True
