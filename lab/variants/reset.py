"""Legal ways to recover, to receive events, and to shut down."""

from __future__ import annotations

import contextlib

from lab.nvme.commands import Abort, DeleteIoCq, DeleteIoSq
from lab.nvme.fields import Register
from lab.nvme.registers import CC, NSSR
from lab.reference import pci
from lab.reference.controller import Controller
from lab.reference.errors import CommandLost, DriverError
from lab.reference.queue_pair import QueuePair
from lab.reference.recovery import Recovery
from lab.reference.registers import Registers
from lab.reference.request import Request
from lab.variants.variant import variant

ASKED = ("reset/asked",)
FLR, DEVICE_CONTROL = 1 << 15, 8
FLR_SECONDS = 0.1
"""How long a function may take for it. PCI Express Base, 6.6.2."""
BARS = range(0x10, 0x28, 4)
NSSR_MAGIC = 0x4E56_4D65
SHN_ABRUPT = 0b10
SHUTDOWN_CHECKS = ("reset/shutdown", "reset/queues-deleted", "reset/shst-wait")


@variant(
    "reset/function-level",
    allowed='PCIe 1.0, 3.3.1, Base 2.0, 3.7.2 "Controller Level Reset": a Function Level Reset is one',
    scenarios=ASKED,
)
class FunctionLevel(Recovery):
    """Recovers by a Function Level Reset of the PCI function instead of CC.EN=0."""

    def stop(self) -> None:
        """Reset the function and restore its BARs; by CC.EN=0 where it has no PCI Express capability."""
        transport = self._c.transport
        at = next((at for kind, at in pci.capabilities(transport) if kind == pci.EXPRESS), 0)
        if not at:
            super().stop()
            return
        bars = {offset: transport.config_read(offset, 4) for offset in BARS}
        pci.clear_command(transport, pci.BUS_MASTER)
        transport.config_write(at + DEVICE_CONTROL, 2, transport.config_read(at + DEVICE_CONTROL, 2) | FLR)
        transport.sleep(FLR_SECONDS)
        for offset, value in bars.items():
            transport.config_write(offset, 4, value)
        pci.set_command(transport, pci.MEMORY_SPACE)
        super().stop()


@variant(
    "reset/subsystem",
    allowed='Base 2.0, 3.7.1 "NVM Subsystem Reset", 3.1.3.7 "Offset 20h: NSSR": by writing "NVMe" to NSSR where CAP.NSSRS is 1',
    scenarios=("reset/subsystem",),
    excludes=("reset/function-level",),
)
class Subsystem(Recovery):
    """Recovers by an NVM Subsystem Reset where the controller has it."""

    def stop(self) -> None:
        """Write "NVMe" to NSSR where CAP.NSSRS is 1, and stop the controller."""
        if self._c.cap.NSSRS:
            self._c.registers.write(NSSR(NSSR_MAGIC))
        super().stop()


@variant(
    "reset/no-events",
    allowed='Base 2.0, 5.2 "Asynchronous Event Request command": a host that sends none receives no events',
    scenarios=ASKED,
    settings={"events": 0},
    warns=("reset/aer", "features/critical-warning", "multi-namespace/changed", "multi-namespace/resized"),
)
class NoEvents(Controller):
    """Sends no Asynchronous Event Request."""


@variant(
    "reset/all-events",
    allowed='Base 2.0, 5.17.2.1 "Identify Controller", AERL: as many requests as it says, 0\'s based, may be outstanding',
    scenarios=("reset/many-events",),
    settings={"events": 256},
)
class AllEvents(Controller):
    """Keeps as many Asynchronous Event Requests outstanding as AERL allows."""


@variant(
    "reset/never-aborts",
    allowed='Base 2.0, 9.5 "Controller Fatal Status", 5.1 "Abort command": a host may reset at once instead of aborting',
    scenarios=("reset/stall",),
)
class NeverAborts(Recovery):
    """Resets the controller at once where a command has been out for too long."""

    def abort(self, pair: QueuePair, request: Request) -> bool:
        """Return False: a reset follows."""
        return False


