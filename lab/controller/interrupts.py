"""Interrupts: MSI-X, MSI or INTx, whichever the host has switched on. PCIe Transport 1.0, 3.5 "Interrupts"."""

from __future__ import annotations

from collections.abc import Callable

from lab.controller.core import Core
from lab.controller.queues import CompletionQueue

Signal = Callable[[str, int], None]
"""Called with msix, msi or intx and the vector: how the interrupt leaves the device."""


class Interrupts:
    """Collects the vectors of posted completions, and signals each vector once, in the order of posting.

    So the host hears of commands that Delete I/O Submission Queue aborts before it hears of that command's end.
    """

    def __init__(self, core: Core, signal: Signal) -> None:
        """Create the interrupts; ``signal`` takes each one out of the device."""
        self._core = core
        self.signal = signal
        self._due: dict[int, None] = {}
        self._asserted: dict[int, CompletionQueue] = {}  # queues whose entries interrupt; consumed ones go at the next look
        self._suppressed: set[int] = set()  # MSI messages that were held back by INTMS

    def posted(self, cq: CompletionQueue) -> None:
        """Remember that ``cq`` has a completion that the host wants to be interrupted for."""
        if cq.vector is not None:
            self._due[cq.vector] = None
            self._asserted[cq.qid] = cq

    def flush(self) -> None:
        """Signal what was posted."""
        if not self._due:
            return
        due, self._due = self._due, {}
        for vector in due:
            self.raise_vector(vector)

    def raise_vector(self, vector: int) -> None:
        """Signal a vector, whether there is a reason or not."""
        config = self._core.config
        if config.msix:
            how = "msix"
        elif count := config.msi:
            how, vector = "msi", vector & count - 1
            if self._core.registers.intms >> vector & 1:
                self._suppressed.add(vector)
                return
        else:
            how, vector = "intx", 0
            if not config.intx or self._core.registers.intms & 1:
                return
        self._core.record.interrupt(vector, how)
        self.signal(how, vector)

    @property
    def intx_level(self) -> bool:
        """Whether INTx is asserted: completions that interrupt are there and not consumed."""
        config = self._core.config
        pinned = not config.msix and not config.msi and config.intx
        return pinned and bool(self._unconsumed()) and not self._core.registers.intms & 1

    @property
    def intx_status(self) -> bool:
        """Whether an INTx interrupt is pending inside the function: Interrupt Status of the PCI Status register."""
        return not self._core.config.msix and not self._core.config.msi and bool(self._unconsumed())

    def resignal(self) -> None:
        """Signal again what was masked or acknowledged and still has its reason.

        PCIe Transport 1.0, 3.5.1: a message that the mask held back is sent when its bit is cleared and its status is set.
        """
        if self.intx_level:
            self.raise_vector(0)
        if not self._suppressed or not (count := self._core.config.msi):
            return
        open_vectors = {vector for vector in self._suppressed if not self._core.registers.intms >> vector & 1}
        self._suppressed -= open_vectors
        with_status = {cq.vector & count - 1 for cq in self._unconsumed() if cq.vector is not None}
        for vector in sorted(open_vectors & with_status):
            self.raise_vector(vector)

    def forget(self) -> None:
        """Return to the state after a reset, without queues."""
        self._due.clear()
        self._asserted.clear()
        self._suppressed.clear()

    def _unconsumed(self) -> list[CompletionQueue]:
        self._asserted = {qid: cq for qid, cq in self._asserted.items() if cq.head != cq.tail}
        return list(self._asserted.values())
