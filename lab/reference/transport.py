"""How the driver reaches a controller, and all that it needs of the system under it.

A kernel has its own functions for every line of `Transport`: ``readl``, ``dma_alloc_coherent``, ``pci_alloc_irq_vectors``,
``wait_event_timeout``. There are three here: in process (`lab.drivers`), qtest and VFIO (`lab.reference.transports`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

HOST_PAGE = 4096
"""The smallest page that DMA memory comes in."""


@dataclass(eq=False)
class Memory:
    """DMA memory: one piece to the driver, to the device pages of ``page_size`` bytes that may lie anywhere."""

    view: memoryview
    pages: tuple[int, ...]  # the bus address of each page
    page_size: int

    @property
    def address(self) -> int:
        """The bus address of the first byte."""
        return self.pages[0]

    def __len__(self) -> int:
        return len(self.view)

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self.view[offset : offset + length])

    def write(self, offset: int, data: bytes | memoryview) -> None:
        self.view[offset : offset + len(data)] = data


class Transport(Protocol):
    """One PCI function. All calls come from one thread."""

    name: str
    """Where it is, for people: a PCI address."""
    vectors: int
    """Interrupt vectors that the function has and this transport can wait for; 0 leaves polling."""

    def config_read(self, offset: int, size: int) -> int:
        """Reads ``size`` bytes of configuration space; all ones where nobody answers."""

    def config_write(self, offset: int, size: int, value: int) -> None: ...

    def read32(self, offset: int) -> int:
        """Reads a dword of BAR0; all ones where nobody answers."""

    def write32(self, offset: int, value: int) -> None: ...

    def publish(self) -> None:
        """A memory barrier: what was stored to DMA memory before is seen by the device before any `write32`, and before
        anything that is stored to or loaded from DMA memory, after it."""

    def allocate(self, length: int, page_size: int, *, contiguous: bool = False) -> Memory:
        """Zeroed DMA memory of at least ``length`` bytes in pages aligned to their size; ``contiguous``: one after another."""

    def free(self, memory: Memory) -> None:
        """The device must not reach for it any more."""

    def open_vectors(self, count: int) -> None:
        """Switches on MSI-X with handlers for vectors 0 to count - 1."""

    def wait(self, vector: int | None, seconds: float) -> bool:
        """Until ``vector`` has signalled or ``seconds`` have passed, or sooner; whether it has signalled. Without a vector it
        returns soon: the caller polls."""

    def sleep(self, seconds: float) -> None: ...

    def now(self) -> float:
        """Seconds of a clock that never goes back."""

    def close(self) -> None:
        """Gives the function back: bus mastering off, memory and handlers gone."""