@variant(
    "reset/slow-to-act",
    allowed='Base 2.0, 5.1 "Abort command": how long a command may be outstanding is the host\'s choice',
    scenarios=("reset/stall",),
)
class SlowToAct(Recovery):
    """Gives a command that is late the same time once more before it does anything about it."""

    def handle_timeout(self, pair: QueuePair, request: Request) -> None:
        """Wait once more for the command, and handle the time-out if it has not ended then."""
        until = self._c.transport.now() + self._c.settings.command_seconds
        while not request.done and (left := until - self._c.transport.now()) > 0:
            if not pair.reap():
                self._c.transport.wait(pair.vector, left)
        if not request.done:
            super().handle_timeout(pair, request)


@variant(
    "reset/deletes-queues-first",
    allowed="Base 2.0, 5.6, 5.7: queues may be deleted at any time, before a reset too",
    scenarios=ASKED,
    excludes=("reset/function-level",),
)
class DeletesQueuesFirst(Recovery):
    """Deletes its I/O queues before a reset that the user asked for."""

    def reset(self, reason: str) -> None:
        """Delete the I/O queues if the user asked for the reset, and reset."""
        if "asked" in reason and isinstance(self._c, Controller):
            with contextlib.suppress(DriverError):
                self._c.delete_io_queues()
        super().reset(reason)


@variant(
    "reset/clears-shn-late",
    allowed='Base 2.0, 3.6.1 "Memory-based Controller Shutdown": after SHST 10b the host may disable the controller by EN=0',
    scenarios=("reset/shutdown",),
)
class DisablesAfterShutdown(Controller):
    """Disables the controller once its shutdown is complete."""

    def wait_shut_down(self) -> None:
        """Wait, and disable the controller."""
        super().wait_shut_down()
        self.registers.write(self.registers.read(CC).but(EN=0, SHN=0))
        self.wait_ready(0)


@variant(
    "reset/keeps-queues",
    allowed='Base 2.0, 3.6.1 "Memory-based Controller Shutdown": the host should delete its queues before, so that it need not',
    scenarios=("reset/shutdown",),
    warns=SHUTDOWN_CHECKS,
)
class KeepsQueues(Controller):
    """Shuts the controller down without deleting its I/O queues."""

    def delete_io_queues(self) -> None:
        """Leave the queues to the controller."""
        for pair in self.io:
            pair.live = False
        self.io = []


@variant(
    "reset/pair-by-pair",
    allowed='Base 2.0, 5.6 "Delete I/O Completion Queue command": a completion queue after the submission queues that use it',
    scenarios=("reset/shutdown",),
    excludes=("io-queues/shared-completion-queue", "reset/keeps-queues"),
)
class PairByPair(Controller):
    """Deletes its queues pair by pair, from the highest id down."""

    def delete_io_queues(self) -> None:
        """Delete each submission queue and its completion queue, the highest id first."""
        pairs, self.io = self.io, []
        for pair in pairs[::-1]:
            for command in (DeleteIoSq, DeleteIoCq):
                self.execution.admin(command.of(QID=pair.qid))
            pair.live = False


@variant(
    "reset/abrupt",
    allowed='Base 2.0, 3.6.1 "Memory-based Controller Shutdown": an abrupt shutdown is a kind of shutdown that a host may use',
    scenarios=("reset/shutdown",),
    warns=SHUTDOWN_CHECKS,
    excludes=("reset/keeps-queues", "reset/pair-by-pair"),
)
class Abrupt(Controller):
    """Shuts the controller down abruptly (SHN=10b)."""

    def delete_io_queues(self) -> None:
        """Delete the queues, and write SHN=10b."""
        super().delete_io_queues()
        self.registers.write(self.registers.read(CC).but(SHN=SHN_ABRUPT))

    def shutdown(self) -> None:
        """Shut the controller down without writing SHN=01b."""
        if self.failed is None and self.stage not in ("", "detect"):
            self.delete_io_queues()
            self.wait_shut_down()
            self.abandon(CommandLost("the controller was shut down"))
        self.stage = ""


