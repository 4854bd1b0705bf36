"""What the driver needs of the system under it.

A kernel has its own functions for every line of `Transport`: ``readl``, ``dma_alloc_coherent``, ``pci_alloc_irq_vectors``,
``wait_event_timeout``. There are three here: in process and qtest (`lab.drivers`), and VFIO (`lab.reference.vfio`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

HOST_PAGE = 4096
"""The smallest page that DMA memory comes in."""


@dataclass(eq=False)
class Memory:
    """DMA memory: contiguous for the driver; for the device pages of ``page_size`` bytes at any bus addresses."""

    view: memoryview
    pages: tuple[int, ...]  # the bus address of each page
    page_size: int

    @property
    def address(self) -> int:
        """The bus address of the first byte."""
        return self.pages[0]

    def __len__(self) -> int:
        """Return the length in bytes."""
        return len(self.view)

    def read(self, offset: int, length: int) -> bytes:
        """Copy bytes out of the memory."""
        return bytes(self.view[offset : offset + length])

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Copy bytes into the memory."""
        self.view[offset : offset + len(data)] = data


class Transport(Protocol):
    """A PCI function. All calls come from one thread."""

    name: str
    """The PCI address, for messages."""
    vectors: int
    """Interrupt vectors that the function has and this transport can wait for; 0 leaves polling."""
    own_memory: memoryview
    """The memory of a BAR that holds a controller memory buffer; no byte where there is none that this transport can reach."""

    def config_read(self, offset: int, size: int) -> int:
        """Read ``size`` bytes of configuration space; all ones where no device answers."""

    def config_write(self, offset: int, size: int, value: int) -> None:
        """Write ``size`` bytes of configuration space."""

    def read32(self, offset: int) -> int:
        """Read a dword of BAR0; all ones where no device answers."""

    def write32(self, offset: int, value: int) -> None:
        """Write a dword of BAR0."""

    def publish(self) -> None:
        """Order memory accesses: the device sees earlier stores to DMA memory before any later `write32`, store or load."""

    def allocate(self, length: int, page_size: int, *, contiguous: bool = False) -> Memory:
        """Return zeroed DMA memory of at least ``length`` bytes, in pages aligned to their size.

        With ``contiguous`` the bus addresses of the pages follow each other.
        """

    def free(self, memory: Memory) -> None:
        """Free memory that the device does not access any more."""

    def open_vectors(self, count: int) -> None:
        """Enable MSI-X with handlers for vectors 0 to count - 1."""

    def wait(self, vector: int | None, seconds: float) -> bool:
        """Wait at most ``seconds`` until ``vector`` has signalled; return whether it has.

        It may return early; without a vector it returns soon, because the caller polls.
        """

    def sleep(self, seconds: float) -> None:
        """Wait, while the device's time passes."""

    def now(self) -> float:
        """Return the seconds of a monotonic clock."""

    def detach(self) -> None:
        """Let go of the function as it is, for a successor: no handler is left, and nothing is written."""

    def close(self) -> None:
        """Release the function: disable bus mastering, free memory and handlers."""
