"""What a timeline can do without: how a bus is set up, and words of QEMU that the other rows say better."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

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
            case Remark(name=name):
                return name.startswith(TRACE) and not name.startswith(PROBLEMS)
        return False


def without_noise(rows: Iterable[WireLine], left_out: list[WireLine]) -> Iterator[WireLine]:
    """Yield the rows that are no noise; the others are added to ``left_out``."""
    is_noise = Noise()
    for row in rows:
        if is_noise(row):
            left_out.append(row)
        else:
            yield row
