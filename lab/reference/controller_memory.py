"""The controller's own memory, for submission queues: the controller need not fetch commands over the bus. Base 2.0, 8.5."""

from __future__ import annotations

from lab.nvme.registers import CAP, CMBMSC, CMBSTS, CMBSZ
from lab.reference.registers import Registers
from lab.reference.transport import HOST_PAGE, Memory, Transport

AT = 1 << 52
"""Where the controller finds it: any place that no memory for DMA has."""


class ControllerMemory:
    """The controller memory buffer, as far as the driver has given parts of it away."""

    def __init__(self, transport: Transport, registers: Registers) -> None:
        """Begin without it: `claim` looks for it."""
        self._transport, self._registers = transport, registers
        self._view = memoryview(b"")
        self._taken = 0

    def __len__(self) -> int:
        """Return how many bytes may be used."""
        return len(self._view)

    def claim(self, cap: CAP) -> None:
        """Switch it on, where there is some that takes submission queues, and this system can reach it."""
        view = self._transport.own_memory
        if not cap.CMBS or not view:
            return
        self._registers.write(CMBMSC.of(CRE=1))  # from now on CMBLOC and CMBSZ say what it is
        if self._registers.read(CMBSZ).SQS and self.place(self.address):
            self._view = view

    @property
    def address(self) -> int:
        """Where the controller is to find it. Base 2.0, 8.5: where nothing else is that the driver opens to the controller."""
        return AT

    def place(self, address: int) -> bool:
        """Put it at this address of the controller's, and return whether the controller has it there. Base 2.0, 3.1.3.16."""
        control = CMBMSC.of(CRE=1, CBA=address // HOST_PAGE)
        self._registers.write(control)
        self._registers.write(control.but(CMSE=1))
        return not self._registers.read(CMBSTS).CBAI

    def take(self, length: int, page_size: int) -> Memory | None:
        """Return memory for a queue, which stays its own; None where there is not enough."""
        start, pages = -(-self._taken // page_size) * page_size, -(-length // page_size)
        end = start + pages * page_size
        if end > len(self._view):
            return None
        self._taken = end
        addresses = tuple(range(self.address + start, self.address + end, page_size))
        return Memory(self._view[start:end], addresses, page_size)
