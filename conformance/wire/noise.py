"""What a timeline can do without: how a bus is set up, and words of QEMU that the other rows say better."""

from __future__ import annotations

from conformance.wire.decode import WireLine
from lab.data.events import ActionStarted, ConfigWrite, DmaMap, MsixWrite, Remark

COMMAND = 4
"""Offset of PCI's Command register, which turns memory space and bus mastering on."""
TRACE, PROBLEMS = "pci_nvme_", ("pci_nvme_ub_", "pci_nvme_err_")
"""How QEMU's trace events begin, and those of them that tell of a mistake."""


class Noise:
    """Tells noise from what a reader looks for, in the order of time: bus set-up before the first action is noise at all."""

    def __init__(self) -> None:
        """Begin before the first event."""
        self._begun = False

    def __call__(self, row: WireLine) -> bool:
        """Return whether a row can be left out."""
        match row.event:
            case ActionStarted():
                self._begun = True
            case DmaMap() | MsixWrite():
                return True
            case ConfigWrite(offset=offset):
                return offset != COMMAND or not self._begun
            case Remark(name="trace_sample"):  # the row's own marks say so
                return True
            case Remark(name=name):
                return name.startswith(TRACE) and not name.startswith(PROBLEMS)
        return False
