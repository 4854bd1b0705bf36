"""Defects of error handling: retries, Abort, resets, removal, shutdown."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress

from lab.defects.defect import defect
from lab.nvme.commands import AsyncEventRequest, Command
from lab.nvme.completions import Completion
from lab.nvme.registers import CC
from lab.nvme.status import Status
from lab.reference import pci
from lab.reference.async_events import Events
from lab.reference.controller import Controller
from lab.reference.errors import CommandFailed, CommandTimedOut, ControllerFailed, ControllerGone, DriverError
from lab.reference.execution import Execution
from lab.reference.queue_pair import QueuePair
from lab.reference.recovery import Recovery
from lab.reference.request import Request
from lab.reference.ring import CompletionRing, SubmissionRing

PCI_EXPRESS, DEVICE_CONTROL, INITIATE_FLR = 0x10, 8, 1 << 15
"""Where a function level reset is asked for: PCI Express Base 5.0, 7.5.3.4 "Device Control Register"."""


@defect("reset/retries:for-ever")
class ForEver(Execution):
    """Tries a command that failed again and again."""

    def should_retry(self, request: Request) -> bool:
        """Return whether DNR is 0, however often it was tried."""
        return request.completion is not None and not request.ok and not request.completion.DNR


@defect("reset/retries:dnr-ignored")
class DnrIgnored(Execution):
    """Tries a command again that must not be retried."""

    def should_retry(self, request: Request) -> bool:
        """Return whether attempts are left, whatever DNR says."""
        return not request.ok and request.attempts <= self._c.settings.retries


@defect("reset/stall:silent", source="U-Boot 389363d2875", scenarios=("reset/stall",))
class Silent(Recovery):
    """Takes a command that was not completed in time for done."""

    def handle_timeout(self, pair: QueuePair, request: Request) -> None:
        """End the command with success."""
        pair.outstanding = {cid: other for cid, other in pair.outstanding.items() if other is not request}
        request.end(Completion.of())


@defect("reset/stall:no-abort", scenarios=("reset/stall",))
class NoAbort(Recovery):
    """Reports a command that was not completed in time, and leaves it with the controller."""

    def handle_timeout(self, pair: QueuePair, request: Request) -> None:
        """End the command as timed out without sending Abort."""
        pair.outstanding = {cid: other for cid, other in pair.outstanding.items() if other is not request}
        request.timeouts = self._c.settings.timeouts + 1
        request.end(lost=CommandTimedOut("not completed in time"))


@defect("reset/abort:bit-ignored", source="SPDK issue 2131", scenarios=("reset/abort-refused",))
class BitIgnored(Recovery):
    """Takes a command for aborted, although bit 0 of Abort's result says that it was not."""

    def was_aborted(self, answer: Completion) -> bool:
        """Return True, whatever the answer says."""
        return True

    def abort(self, pair: QueuePair, request: Request) -> bool:
        """Send Abort, and end the command as timed out even if it was not aborted."""
        if not super().abort(pair, request):
            pair.outstanding = {cid: other for cid, other in pair.outstanding.items() if other is not request}
            request.end(lost=CommandTimedOut("aborted"))
        return True


@defect("reset/abort:slot", scenarios=("reset/stall",))
class AbortsASlot(QueuePair):
    """Names in Abort the place of a command in the ring, where its identifier belongs."""

    def cid_of(self, request: Request) -> int | None:
        """Return a slot number that is no identifier in use; None where the command is not outstanding."""
        return None if super().cid_of(request) is None else self.submission.tail + self.submission.entries


@defect("reset/queue-state:stale-phase", source="EDK2 6523ae8baa", scenarios=("reset/asked",))
class StalePhase(CompletionRing):
    """Goes on after a reset where it was in a completion ring, with the phase tag that it had."""

    started = False

    def restart(self) -> None:
        """Restart the first time only."""
        if not self.started:
            super().restart()
        self.started = True


@defect("reset/queue-state:stale-entries", scenarios=("reset/asked",))
class StaleEntries(CompletionRing):
    """Restarts a completion ring after a reset, and takes old entries in it for new ones."""

    started = False

    def restart(self) -> None:
        """Reset head and phase, and leave the entries in memory."""
        if not self.started:
            super().restart()
        self.started, self.head, self.phase = True, 0, 1


@defect("reset/queue-state:stale-tail", scenarios=("reset/asked",))
class StaleTail(SubmissionRing):
    """Goes on after a reset where it was in a submission ring."""

    started = False

    def restart(self) -> None:
        """Restart the first time only, and go on at the old tail."""
        if not self.started:
            super().restart()
        self.started, self.head = True, self.tail


@defect("reset/once:twice", source="SPDK issue 2233", scenarios=("reset/twice",))
class Twice(QueuePair):
    """Keeps the last command that has ended among those that are outstanding: a second completion ends it again."""

    last: tuple[int, Request] | None = None

    def match(self, completion: Completion) -> Request | None:
        """Return the last command again if the completion names it."""
        if self.qid and self.last and completion.CID == self.last[0]:
            return self.last[1]
        found = super().match(completion)
        self.last = (completion.CID, found) if found else None
        return found


