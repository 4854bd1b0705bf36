"""Legal ways to take a device over from another system."""

from __future__ import annotations

from lab.nvme.registers import CC
from lab.reference.controller import SHN_NORMAL, Controller
from lab.variants.variant import variant


@variant(
    "hand-over/shuts-down-first",
    allowed='Base 2.0, 3.6.1 "Memory-based Controller Shutdown": a host may shut a controller down that it finds enabled',
    scenarios=("hand-over/used",),
    warns=("reset/queues-deleted",),
    excludes=("reset/clears-shn-late", "reset/head-after-shutdown", "reset/disables-as-it-notifies"),
)
class ShutsDownFirst(Controller):
    """Shuts down a controller that it finds enabled and running, and disables it then."""

    def stop(self) -> None:
        """Shut it down at the first start, and stop it."""
        found, status = self.registers.read(CC), self.registers.status()
        if not self._pairs and found.EN and status.RDY and not found.SHN and not status.SHST and not status.CFS:
            self.registers.write(found.but(SHN=SHN_NORMAL))
            self.wait_shut_down()
        super().stop()
