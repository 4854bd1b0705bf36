"""Defects of MSI-X and its table: they show in process, where the table is the driver's to write."""

from __future__ import annotations

from typing import Any, cast

from lab.defects.defect import defect
from lab.defects.senders import NEIGHBOURS
from lab.reference import pci
from lab.reference.controller import Controller


@defect("io-queues/msix-entry:rewritten", scenarios=("io-queues/basic",))
class RewrittenVector(Controller):
    """Changes the data of a vector that is not masked."""

    def open_vectors(self) -> None:
        """Install the handlers, and move vector 0 to other data."""
        super().open_vectors()
        if self.vectors and pci.msix(self.transport)[0]:
            cast(Any, self.transport).write_vector(0, 0x55, pci.MSIX_DATA)


@defect("io-queues/msix-entry:unmasked-empty", scenarios=("io-queues/basic",))
class UnmaskedEmpty(Controller):
    """Unmasks a vector that has neither address nor data."""

    def open_vectors(self) -> None:
        """Unmask the last vector of the table, and install the handlers of others."""
        count = pci.msix(self.transport)[1]
        if count > 1 + self.settings.io_queues:
            cast(Any, self.transport).write_vector(count - 1, 0)
        super().open_vectors()


@defect("io-queues/one-interrupt-mode:both", scenarios=("io-queues/basic",))
class BothModes(Controller):
    """Enables MSI besides MSI-X, to have an interrupt in any case."""

    def open_vectors(self) -> None:
        """Install the handlers, and enable MSI too."""
        super().open_vectors()
        if pci.msix(self.transport)[0]:
            _switch_msi(self, on=True)


class OneAfterTheOther(Controller):
    """Tries MSI, and switches it off before it enables MSI-X."""

    def open_vectors(self) -> None:
        """Switch MSI on and off, and install the handlers."""
        _switch_msi(self, on=True)
        _switch_msi(self, on=False)
        super().open_vectors()


NEIGHBOURS["io-queues/one-interrupt-mode:both"] = OneAfterTheOther


def _switch_msi(driver: Controller, *, on: bool) -> None:
    at = next((at for kind, at in pci.capabilities(driver.transport) if kind == pci.MSI), 0)
    if at:
        control = driver.transport.config_read(at + 2, 2) & ~pci.MSI_ENABLE
        driver.transport.config_write(at + 2, 2, control | pci.MSI_ENABLE * on)


@defect("io-queues/vector-configured:too-few", scenarios=("io-queues/basic",))
class TooFewVectors(Controller):
    """Configures one vector, and has completion queues use others."""

    def open_vectors(self) -> None:
        """Install one handler."""
        self.transport.open_vectors(1)
