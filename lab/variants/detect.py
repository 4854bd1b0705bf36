"""Legal ways to find a controller and to reach its registers."""

from __future__ import annotations

from collections.abc import Sequence

from lab.nvme.fields import Register
from lab.nvme.registers import CAP, CC, CSTS, INTMS, VS
from lab.reference import pci
from lab.reference.controller import Controller
from lab.reference.registers import ALL_ONES, R, Registers
from lab.reference.service import Open, Service
from lab.reference.settings import Settings
from lab.reference.transport import Transport
from lab.variants.variant import local, variant

BASIC = ("detect/basic",)


@variant(
    "detect/wide-registers",
    allowed='PCIe 1.0, 3.1.2 "Transport Specific Controller Properties": registers are accessed in their native width',
    scenarios=("admin-queue/basic",),
)
class WideRegisters(Registers):
    """Accesses registers of eight bytes by one access of eight bytes."""

    def read(self, register: type[R]) -> R:
        """Return a register of eight bytes from one access, or from two if that reads all ones."""
        if register.SIZE == 8 and (value := local(self._transport).read64(register.OFFSET)) != (1 << 64) - 1:
            return register(value)
        return super().read(register)  # also of a controller that answers accesses of four bytes only

    def write(self, value: Register) -> None:
        """Write a register of eight bytes by one access, and by two if it reads back otherwise."""
        if value.SIZE == 8:
            local(self._transport).write64(value.OFFSET, int(value))
            if int(self.read(type(value))) == int(value):
                return
        super().write(value)


@variant(
    "detect/high-half-first",
    allowed='PCIe 1.0, 3.1.2 "Transport Specific Controller Properties": aligned 32-bit accesses, in no given order',
    scenarios=("admin-queue/basic",),
)
class HighHalfFirst(Registers):
    """Accesses the upper half of a register of eight bytes before its lower half."""

    def read(self, register: type[R]) -> R:
        """Return a register of eight bytes, its upper half read first."""
        if register.SIZE == 8:
            high = self._transport.read32(register.OFFSET + 4)
            low = self._transport.read32(register.OFFSET)
            if low != ALL_ONES:
                return register(high << 32 | low)
        return super().read(register)

    def write(self, value: Register) -> None:
        """Write a register of eight bytes, its upper half first."""
        if value.SIZE == 8:
            self._transport.write32(value.OFFSET + 4, int(value) >> 32)
            self._transport.write32(value.OFFSET, int(value) & ALL_ONES)
        else:
            super().write(value)


@variant(
    "detect/reads-everything",
    allowed='Base 2.0, 3.1.3 "Controller Properties": reading has no effect on any of them, reserved ones read 0',
    scenarios=BASIC,
)
class ReadsEverything(Controller):
    """Dumps the whole of the register area, reserved offsets too, by accesses of four bytes."""

    def detect(self) -> None:
        """Detect, and read each dword from 0 to 6Ch but INTMS and INTMC."""
        super().detect()
        for offset in range(0, 0x70, 4):
            if offset not in (INTMS.OFFSET, INTMS.OFFSET + 4):  # not to be read under MSI-X
                self.transport.read32(offset)


@variant(
    "detect/clears-nssro",
    allowed='Base 2.0, 3.1.3.6 "Offset 1Ch: CSTS": NSSRO is cleared by writing 1, the other bits are read-only',
    scenarios=("reset/subsystem",),
)
class ClearsNssro(Controller):
    """Clears NSSRO before it enables the controller, whether it is set or not."""

    def enable(self) -> None:
        """Write NSSRO=1 to CSTS where CAP.NSSRS is 1, and enable the controller."""
        if self.cap.NSSRS:
            self.registers.write(CSTS.of(NSSRO=1))
        super().enable()


@variant(
    "detect/rereads-cap",
    allowed='Base 2.0, 3.1.3.1 "Offset 0h: CAP": it is read-only, and may be read whenever it is needed',
    scenarios=("admin-queue/basic",),
    warns=("reset/blind",),  # what it reads while registers are blind is all ones
)
class RereadsCap(Controller):
    """Reads CAP again whenever it needs to know how long it may wait."""

    @property
    def ready_seconds(self) -> float:
        """CAP.TO in seconds, read anew."""
        self.cap = self.registers.capabilities()
        return super().ready_seconds


@variant(
    "detect/version-first",
    allowed='Base 2.0, 3.1.3 "Controller Properties": no order is given in which they are to be read',
    scenarios=BASIC,
)
class VersionFirst(Registers):
    """Reads VS and CSTS before it reads CAP."""

    def capabilities(self) -> CAP:
        """Read VS and CSTS, and return CAP."""
        self.read(VS)
        self.read(CSTS)
        return super().capabilities()


@variant(
    "detect/bus-master-at-once",
    allowed='PCIe 1.0, 3.8.1.2 "Offset 04h: CMD - Command": nothing says that Bus Master Enable has to stay 0 before CC.EN',
    scenarios=BASIC,
)
class BusMasterAtOnce(Controller):
    """Switches on memory space and bus mastering by one write, before any register is read."""

    def detect(self) -> None:
        """Set Memory Space and Bus Master Enable of an NVMe function, and detect."""
        if pci.class_code(self.transport) == pci.CLASS_NVME:
            pci.set_command(self.transport, pci.MEMORY_SPACE | pci.BUS_MASTER)
        super().detect()


@variant(
    "detect/pin-off",
    allowed="PCI Local Bus 3.0, 6.2.2: Interrupt Disable only keeps the function from asserting INTx",
    scenarios=BASIC,
)
class PinOff(Controller):
    """Disables INTx before it switches on MSI-X."""

    def open_vectors(self) -> None:
        """Set Interrupt Disable where there is MSI-X, and open the vectors."""
        if pci.msix(self.transport)[1]:
            pci.set_command(self.transport, pci.INTX_DISABLE)
        super().open_vectors()


@variant(
    "detect/writes-cc-back",
    allowed='Base 2.0, 3.1.3.5 "Offset 14h: CC": writing it with EN=0 while EN is 0 changes nothing',
    scenarios=("admin-queue/basic",),
)
class WritesCcBack(Controller):
    """Writes CC with EN=0 also where EN is 0 already."""

    def stop(self) -> None:
        """Stop the controller, and write CC with EN=0 once more."""
        super().stop()
        self.registers.write(self.registers.read(CC).but(EN=0, SHN=0))


@variant(
    "detect/leaves-out-the-gone",
    allowed='PCIe 1.0, 3.1.2 "Transport Specific Controller Properties": registers may be read before anything is brought up',
    scenarios=("detect/one-gone",),
)
class LeavesOutTheGone(Service):
    """Looks at all functions before it brings one up, and leaves those out that are gone."""

    def __init__(self, open: Open, settings: Settings | None = None, driver: type[Controller] = Controller) -> None:
        """Open the functions whose registers read anything but all ones; all of them if there is none such."""
        super().__init__(lambda: self._there(open()), settings, driver)

    @staticmethod
    def _there(transports: Sequence[Transport]) -> Sequence[Transport]:
        return [one for one in transports if one.read32(VS.OFFSET) != ALL_ONES] or transports