@defect("reset/once:before-abort", source="Linux CVE-2026-31523", scenarios=("reset/stall",))
class EndsBeforeAbort(Recovery):
    """Ends a command that was not completed in time, and ends it again when the completion comes with its Abort."""

    def handle_timeout(self, pair: QueuePair, request: Request) -> None:
        """End the command as timed out, and abort it then."""
        request.timeouts += 1
        request.end(lost=CommandTimedOut("not completed in time"))
        self.abort(pair, request)


@defect("reset/no-doorbell:rings", scenarios=("reset/asked",))
class Rings(Controller):
    """Gives back a completion slot while the controller is being reset."""

    def stop(self) -> None:
        """Stop the controller, and ring the admin completion queue after it."""
        super().stop()
        if self.stage:
            self.registers.ring(0, completion=True, value=0)


@defect("reset/cfs:ignored", source="SPDK a818564374")
class FatalIgnored(Recovery):
    """Gives a controller up that has failed, where a reset would bring it back."""

    def reset(self, reason: str) -> None:
        """Give the controller up."""
        self._c.give_up(ControllerFailed(reason))


@defect("admin-queue/rdy0-before-en:after-a-failure", scenarios=("reset/fatal", "admin-queue/slow-disable"))
class ResetsAtOnce(Controller):
    """Enables a controller again without waiting until it has stopped."""

    def stop(self) -> None:
        """Clear CC.EN without waiting for RDY=0, except at the first start."""
        if not self.stage:
            super().stop()
            return
        for pair in self._pairs.values():
            pair.live = False
        self.io = []
        self.registers.write(self.registers.read(CC).but(EN=0))


@defect("reset/stuck-ready:enables")
class EnablesStuck(ResetsAtOnce):
    """Enables a controller again that has not stopped."""


@defect("reset/stuck-ready:for-ever")
class WaitsToStop(Controller):
    """Waits for RDY as long as it takes, whatever CAP.TO says."""

    def wait_ready(self, ready: int) -> None:
        """Poll every 10 ms without a limit."""
        while self.registers.status().RDY != ready:
            self.transport.sleep(0.01)


@defect("reset/bus-master-off:hangs")
class WaitsForDma(Execution):
    """Waits for a command as long as it takes, however the controller is."""

    def check_progress(self, pair: QueuePair, now: float) -> None:
        """Look at nothing: no command is ever late."""


@defect("reset/removal:spins")
class Spins(Execution):
    """Waits for a controller that does not answer any more."""

    def check_progress(self, pair: QueuePair, now: float) -> None:
        """Treat a controller that is gone as one that is slow."""
        try:
            self._c.registers.status()
        except ControllerGone:
            return
        super().check_progress(pair, now)


@defect("reset/removal:crashes", source="FreeBSD rS343445")
class CrashesAtLeave(Controller):
    """Takes it for granted that the controller is well when the driver leaves."""

    def close(self) -> None:
        """Crash if the controller has failed, else close."""
        if self.failed:
            raise RuntimeError("a failed controller is not left")
        super().close()


@defect("reset/lost-interrupt:hangs")
class TrustsInterrupts(Execution):
    """Looks for completions only after an interrupt."""

    def wait(self, pair: QueuePair, flying: Collection[Request]) -> list[Request]:
        """Reap once, and after that only when the vector has signalled."""
        ended = [request for request in pair.reap() if request in flying]
        while not ended:
            if self._c.transport.wait(pair.vector, self._c.settings.check_seconds):
                ended = [request for request in pair.reap() if request in flying]
        return ended


@defect("admin-queue/aerl:one-too-many")
class OneTooMany(Events):
    """Takes AERL for the number of events that may be outstanding, counts from 0 to it, and adds one."""

    def limit(self) -> int:
        """AERL + 2, although AERL is 0's based."""
        assert self._c.identity is not None
        return self._c.identity.AERL + 2


@defect("reset/aer:not-again", scenarios=("reset/events",))
class NotAgain(Events):
    """Sends no event request in the place of one that has ended."""

    def handle(self) -> None:
        """Act on the events that came, and send no new request."""
        self._c.admin.reap()
        while self._received:
            self.act(self._received.pop(0))


@defect("reset/bad-completion:out-of-bounds")
class OutOfBounds(QueuePair):
    """Takes the command that a completion names without looking whether there is one."""

    def match(self, completion: Completion) -> Request | None:
        """Return the command; KeyError if no command has that identifier."""
        return self.outstanding.pop(completion.CID)


@defect("reset/bad-completion:any")
class AnyWillDo(QueuePair):
    """Takes any completion for that of the oldest command."""

    def match(self, completion: Completion) -> Request | None:
        """Return the command, or the oldest one if there is none."""
        found = super().match(completion)
        if found is None and self.qid and self.outstanding:
            return self.outstanding.pop(next(iter(self.outstanding)))
        return found


