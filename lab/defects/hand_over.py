"""Mistakes of systems that take a device over from another system."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lab.defects.defect import defect
from lab.nvme.registers import ACQ, AQA, ASQ, CC
from lab.reference.controller import Controller
from lab.reference.errors import Refused
from lab.reference.queue_pair import QueuePair
from lab.reference.service import Reply, Service


@defect("hand-over/comes-up:wants-it-off", scenarios=("hand-over/used",))
class WantsItOff(Controller):
    """Refuses a controller that is enabled already."""

    def detect(self) -> None:
        """Detect it, and look at CC.EN."""
        super().detect()
        if self.registers.read(CC).EN:
            raise Refused("somebody else uses this controller")


@defect("hand-over/takes-over:trusts", scenarios=("hand-over/used",))
class Trusts(Controller):
    """Goes on with a controller that is enabled and ready already, without a reset."""

    def stop(self) -> None:
        """Do nothing where it runs at the first start; else stop it."""
        if not self._pairs and self.registers.read(CC).EN and self.registers.status().RDY:
            return
        super().stop()


@defect("hand-over/own-queues:finds-them", scenarios=("hand-over/used",))
class FindsThem(Controller):
    """Takes admin queue registers that are not zero for its own: they look set up."""

    def program_admin_queue(self, admin: QueuePair) -> None:
        """Write those that are zero."""
        submission, completion = admin.submission, admin.completion
        if not int(self.registers.read(ASQ)):
            self.registers.write(AQA.of(ASQS=submission.entries - 1, ACQS=completion.entries - 1))
            self.registers.write(ASQ(submission.memory.address))
            self.registers.write(ACQ(completion.memory.address))


@defect("hand-over/data:keeps-blocks", scenarios=("hand-over/used",))
class KeepsBlocks(Service):
    """Keeps the first blocks that the disk ever had, over the end of its system, and gives them instead of later ones."""

    kept: bytes = b""

    def perform(self, action: str, arguments: Mapping[str, Any], data: bytes | None = None) -> Reply:
        """Read, with the mistake."""
        reply = super().perform(action, arguments, data)
        if action == "read" and reply.data:
            self.kept = self.kept or reply.data
            return Reply(reply.status, reply.fields, self.kept)
        return reply


@defect("hand-over/former-memory:finds-them", scenarios=("hand-over/used",))
class FindsThemToo(FindsThem):
    """Enables the controller on the rings of the system before, which it then goes on to read and write."""
