"""Defects of finding a controller and reading its registers."""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile

from lab.defects.defect import defect
from lab.nvme.registers import CC, CSTS, DOORBELLS, VS, doorbell_offset
from lab.reference import pci
from lab.reference.controller import Controller
from lab.reference.errors import ControllerGone, Refused
from lab.reference.registers import ALL_ONES, R, Registers
from lab.reference.service import Open, Service
from lab.reference.settings import Settings
from lab.reference.transport import Transport


@defect("detect/access-width:misaligned")
class Misaligned(Registers):
    """Reads the major version as a dword from the middle of VS."""

    def status(self) -> CSTS:
        """Return CSTS, after an access that straddles VS and INTMS."""
        self._transport.read32(VS.OFFSET + 2)
        return super().status()


@defect("detect/read-only:csts")
class WritesStatus(Controller):
    """Writes CSTS to clear the fatal status."""

    def stop(self) -> None:
        """Write CFS=1 to CSTS, and then disable the controller."""
        self.registers.write(CSTS.of(CFS=1))
        super().stop()


@defect("detect/read-only-stage:enables")
class EnablesAtOnce(Controller):
    """Resets the controller while it is still finding out what it has found."""

    def detect(self) -> None:
        """Read what there is to read, and then disable the controller."""
        super().detect()
        self.stop()
        self.registers.write(self.registers.read(CC))


@defect("detect/cap:mqes")
class QueueEntries(Controller):
    """Takes MQES for the number of entries, one less than it says."""

    @property
    def max_queue_entries(self) -> int:
        """MQES as it stands, although it is 0's based."""
        return self.cap.MQES


@defect("detect/version:wrong-offset", source="Managarm bdb594b5f")
class VersionElsewhere(Controller):
    """Reads VS at 04h, which is the upper half of CAP."""

    def detect(self) -> None:
        """Detect, and take the version from 04h."""
        super().detect()
        self.version = VS(self.transport.read32(0x04))


@defect("detect/all-controllers:first-only", source="BareMetal 282aa07")
class FirstOnly(Service):
    """Ends the bus scan at the first controller."""

    def __init__(self, open: Open, settings: Settings | None = None, driver: type[Controller] = Controller) -> None:
        """Open the first function only."""
        super().__init__(lambda: open()[:1], settings, driver)


@defect("detect/others:ends-at-the-first", source="U-Boot 85946d69d6f", scenarios=("detect/one-gone",))
class EndsAtTheFirst(Service):
    """Looks at no further function behind one that is gone."""

    def __init__(self, open: Open, settings: Settings | None = None, driver: type[Controller] = Controller) -> None:
        """Open the functions up to the first whose registers read all ones."""
        super().__init__(lambda: list(takewhile(self._there, open())), settings, driver)

    @staticmethod
    def _there(transport: Transport) -> bool:
        return transport.read32(CSTS.OFFSET) != ALL_ONES


@defect("detect/bar64:lower-half")
class LowerHalf(Registers):
    """Maps BAR0 at the lower half of its address, where no device answers."""

    def read(self, register: type[R]) -> R:
        """Return a register; ControllerGone where the upper half of BAR0's address is not 0."""
        if self._transport.config_read(0x14, 4):
            raise ControllerGone("all registers read all ones")
        return super().read(register)


@defect("detect/class-code:one-vendor")
class KnownVendor(Controller):
    """Binds to the vendor id that it was developed with, instead of the class code."""

    def detect(self) -> None:
        """Refuse all vendor ids but QEMU's."""
        if self.transport.config_read(0, 2) != 0x1B36:
            raise Refused("not our hardware")
        super().detect()


@defect("detect/other-class:wildcard")
class Wildcard(Controller):
    """Takes every function of class 0108h for an NVMe I/O controller."""

    def detect(self) -> None:
        """Read CAP and VS without a look at the class code's programming interface."""
        pci.set_command(self.transport, pci.MEMORY_SPACE)
        self.cap = self.registers.capabilities()
        self.version = self.registers.read(VS)


@defect("detect/css-bitmap:compared", source="EDK2 5d8d8b5148")
class Compared(Controller):
    """Compares CAP.CSS with 1 instead of testing its bit 0."""

    def command_set(self) -> int:
        """Refuse the controller unless CAP.CSS is exactly 1."""
        if self.cap.CSS != 1:
            raise Refused("the controller does not support the NVM command set")
        return 0


@defect("detect/doorbell-span:one-page")
class OnePage(Registers):
    """Maps one page of doorbells, and what is written beyond it goes nowhere."""

    def ring(self, qid: int, *, completion: bool, value: int) -> None:
        """Ring where the doorbell is in the first page, and do nothing elsewhere."""
        if doorbell_offset(qid, completion=completion, dstrd=self.dstrd) < DOORBELLS + 0x1000:
            super().ring(qid, completion=completion, value=value)


class _Unsuspecting(Registers):
    """Takes all ones for what the register says."""

    def read(self, register: type[R]) -> R:
        halves = range(register.OFFSET, register.OFFSET + register.SIZE, 4)
        return register(sum(self._transport.read32(offset) << 32 * n for n, offset in enumerate(halves)))


@defect("detect/all-ones:waits")
class WaitsForTheGone(Wildcard):
    """Waits for RDY=0 of a controller that is gone, whose CSTS reads all ones."""

    parts = replace(Controller.parts, registers=_Unsuspecting)

    def wait_ready(self, ready: int) -> None:
        """Poll RDY, also when the register reads all ones."""
        while self.registers.status().RDY != ready:
            pass
