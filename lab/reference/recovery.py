"""Recovery from a controller that does not answer: Abort, then reset, then giving up.

Base 2.0, 5.1 "Abort command"; 3.7.2 "Controller Level Reset"; 3.1.3.6 for CSTS.CFS, which only a reset clears.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from lab.nvme.commands import Abort
from lab.nvme.completions import Completion
from lab.nvme.registers import NSSR
from lab.reference import pci
from lab.reference.core import Core
from lab.reference.errors import CommandLost, ControllerFailed, DriverError, Refused
from lab.reference.execution import Execution
from lab.reference.queue_pair import QueuePair
from lab.reference.request import Request

NSSR_MAGIC = 0x4E56_4D65
"""What resets the NVM subsystem when written to NSSR: "NVMe"."""


class Recovery:
    """The recovery of one controller.

    It aborts one command at a time: less than any Abort Command Limit (Identify Controller ACL).
    """

    def __init__(self, core: Core, execution: Execution, *, stop: Callable[[], None], restart: Callable[[], None]) -> None:
        """Recover one controller by its own steps ``stop`` and ``restart``."""
        self._c, self._execution, self._stop, self._restart = core, execution, stop, restart
        self._resetting = False
        self.resets = 0
        self.aborts = 0

    def handle_timeout(self, pair: QueuePair, request: Request) -> None:
        """End a command that has been outstanding for too long."""
        request.timeouts += 1
        if pair.qid == 0 or not self.abort(pair, request):
            self.reset(f"{type(request.command).__name__} was not completed in time")

    def abort(self, pair: QueuePair, request: Request) -> bool:
        """Ask the controller to abort a command; return whether it has ended, aborted or completed after all."""
        cid = pair.cid_of(request)
        if cid is None:
            return True
        self.aborts += 1
        try:
            command = Abort.of(SQID=pair.qid, ABORT_CID=cid)
            answer = self._execution.run(self._c.admin, [command], retry=False)[0]
        except DriverError:
            return request.done
        if not self.was_aborted(answer):
            return request.done
        deadline = self._c.transport.now() + self._c.settings.abort_seconds
        while not request.done and (left := deadline - self._c.transport.now()) > 0:
            if not pair.reap():
                self._c.transport.wait(pair.vector, left)
        return request.done

    def was_aborted(self, answer: Completion) -> bool:
        """Return whether the command was aborted: bit 0 of Abort's dword 0 is 0 then."""
        return not answer.DW0 & 1

    def reset(self, reason: str) -> None:
        """Stop the controller, end all outstanding commands once, and perform the steps again."""
        if self._resetting:
            with suppress(DriverError):
                self.stop()  # the caller frees its memory, which the controller must not access any more
            raise ControllerFailed(f"the controller failed again while it was being reset: {reason}")
        self._resetting = True
        self.resets += 1
        try:
            self.stop()
            self._c.abandon(CommandLost(reason))
            self._restart()
        except DriverError as failure:
            self._c.give_up(failure)
        finally:
            self._resetting = False

    def reset_function(self) -> None:
        """Reset the function by PCI, and bring the controller up again. PCIe 1.0, 3.3; PCI Express Base, 6.6.2."""
        transport = self._c.transport
        at = next((at for kind, at in pci.capabilities(transport) if kind == pci.EXPRESS), 0)
        if not at:
            raise Refused(f"{transport.name} has no PCI Express capability, and so no Function Level Reset")
        bars = {offset: transport.config_read(offset, 4) for offset in pci.BARS}
        pci.clear_command(transport, pci.BUS_MASTER)
        control = at + pci.DEVICE_CONTROL
        transport.config_write(control, 2, transport.config_read(control, 2) | pci.INITIATE_FLR)
        transport.sleep(pci.FLR_SECONDS)
        for offset, value in bars.items():
            transport.config_write(offset, 4, value)
        pci.set_command(transport, pci.MEMORY_SPACE)
        self.reset("its function was reset")

    def reset_subsystem(self) -> None:
        """Reset the NVM subsystem, and bring the controller up again. Base 2.0, 3.7.1 and 3.1.3.7."""
        if not self._c.cap.NSSRS:
            raise Refused(f"{self._c.transport.name} has no NVM Subsystem Reset (CAP.NSSRS)")
        self._c.registers.write(NSSR(NSSR_MAGIC))
        self.reset("its subsystem was reset")

    def stop(self) -> None:
        """Stop the controller by CC.EN=0, one of the ways of a Controller Level Reset. Base 2.0, 3.7.2."""
        self._stop()
