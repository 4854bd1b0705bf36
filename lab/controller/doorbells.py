"""What a doorbell's value means for its queue, whether it came by the register or by a shadow doorbell."""

from __future__ import annotations

from lab.controller.async_events import AsyncEvents
from lab.controller.completer import Completer
from lab.controller.core import Core
from lab.controller.queues import CompletionQueue, SubmissionQueue
from lab.nvme.async_events import ErrorEvent


class Doorbells:
    """Accepts tails and heads, and answers those that cannot be. Base 2.0, 5.2, Fig. "Error Status" of events."""

    def __init__(self, core: Core, completer: Completer, events: AsyncEvents) -> None:
        """Report invalid values through ``events``."""
        self._core, self._completer, self._events = core, completer, events
        self.refuse_unchanged = False
        """Answer a value that the doorbell has already with Invalid Doorbell Write Value."""

    def accept(self, queue: SubmissionQueue | CompletionQueue, value: int, rule: str, **where: int) -> bool:
        """Take a queue's new tail or head; return whether there is work. One that cannot be is remarked as ``rule``."""
        entries = queue.memory.entries
        if isinstance(queue, SubmissionQueue):
            possible = value < entries and (value - queue.head) % entries >= (queue.tail - queue.head) % entries
        else:
            possible = value < entries and (value - queue.head) % entries <= queue.unconsumed
        if not possible:
            why = f"tail {queue.tail}, head {queue.head}, {entries} entries"
            self._core.remark(rule, **where, value=value, why=why)
            self._events.doorbell_error(ErrorEvent.INVALID_DOORBELL_VALUE)
            return False
        if isinstance(queue, SubmissionQueue):
            queue.tail = value
            self._core.queues.schedule(queue)
            return True
        if value == queue.head:
            self.unchanged(cqid=queue.qid, head=value)
        had_no_room = queue.full
        queue.head = value
        if had_no_room:
            self._completer.drain(queue)
        return had_no_room

    def unchanged(self, **where: int) -> None:
        """Remark on a doorbell that was written with the value that it had."""
        self._core.remark("doorbell-unchanged", **where)
        if self.refuse_unchanged:
            self._events.doorbell_error(ErrorEvent.INVALID_DOORBELL_VALUE)

    def undefined(self, offset: int, value: int) -> None:
        """Answer a write to a doorbell of a queue that does not exist."""
        self._core.remark("doorbell-undefined", offset=offset, value=value)
        self._events.doorbell_error(ErrorEvent.INVALID_DOORBELL_REGISTER)
