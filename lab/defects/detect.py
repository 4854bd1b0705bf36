"""Defects of finding a controller and reading its registers."""

from __future__ import annotations

from lab.defects.defect import defect
from lab.nvme.registers import CSTS, VS
from lab.reference.controller import Controller
from lab.reference.registers import Registers
from lab.reference.service import Open, Service
from lab.reference.settings import Settings


@defect("detect/access-width:misaligned")
class Misaligned(Registers):
    """Reads the major version as a dword from the middle of VS."""

    def status(self) -> CSTS:
        self._transport.read32(VS.OFFSET + 2)
        return super().status()


@defect("detect/read-only:csts")
class WritesStatus(Controller):
    """Writes CSTS to clear the fatal status."""

    def stop(self) -> None:
        self.registers.write(CSTS.of(CFS=1))
        super().stop()


@defect("detect/cap:mqes")
class QueueEntries(Controller):
    """Takes MQES for the number of entries, one less than it says."""

    @property
    def max_queue_entries(self) -> int:
        return self.cap.MQES


@defect("detect/version:wrong-offset", source="Managarm bdb594b5f")
class VersionElsewhere(Controller):
    """Reads VS at 04h, which is the upper half of CAP."""

    def detect(self) -> None:
        super().detect()
        self.version = VS(self.transport.read32(0x04))


@defect("detect/all-controllers:first-only", source="BareMetal 282aa07")
class FirstOnly(Service):
    """Ends the bus scan at the first controller."""

    def __init__(self, open: Open, settings: Settings | None = None, driver: type[Controller] = Controller) -> None:
        super().__init__(lambda: open()[:1], settings, driver)