@variant(
    "reset/disables-only",
    allowed='Base 2.0, 3.6.1 "Memory-based Controller Shutdown": the host should shut down, so that EN=0 alone is allowed',
    scenarios=("reset/shutdown",),
    warns=SHUTDOWN_CHECKS,
    excludes=("reset/abrupt", "reset/keeps-queues", "reset/pair-by-pair", "reset/clears-shn-late"),
)
class DisablesOnly(Controller):
    """Leaves the controller by EN=0, without a shutdown."""

    def shutdown(self) -> None:
        """Delete the queues, and disable the controller."""
        if self.failed is None and self.stage not in ("", "detect"):
            self.delete_io_queues()
            self.stop()
            self.abandon(CommandLost("the controller was shut down"))
        self.stage = ""


@variant(
    "reset/head-after-shutdown",
    allowed='Base 2.0, 3.6.1 "Memory-based Controller Shutdown": until SHST is 10b the controller may still complete commands',
    scenarios=("reset/shutdown",),
    excludes=(
        "admin-queue/cid-zero",
        "reset/abrupt",
        "reset/disables-only",
        "reset/clears-shn-late",
        "reset/disables-as-it-notifies",
    ),
)
class HeadAfterShutdown(Controller):
    """Gives completion slots of the admin queue back only after it has written CC.SHN."""

    head_before = 0

    def delete_io_queues(self) -> None:
        """Delete the queues without ringing the admin head doorbell."""
        admin = self.admin
        self.head_before = admin.completion.head
        admin.give_back = lambda: None  # type: ignore[method-assign]
        try:
            super().delete_io_queues()
        finally:
            del admin.give_back

    def wait_shut_down(self) -> None:
        """Ring the admin head doorbell if it is due, and wait."""
        if self.admin.completion.head != self.head_before:
            self.admin.give_back()
        super().wait_shut_down()


@variant(
    "reset/deletes-the-queue",
    allowed='Base 2.0, 5.1 "Abort command" and 3.7.3: commands are ended too by deleting their queue and creating it again',
    scenarios=("reset/stall",),
    warns=("reset/abort",),
)
class DeletesTheQueue(Recovery):
    """Deletes the queues of a command that is late, and creates them again, instead of aborting the command."""

    def abort(self, pair: QueuePair, request: Request) -> bool:
        """Delete the submission queue, which ends its commands, then the completion queue, and create both again."""
        driver = self._c
        if not isinstance(driver, Controller) or pair not in driver.io:
            return super().abort(pair, request)
        try:
            self._execution.run(driver.admin, [DeleteIoSq.of(QID=pair.qid)], retry=False)
            pair.reap()
            pair.abandon(CommandLost("its queue was deleted"))
            for command in (DeleteIoCq.of(QID=pair.qid), driver.create_cq_command(pair), driver.create_sq_command(pair)):
                pair.restart()
                self._execution.run(driver.admin, [command], retry=False)
        except DriverError:
            return request.done
        return True


@variant(
    "reset/aborts-what-is-done",
    allowed='Base 2.0, 5.1 "Abort command": it is a best effort, and the command to abort may have completed already',
    scenarios=("admin-queue/basic",),
    warns=("every/no-recovery",),
)
class AbortsWhatIsDone(Controller):
    """Aborts its first Identify once more when that has completed."""

    def identify(self) -> None:
        """Identify, and abort the first command of the admin queue."""
        super().identify()
        with contextlib.suppress(DriverError):
            self.execution.admin(Abort.of(SQID=0, ABORT_CID=0))


@variant(
    "reset/disables-as-it-notifies",
    allowed='Base 2.0, 3.1.3.5 "Offset 14h: CC", SHN: the write that begins a shutdown may modify other fields, EN too',
    scenarios=("write/fresh",),
    excludes=("reset/clears-shn-late", "reset/abrupt", "reset/disables-only", "reset/head-after-shutdown"),
)
class DisablesAsItNotifies(Registers):
    """Clears EN, and sets MPS back to 0, by the very write that notifies of the shutdown."""

    def write(self, value: Register) -> None:
        """Write a register."""
        super().write(value.but(EN=0, MPS=0) if isinstance(value, CC) and value.EN and value.SHN else value)
