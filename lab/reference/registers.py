"""Access to BAR0: dwords only, low half first. Base 2.0, 3.1; PCIe Transport 1.0, 3.1.2 for the doorbells."""

from __future__ import annotations

from typing import TypeVar

from lab.nvme.fields import Register
from lab.nvme.registers import CAP, CSTS, doorbell_offset
from lab.reference.errors import ControllerGone
from lab.reference.shadow_doorbells import ShadowDoorbells
from lab.reference.transport import Transport

ALL_ONES = 0xFFFF_FFFF

R = TypeVar("R", bound=Register)


class Registers:
    """The controller's registers and doorbells."""

    def __init__(self, transport: Transport) -> None:
        """Access the registers of one function."""
        self._transport = transport
        self.dstrd = 0
        """CAP.DSTRD, once `capabilities` was called."""
        self.shadows: ShadowDoorbells | None = None
        """The shadow doorbells, once the controller uses them."""

    def read(self, register: type[R]) -> R:
        """Read a register of 4 or 8 bytes. ControllerGone if it reads all ones, as no register of a present controller does."""
        value = self._transport.read32(register.OFFSET)
        if register.SIZE == 8:
            value |= self._transport.read32(register.OFFSET + 4) << 32
        if value & ALL_ONES == ALL_ONES:
            raise ControllerGone(f"{self._transport.name}: {register.__name__} reads all ones: the controller is gone")
        return register(value)

    def write(self, value: Register) -> None:
        """Write a register of 4 or 8 bytes."""
        self._transport.write32(value.OFFSET, int(value) & ALL_ONES)
        if value.SIZE == 8:
            self._transport.write32(value.OFFSET + 4, int(value) >> 32)

    def status(self) -> CSTS:
        """Read Controller Status."""
        return self.read(CSTS)

    def capabilities(self) -> CAP:
        """Read Controller Capabilities, and use their doorbell stride from now on."""
        cap = self.read(CAP)
        self.dstrd = cap.DSTRD
        return cap

    def ring(self, qid: int, *, completion: bool, value: int) -> None:
        """Write a doorbell or its shadow, after a barrier: the entries must be in memory first."""
        self._transport.publish()
        shadows = self.shadows
        if shadows is None or not shadows.covers(qid) or shadows.must_ring(qid, completion=completion, value=value):
            self._transport.write32(doorbell_offset(qid, completion=completion, dstrd=self.dstrd), value)
