"""Mistakes of drivers that are replaced while their controller goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lab.defects.defect import defect
from lab.reference.controller import Controller
from lab.reference.pending import Pending, PendingOperation
from lab.reference.queue_pair import CIDS, Numbers, QueuePair
from lab.reference.request import Request
from lab.reference.service import Reply, Service
from lab.reference.servicing import EVENT, Servicing


@defect("servicing/restored:cannot", scenarios=("servicing/two",))
class Cannot(Service):
    """Does not find the state that its predecessor has saved."""

    def perform(self, action: str, arguments: Mapping[str, Any], data: bytes | None = None) -> Reply:
        """Refuse to restore."""
        if action == "restore":
            return Reply({"words": "no saved state"})
        return super().perform(action, arguments, data)


@defect("servicing/no-reset:to-be-safe", scenarios=("servicing/two",))
class ToBeSafe(Servicing):
    """Resets the controller after it has taken it over, to be safe."""

    def take_over(self) -> None:
        """Take over, with the mistake."""
        super().take_over()
        self._execution.recovery.reset("to be safe")


@defect("servicing/known:asks-again", scenarios=("servicing/two",))
class AsksAgain(Servicing):
    """Finds all namespaces again although nothing has changed."""

    def take_over(self) -> None:
        """Take over, with the mistake."""
        super().take_over()
        if isinstance(self._controller, Controller):
            self._controller.scan()


@defect("servicing/ended:wrong-buffer", scenarios=("servicing/two",))
class WrongBuffer(Pending):
    """Gives the operations of its predecessor the buffers of one another."""

    def adopt(self, operations: Sequence[PendingOperation], next_ticket: int) -> None:
        """Take the operations over, with the mistake."""
        buffers = [one.memory for one in operations]
        for one, buffer in zip(operations, buffers[1:] + buffers[:1], strict=True):
            one.memory = buffer
        super().adopt(operations, next_ticket)


@defect("servicing/ended:forgets", scenarios=("servicing/full",))
class Forgets(Pending):
    """Forgets the last operation of all that were started."""

    def collect(self) -> list[tuple[int, str, bytes]]:
        """Return all but the last."""
        return super().collect()[:-1]


@defect("servicing/ended:calls-it-success", scenarios=("servicing/status",))
class CallsItSuccess(Pending):
    """Takes the completion of a predecessor's command for success without looking at its status."""

    def ended(self, one: PendingOperation, request: Request) -> None:
        """Note success."""
        one.status = "success"


@defect("servicing/written:clears", scenarios=("servicing/two",))
class Clears(Pending):
    """Clears the memory that it finds, as a new driver clears its own."""

    def adopt(self, operations: Sequence[PendingOperation], next_ticket: int) -> None:
        """Take the operations over, with the mistake."""
        for one in operations:
            one.memory.write(0, bytes(one.length))
        super().adopt(operations, next_ticket)


@defect("servicing/once:sends-again", scenarios=("servicing/two",))
class SendsAgain(Servicing):
    """Sends the commands of its predecessor again, in case they were lost."""

    def take_over(self) -> None:
        """Take over, with the mistake."""
        for one in list(self._controller.pending.operations.values()):
            if not one.status:
                self._controller.pending.submit(one, self._c.pair())
        self._controller.pending.ring()
        super().take_over()


@defect("servicing/cid:starts-over", scenarios=("servicing/more",))
class StartsOver(QueuePair):
    """Counts command identifiers from 0 again, whatever its predecessor has in flight."""

    def resume(self, next_cid: int) -> None:
        """Begin with 0."""
        super().resume(0)

    def new_cid(self) -> int:
        """Return the next number, whether it is in use or not."""
        if not isinstance(self._cids, Numbers):
            return super().new_cid()
        return next(self._cids) % CIDS


@defect("servicing/event-limit:all-again", scenarios=("servicing/two",))
class AllAgain(Servicing):
    """Sends all its event requests again, though those of its predecessor are outstanding."""

    def take_over(self) -> None:
        """Take over, with the mistake."""
        self._controller.events.adopt(self._controller.events.received, 0)
        super().take_over()


@defect("servicing/event-kept:drops", scenarios=("servicing/namespaces",))
class Drops(Servicing):
    """Forgets what the predecessor's event requests were for."""

    def on_end(self, one: Mapping[str, Any]) -> Callable[[Request], None]:
        """Return nothing to do for event requests."""
        return (lambda request: None) if one["purpose"] == EVENT else super().on_end(one)


@defect("servicing/interrupts:not-armed", scenarios=("servicing/twice",))
class NotArmed(Servicing):
    """Installs no interrupt handlers when it takes over, and finds completions by its timer."""

    def restore_interrupts(self) -> None:
        """Do nothing."""


@defect("servicing/orderly:rips", scenarios=("servicing/off",))
class Rips(Controller):
    """Ends without a shutdown when it is replaced."""

    def shutdown(self) -> None:
        """Do nothing."""
        self.stage = ""
