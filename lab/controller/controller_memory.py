"""The Controller Memory Buffer: memory of the device's own behind BAR2, for submission queues. Base 2.0, 8.5."""

from __future__ import annotations

from lab.controller.core import Core
from lab.controller.queues import QueueMemory
from lab.data.plan import Controller as Spec
from lab.nvme.registers import CMBLOC, CMBSZ

BAR = 2
MIB, UNIT_MIB = 1 << 20, 2
"""The size is given in MiB, which is this value of CMBSZ.SZU."""
PAGE_MASK = 0xFFF


def location(spec: Spec) -> CMBLOC:
    """Return CMBLOC: the beginning of BAR2, and nothing that may be mixed or scattered."""
    return CMBLOC.of(BIR=BAR) if spec.controller_memory else CMBLOC()


def size(spec: Spec) -> CMBSZ:
    """Return CMBSZ: submission queues, and nothing else, may lie there."""
    return CMBSZ.of(SQS=1, SZU=UNIT_MIB, SZ=spec.controller_memory) if spec.controller_memory else CMBSZ()


class ControllerMemory:
    """One controller's memory buffer; ``content`` is what BAR2 shows."""

    def __init__(self, core: Core) -> None:
        """Begin with zeros, at no address of the controller's."""
        self._core = core
        self.content = memoryview(bytearray(core.spec.controller_memory * MIB))

    def place(self) -> bool:
        """Put it at the address that CMBMSC names, or at none; return False where the host's own memory is there."""
        if not self.content:
            return True
        control = self._core.registers.cmbmsc
        if not control.CMSE:
            return self._core.memory.place(0, None)
        address = int(control) & ~PAGE_MASK
        placed = self._core.memory.place(address, self.content)
        self._core.remark("controller-memory", address=address, length=len(self.content), apart=placed)
        return placed

    def allows(self, qid: int, memory: QueueMemory, *, completion: bool) -> bool:
        """Return whether a queue may lie where it does; remark on one that lies here."""
        found = [self._core.memory.is_own(address, length) for address, length in memory.pieces()]
        if not any(some for some, _ in found):
            return True
        whole = all(all_of_it for _, all_of_it in found)
        self._core.remark("controller-memory-queue", qid=qid, completion=completion, whole=whole)
        return whole and not completion
