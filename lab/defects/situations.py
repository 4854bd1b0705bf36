"""Defects that show only in situations beyond the plain device: late, shared, owned, odd, or failing for a moment."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lab.defects.defect import defect
from lab.nvme.commands import BROADCAST_NSID, Command
from lab.nvme.completions import Completion
from lab.nvme.logs import Smart
from lab.nvme.registers import CC
from lab.reference import pci
from lab.reference.async_events import Events
from lab.reference.controller import SHST_COMPLETE, Controller
from lab.reference.errors import CommandFailed, CommandTimedOut, Refused
from lab.reference.execution import Execution
from lab.reference.health import Health
from lab.reference.namespace import Namespace
from lab.reference.queue_pair import QueuePair
from lab.reference.recovery import Recovery
from lab.reference.request import Request
from lab.reference.service import Reply, Service
from lab.reference.settings import Settings
from lab.reference.transport import Transport

PCI_STATUS, INTERRUPT_STATUS = 6, 1 << 3
"""Offset of PCI's Status register, and a bit of it. PCI Local Bus 3.0, 6.2.3."""


@defect("every/no-recovery:impatient", scenarios=("identify/slow",))
class Impatient(Controller):
    """Takes a command for hung after 300 ms."""

    def __init__(self, transport: Transport, settings: Settings | None = None) -> None:
        """Set a time-out of 300 ms for commands."""
        super().__init__(transport, replace(settings or Settings(), command_seconds=0.3, check_seconds=0.1))


@defect("every/prompt:misses-the-wake-up", scenarios=("read/basic",))
class MissesWakeUp(Execution):
    """Goes to sleep after it has rung the doorbell, and looks for the completion when its timer fires."""

    def wait(self, pair: QueuePair, in_flight: Collection[Request]) -> list[Request]:
        """Sleep 10 s before each look at an I/O queue."""
        if pair.qid:
            self._c.transport.sleep(10.0)
        return super().wait(pair, in_flight)


@defect("every/claimed:refuses", scenarios=("features/claims",))
class Refuses(Service):
    """Has no way to read a feature, though it is claimed."""

    def perform(self, action: str, arguments: Mapping[str, Any], data: bytes | None = None) -> Reply:
        """Refuse "get-feature", and perform all else."""
        if action == "get-feature":
            return Reply({"words": "not implemented"})
        return super().perform(action, arguments, data)


class _LogOrZeros(Health):
    """Shows what is in the buffer where reading the SMART log has timed out."""

    def smart(self) -> Smart:
        try:
            return super().smart()
        except CommandTimedOut:
            return Smart(bytes(Smart.SIZE))


@defect("reset/admin-stall:believes", scenarios=("reset/admin-stall",))
class BelievesLog(Controller):
    """Tries no admin command twice, and shows what is in the buffer where reading the SMART log has timed out."""

    parts = replace(Controller.parts, health=_LogOrZeros)

    def __init__(self, transport: Transport, settings: Settings | None = None) -> None:
        """Allow no time-out before a command is given up."""
        super().__init__(transport, replace(settings or Settings(), timeouts=0))


@defect("reset/admin-stall:waits-for-ever", scenarios=("reset/identify-stall",))
class WaitsForAdmin(Recovery):
    """Has a time-out for I/O commands only."""

    def handle_timeout(self, pair: QueuePair, request: Request) -> None:
        """Handle time-outs of I/O commands; do nothing about admin commands."""
        if pair.qid:
            super().handle_timeout(pair, request)


@defect("reset/aer-refused:storm", scenarios=("reset/events-refused",))
class Storm(Events):
    """Sends an Asynchronous Event Request again at once whenever one has failed."""

    left = 500

    def _ended(self, request: Request) -> None:
        super()._ended(request)
        if not request.ok and request.completion is not None and self.left:
            self.left -= 1
            self.fill()


@defect("reset/late-abort:frees-early", scenarios=("reset/late-abort",))
class FreesEarly(Recovery):
    """Takes a command for done as soon as it has decided to abort it."""

    def handle_timeout(self, pair: QueuePair, request: Request) -> None:
        """End the command with success before any Abort is sent."""
        cid = pair.cid_of(request)
        if cid is None:
            return
        pair.outstanding.pop(cid)
        request.end(Completion(bytes(16)))