@defect("reset/bad-queue:ignored")
class QueueIgnored(QueuePair):
    """Looks at nothing of a completion but its command identifier and status."""

    def match(self, completion: Completion) -> Request | None:
        """Return the command by its identifier without a check of SQID."""
        self.submission.fetched(completion.SQHD)
        return self.outstanding.pop(completion.CID, None)


@defect("reset/shutdown:none", source="EDK2 7111e46fde")
class NoShutdown(Controller):
    """Leaves a controller by CC.EN=0, without a shutdown."""

    def shutdown(self) -> None:
        """Disable the controller without CC.SHN."""
        if self.failed is None and self.stage not in ("", "detect"):
            self.stop()
        self.stage = ""


@defect("reset/shst-wait:not-waited", scenarios=("reset/slow-unload",))
class NotWaited(Controller):
    """Does not wait until the shutdown is complete."""

    def wait_shut_down(self) -> None:
        """Do not wait."""


@defect("reset/shutdown:submits-after", scenarios=("reset/shutdown",))
class SubmitsAfter(Controller):
    """Goes on with I/O commands after it has asked for the shutdown."""

    def wait_shut_down(self) -> None:
        """Ring for one more entry on each I/O queue, and wait."""
        for pair in self._pairs.values():
            if pair.qid:
                self.registers.ring(pair.qid, completion=False, value=pair.submission.following(pair.submission.tail))
        super().wait_shut_down()

    def delete_io_queues(self) -> None:
        """Leave the queues as they are."""
        self.io = []


@defect("reset/shst-quiet:admin-after", scenarios=("reset/shutdown", "reset/slow-unload"))
class AdminAfter(Controller):
    """Submits an admin command to a controller whose shutdown is complete."""

    def wait_shut_down(self) -> None:
        """Wait, and submit an Asynchronous Event Request after it."""
        super().wait_shut_down()
        self.admin.submission.push(bytes(AsyncEventRequest.of(CID=0x77)))
        self.registers.ring(0, completion=False, value=self.admin.submission.tail)


@defect("reset/queues-deleted:left", scenarios=("reset/shutdown", "admin-queue/again"))
class QueuesLeft(Controller):
    """Shuts a controller down without deleting its I/O queues."""

    def delete_io_queues(self) -> None:
        """Leave the queues as they are."""
        self.io = []


@defect("reset/csts-first:blind", scenarios=("reset/stall",))
class Blind(Execution):
    """Aborts a command that is late without a look at CSTS."""

    def check_progress(self, pair: QueuePair, now: float) -> None:
        """Handle the oldest late command without reading CSTS."""
        if late := pair.oldest(now - self._c.settings.command_seconds):
            self.recovery.handle_timeout(pair, late)


@defect("reset/fatal:taken-for-done")
class FatalTakenForDone(Recovery):
    """Takes what was on its way when a controller failed for done."""

    def reset(self, reason: str) -> None:
        """End the outstanding commands with success, and reset nothing."""
        for pair in self._c.io:
            for request in list(pair.outstanding.values()):
                request.end(Completion.of())
            pair.outstanding = {}


class _FlrRecovery(Controller):
    """Resets a controller by a function level reset, as a legal driver may."""

    flrs = 0

    def stop(self) -> None:
        if self.stage:
            at = next(offset for kind, offset in pci.capabilities(self.transport) if kind == PCI_EXPRESS) + DEVICE_CONTROL
            self.transport.config_write(at, 2, self.transport.config_read(at, 2) | INITIATE_FLR)
            pci.set_command(self.transport, pci.MEMORY_SPACE | pci.BUS_MASTER)
            self.open_vectors()
        super().stop()


@defect("reset/bme-after-flr:left-off", scenarios=("reset/asked", "reset/fatal"))
class BusMasterLeftOff(_FlrRecovery):
    """Forgets that a function level reset clears Bus Master Enable."""

    def program_admin_queue(self, admin: QueuePair) -> None:
        """Program the queues with bus mastering off, except at the first start."""
        if self.stage:
            pci.clear_command(self.transport, pci.BUS_MASTER)
        super().program_admin_queue(admin)


@defect("reset/bad-command:panics")
class Panics(Execution):
    """Takes it for impossible that a controller does not know an opcode."""

    def run(
        self, pair: QueuePair, commands: Sequence[Command], *, retry: bool = True, depth: int | None = None
    ) -> list[Completion]:
        """Run the commands; crash if one ends with Invalid Command Opcode."""
        try:
            return super().run(pair, commands, retry=retry, depth=depth)
        except CommandFailed as failure:
            if failure.completion.status == Status.INVALID_OPCODE:
                raise RuntimeError("all our opcodes are known") from None
            raise


@defect("reset/reload:leaks")
class Leaks(Controller):
    """Gives nothing back when it is unloaded."""

    def close(self) -> None:
        """Shut the controller down, and free nothing."""
        with suppress(DriverError):
            self.shutdown()


@defect("reset/spurious-ready:hangs")
class WaitsForReady(Execution):
    """Waits for a controller that is not ready to be so again."""

    def check_progress(self, pair: QueuePair, now: float) -> None:
        """Look for late commands only while RDY is 1."""
        if self._c.registers.status().RDY:
            super().check_progress(pair, now)
