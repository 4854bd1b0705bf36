"""What is done about a controller that does not answer: Abort, then reset, then giving up.

Base 2.0, 5.1 "Abort command"; 3.7.2 "Controller Level Reset"; 3.1.3.6 for CSTS.CFS, which only a reset clears.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.nvme.commands import Abort
from lab.nvme.completions import Completion
from lab.reference.errors import CommandLost, ControllerFailed, DriverError
from lab.reference.queue_pair import QueuePair
from lab.reference.request import Request

if TYPE_CHECKING:
    from lab.reference.controller import Controller


class Recovery:
    """One controller's. Aborts one command at a time: less than any Abort Command Limit (Identify Controller ACL)."""

    def __init__(self, controller: Controller) -> None:
        self._c = controller
        self._resetting = False
        self.resets = 0
        self.aborts = 0

    def hung(self, pair: QueuePair, request: Request) -> None:
        """A command has been out for too long. When this returns it has ended."""
        request.timeouts += 1
        if pair.qid == 0 or not self.abort(pair, request):
            self.reset(f"{type(request.command).__name__} was not completed in time")

    def abort(self, pair: QueuePair, request: Request) -> bool:
        """Asks the controller to abort a command; whether it has ended, be it aborted or completed after all."""
        cid = pair.cid_of(request)
        if cid is None:
            return True
        self.aborts += 1
        try:
            command = Abort.of(SQID=pair.qid, ABORT_CID=cid)
            answer = self._c.execution.run(self._c.admin, [command], retry=False)[0]
        except DriverError:
            return request.done
        if not self.was_aborted(answer):
            return request.done
        until = self._c.transport.now() + self._c.settings.abort_seconds
        while not request.done and (left := until - self._c.transport.now()) > 0:
            if not pair.reap():
                self._c.transport.wait(pair.vector, left)
        return request.done

    def was_aborted(self, answer: Completion) -> bool:
        """Bit 0 of Abort's dword 0 is 0 if the command was aborted."""
        return not answer.DW0 & 1

    def reset(self, why: str) -> None:
        """Stops the controller, ends all that was outstanding once, and goes through the steps again."""
        if self._resetting:
            raise ControllerFailed(f"the controller failed again while it was being reset: {why}")
        self._resetting = True
        self.resets += 1
        try:
            self._c.stop()
            self._c.abandon(CommandLost(why))
            self._c.restart()
        except DriverError as failure:
            self._c.give_up(failure)
        finally:
            self._resetting = False