@defect("admin-queue/takes-over:trusts-the-owner", scenarios=("admin-queue/owned",))
class TrustsOwner(Controller):
    """Goes on with a controller that is ready already, without a reset."""

    def stop(self) -> None:
        """Do nothing where CC.EN and RDY are 1 at the first start; else stop the controller."""
        if not self._pairs and self.registers.read(CC).EN and self.registers.status().RDY:
            return
        super().stop()


@defect("admin-queue/takes-over:waits-and-goes-on", scenarios=("admin-queue/owned-shutting-down",))
class WaitsAndGoesOn(Controller):
    """Waits for the end of a shutdown that somebody else has begun, and takes that for a reset."""

    def stop(self) -> None:
        """Wait for SHST=10b where a shutdown goes on at the first start; else stop the controller."""
        if not self._pairs and self.registers.status().SHST:
            self.wait_shut_down()
            return
        super().stop()


@defect("admin-queue/comes-up-owned:fears-interrupts", scenarios=("admin-queue/owned-interrupting",))
class FearsInterrupts(Controller):
    """Gives up a function that interrupts before it was asked for anything."""

    def detect(self) -> None:
        """Refuse a function whose Interrupt Status is set."""
        super().detect()
        if self.transport.config_read(PCI_STATUS, 2) & INTERRUPT_STATUS:
            raise Refused("an interrupt that nobody has asked for")


@defect("reset/stall-one-pair:looks-for-another", scenarios=("reset/stall-one-pair",))
class LooksForAnother(Recovery):
    """Sends a command that has timed out through another pair of I/O queues, and looks for one until there is one."""

    def handle_timeout(self, pair: QueuePair, request: Request) -> None:
        """Wait for another pair of I/O queues before the time-out is handled."""
        while pair.qid and self._c.pair() is pair:
            self._c.transport.sleep(0.01)
        super().handle_timeout(pair, request)


@defect("reset/leaves-failed:waits", scenarios=("reset/stuck-unload",))
class WaitsToLeave(Controller):
    """Waits without end for CSTS.RDY=0 when it is unloaded."""

    def close(self) -> None:
        """Wait for RDY=0 of a failed controller without a limit, and close."""
        while self.failed is not None and self.registers.status().RDY:
            self.transport.sleep(0.01)
        super().close()


@defect("multiqueue/shared-vector:first-only", scenarios=("multiqueue/shared-vector",))
class FirstOnly(QueuePair):
    """Looks only at the first of the queues that share vector 0 when it is signalled."""

    def reap(self) -> list[Request]:
        """Return nothing for the later queues that share vector 0."""
        return [] if self.qid > 1 and self.vector == 0 else super().reap()


@defect("write/retried:believes", scenarios=("write/busy",))
class BelievesWrite(Namespace):
    """Takes a command that has failed without DNR for one that will be done later."""

    def _run(self, commands: Sequence[Command]) -> None:
        for command in commands:
            try:
                self._execution.run(self._c.pair(), [command], retry=False)
            except CommandFailed as failure:
                if failure.completion.DNR:
                    raise


@defect("io-queues/pin:needs-msix", scenarios=("io-queues/pin",))
class NeedsMsix(Controller):
    """Gives up a function without MSI-X."""

    def open_vectors(self) -> None:
        """Open the vectors; Refused without MSI-X."""
        if not pci.msix(self.transport)[1]:
            raise Refused("no MSI-X")
        super().open_vectors()


@defect("reset/blind:gives-up", scenarios=("reset/blind",))
class GivesUpBlind(Controller):
    """Takes a controller for gone whose registers read all ones once."""

    def __init__(self, transport: Transport, settings: Settings | None = None) -> None:
        """Set the time for which registers may read all ones to 0 s."""
        super().__init__(transport, replace(settings or Settings(), blind_seconds=0.0))


@defect("reset/stuck-shutdown:waits", scenarios=("reset/stuck-shutdown",))
class WaitsForShutdown(Controller):
    """Waits without end for CSTS.SHST=10b."""

    def wait_shut_down(self) -> None:
        """Poll SHST every 10 ms without a limit."""
        while self.registers.status().SHST != SHST_COMPLETE:
            self.transport.sleep(0.01)


@defect("identify/no-common:needs-it", scenarios=("identify/no-common",))
class NeedsCommon(Controller):
    """Asks for what all namespaces have in common, and gives up without an answer."""

    def identify(self) -> None:
        """Identify namespace FFFFFFFFh first, and fail with that command."""
        self.identification.namespace(BROADCAST_NSID)
        super().identify()
