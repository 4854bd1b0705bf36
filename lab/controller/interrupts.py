"""Interrupts: MSI-X, MSI or INTx, whichever the host has switched on. PCIe Transport 1.0, 3.5? "Interrupts"."""

from __future__ import annotations

from collections.abc import Callable

from lab.controller.pci import ConfigSpace
from lab.controller.queues import CompletionQueue
from lab.controller.record import Recorder
from lab.controller.registers import RegisterFile

Signal = Callable[[str, int], None]
"""Called with msix, msi or intx and the vector: how the interrupt leaves the device."""


class Interrupts:
    """Collects what is to be signalled while commands are worked off, and signals each vector once, in the order of posting:
    commands that Delete I/O Submission Queue aborts are heard of before it is done itself."""

    def __init__(self, config: ConfigSpace, registers: RegisterFile, record: Recorder, signal: Signal) -> None:
        self._config, self._registers, self._record = config, registers, record
        self.signal = signal
        self._due: dict[int, None] = {}
        self._asserted: dict[int, CompletionQueue] = {}  # INTx: queues with something to consume

    def posted(self, cq: CompletionQueue) -> None:
        """A completion that the host wants to hear of is in ``cq``."""
        if cq.vector is not None:
            self._due[cq.vector] = None
            self._asserted[cq.qid] = cq

    def flush(self) -> None:
        """Signals what was posted."""
        if not self._due:
            return
        due, self._due = self._due, {}
        for vector in due:
            self.raise_vector(vector)

    def raise_vector(self, vector: int) -> None:
        """Signals a vector, whether there is a reason or not."""
        config = self._config
        if config.msix:
            how = "msix"
        elif count := config.msi:
            how, vector = "msi", vector & count - 1
        else:
            how, vector = "intx", 0
        if (how == "intx" and not config.intx) or (how != "msix" and self._registers.intms >> vector & 1):
            return
        self._record.interrupt(vector, how)
        self.signal(how, vector)

    @property
    def intx_level(self) -> bool:
        """Whether INTx is asserted: completions that interrupt are there and not consumed."""
        self._asserted = {qid: cq for qid, cq in self._asserted.items() if cq.head != cq.tail}
        pinned = not self._config.msix and not self._config.msi and self._config.intx
        return pinned and bool(self._asserted) and not self._registers.intms & 1

    def again(self) -> None:
        """INTx was unmasked or acknowledged: it is signalled anew if its reason is still there."""
        if self.intx_level:
            self.raise_vector(0)

    def forget(self) -> None:
        """The queues are gone."""
        self._due.clear()
        self._asserted.clear()
