"""Legal ways to use the MSI-X table."""

from __future__ import annotations

from lab.reference import pci
from lab.reference.controller import Controller
from lab.variants.variant import local, variant


@variant(
    "io-queues/masks-vectors",
    allowed='PCIe 1.0, 3.5 "Interrupts": the interrupt mask table defined as part of MSI-X is for the host to mask vectors',
    scenarios=("io-queues/basic",),
)
class MasksVectors(Controller):
    """Masks each vector once more when it comes up, moves it to other data, and unmasks it."""

    def open_vectors(self) -> None:
        """Install the handlers, and move all vectors."""
        super().open_vectors()
        if self.vectors and pci.msix(self.transport)[0]:
            transport = local(self.transport)
            for vector in range(self.vectors):
                transport.write_vector(vector, 1)
                transport.write_vector(vector, 0x80 + vector, pci.MSIX_DATA)
                transport.write_vector(vector, 0)
