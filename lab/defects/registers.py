"""Defects of reaching for registers and doorbells."""

from __future__ import annotations

from lab.defects.defect import defect
from lab.nvme.fields import Register
from lab.nvme.registers import CAP, CC, NSSR, doorbell_offset
from lab.reference.controller import Controller
from lab.reference.registers import Registers

NSSR_MAGIC = 0x4E564D65
RESERVED = 0x18
"""A reserved dword between CC and CSTS. Base 2.0, 3.1.3, figure 35."""


@defect("detect/one-register:cap-and-version", scenarios=("detect/basic",))
class CapAndVersion(Registers):
    """Reads the upper half of CAP and VS by one access."""

    def capabilities(self) -> CAP:
        """Return CAP, after one access of eight bytes at 04h."""
        self._transport.read64(CAP.OFFSET + 4)  # type: ignore[attr-defined]
        return super().capabilities()


@defect("detect/reserved-register:off-by-four")
class OffByFour(Registers):
    """Writes CC a second time, to the reserved register behind it."""

    def write(self, value: Register) -> None:
        """Write the register; CC also to the reserved offset after it."""
        super().write(value)
        if isinstance(value, CC):
            self._transport.write32(RESERVED, int(value))


@defect("detect/reserved-bits:cc-bit-1")
class CcBitOne(Controller):
    """Sets a reserved bit of CC when it enables the controller."""

    def configuration(self) -> CC:
        """Return CC with bit 1 set."""
        return CC(super().configuration() | 1 << 1)


@defect("detect/nssr-gated:always", scenarios=("detect/basic",))
class AlwaysNssr(Controller):
    """Resets the NVM subsystem before it starts, whether the controller knows that or not."""

    def enable(self) -> None:
        """Write "NVMe" to NSSR, whatever CAP.NSSRS says, and enable the controller."""
        self.registers.write(NSSR(NSSR_MAGIC))
        super().enable()


@defect("admin-queue/no-doorbell-read:reads-back")
class ReadsBack(Registers):
    """Reads each doorbell back to flush the write."""

    def ring(self, qid: int, *, completion: bool, value: int) -> None:
        """Ring, and read the doorbell."""
        super().ring(qid, completion=completion, value=value)
        self._transport.read32(doorbell_offset(qid, completion=completion, dstrd=self.dstrd))


@defect("admin-queue/doorbell-unchanged:twice")
class RingsTwice(Registers):
    """Rings every doorbell twice, to be sure."""

    def ring(self, qid: int, *, completion: bool, value: int) -> None:
        """Ring twice with the same value."""
        super().ring(qid, completion=completion, value=value)
        super().ring(qid, completion=completion, value=value)


@defect("admin-queue/rdy0-before-en:no-wait", source="OSv issue 1362", scenarios=("admin-queue/slow-disable",))
class EnablesAtOnce(Controller):
    """Programs and enables a controller without waiting until RDY is 0."""

    def wait_ready(self, ready: int) -> None:
        """Wait for RDY=1 only."""
        if ready:
            super().wait_ready(ready)


@defect("admin-queue/no-disable-while-starting:impatient", scenarios=("admin-queue/slow-ready",))
class Impatient(Controller):
    """Disables a controller that is not ready at the first look, and starts it again."""

    tried = False

    def wait_ready(self, ready: int) -> None:
        """Disable and enable the controller once if RDY is not 1 at the first look, and then wait."""
        if ready and not self.tried and not self.registers.status().RDY:
            self.tried = True
            self.registers.write(self.configuration().but(EN=0))
            super().wait_ready(0)
            self.registers.write(self.configuration())
        super().wait_ready(ready)


@defect("admin-queue/ready-wait:half", scenarios=("admin-queue/late-ready",))
class HalfTheTime(Controller):
    """Waits half as long as CAP.TO allows."""

    @property
    def ready_seconds(self) -> float:
        """Half of CAP.TO."""
        return super().ready_seconds / 2


@defect("admin-queue/all-command-sets:nvm-only", scenarios=("detect/command-sets",))
class NvmOnly(Controller):
    """Selects the NVM command set where all should be selected."""

    def configuration(self) -> CC:
        """Return CC with CSS=000b."""
        return super().configuration().but(CSS=0)


@defect("admin-queue/crime:always", scenarios=("admin-queue/basic",))
class AlwaysCrime(Controller):
    """Asks for the ready mode that does not wait for the media, whatever CAP.CRMS says."""

    def configuration(self) -> CC:
        """Return CC with CRIME=1."""
        return super().configuration().but(CRIME=1)


@defect("admin-queue/crime-early:late", scenarios=("admin-queue/basic",))
class LateCrime(Controller):
    """Chooses the ready mode once the controller is enabled."""

    def enable(self) -> None:
        """Enable the controller, and then write CC with CRIME=1."""
        super().enable()
        self.registers.write(self.configuration().but(CRIME=1))


@defect("io-queues/es-frozen:live", scenarios=("io-queues/basic",))
class LiveEntrySizes(Controller):
    """Changes IOSQES while there are I/O queues."""

    def create_io_queues(self) -> None:
        """Create the queues, and then change IOSQES and change it back."""
        super().create_io_queues()
        self.registers.write(self.configuration().but(IOSQES=7))
        self.registers.write(self.configuration())


@defect("reset/shn-cleared:kept", scenarios=("admin-queue/again",))
class KeepsShn(Controller):
    """Sets EN beside the shutdown notification that it left in CC when it went."""

    found = 0

    def stop(self) -> None:
        """Remember what is in SHN, and stop the controller."""
        self.found = self.registers.read(CC).SHN
        super().stop()

    def configuration(self) -> CC:
        """Return CC with SHN as it was."""
        return super().configuration().but(SHN=self.found)
