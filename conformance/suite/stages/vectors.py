"""Rules about MSI-X and its table. PCIe Transport 1.0, 3.5 "Interrupts"; PCI Local Bus 3.0, 6.8.2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from conformance.record.record import Record
from conformance.suite.check import MANDATORY, RECOMMENDED, Finding, check
from conformance.suite.citations import BASE_2_0, PCIE_1_0
from lab.data.events import Interrupt, MsixWrite, Remark, Reset, Submitted
from lab.nvme.commands import CreateIoCq

ENTRY, DATA, CONTROL = 16, 8, 12
"""Bytes of an entry of the table, and where data and vector control begin; the address is before both."""
KEEPS_TABLE = ("cc-en", "shutdown")
"""Resets that change no PCI Express state, MSI-X registers among it. Base 2.0, 3.1.3.5."""


@dataclass
class Vector:
    """What the host has written of an entry; after a reset of the function it is masked, and all else undefined."""

    masked: bool = True
    address: bool = False
    data: bool = False

    @property
    def is_set(self) -> bool:
        """Whether the entry says where a message goes, and what it is."""
        return self.address and self.data

    def write(self, event: MsixWrite) -> None:
        """Take a write, which may be of one dword or of two."""
        first = event.offset % ENTRY
        words = range(first - first % 4, first + event.size, 4)
        self.address |= 0 in words
        self.data |= DATA in words
        if CONTROL in words:
            self.masked = bool(event.value >> 8 * (CONTROL - first) & 1)


Table = dict[tuple[str, int], Vector]


def _forget(table: Table, event: Reset, controller: str) -> None:
    if event.cause not in KEEPS_TABLE:
        for key in [key for key in table if key[0] == controller]:
            del table[key]


@check("io-queues/msix-entry", cite=PCIE_1_0["3.5"], level=RECOMMENDED, why="safety", witnesses=["wire"])
def msix_entry(record: Record) -> Iterator[Finding]:
    """Writes address and data of an MSI-X vector while it is masked, and unmasks it once both are there."""
    table: Table = {}
    for state, event in record.walk(MsixWrite, Reset):
        if isinstance(event, Reset):
            _forget(table, event, state.spec.id)
        if not isinstance(event, MsixWrite):
            continue
        number = event.offset // ENTRY
        vector = table.setdefault((state.spec.id, number), Vector())
        was_masked = vector.masked
        vector.write(event)
        if event.offset % ENTRY < CONTROL:
            shown = f"written while vector {number} is {'masked' if was_masked else 'not masked'}"
            yield Finding(was_masked, event, "address and data written while masked", shown)
        elif not vector.masked:
            shown = f"vector {number} unmasked {'with' if vector.is_set else 'without'} address and data"
            yield Finding(vector.is_set, event, "address and data before the vector is unmasked", shown)


@check(
    "io-queues/one-interrupt-mode",
    cite=PCIE_1_0["3.5"],
    level=MANDATORY,
    why="shall",
    witnesses=["wire"],
    uses="MSI or MSI-X",
)
def one_interrupt_mode(record: Record) -> Iterator[Finding]:
    """Enables MSI or MSI-X, never both at a time: what a function does then is undefined."""
    seen = set[tuple[str, str]]()
    for state, event in record.walk(Remark, Interrupt):
        match event:
            case Remark(name="msi-and-msix"):
                yield Finding(False, event, "one of MSI and MSI-X", "both enabled")
            case Interrupt(how="msi" | "msix" as how) if (state.spec.id, how) not in seen:
                seen.add((state.spec.id, how))
                yield Finding(True, event, "one of MSI and MSI-X", how)


@check("io-queues/vector-configured", cite=BASE_2_0["3.5.1"], level=RECOMMENDED, why="should", witnesses=["wire"])
def vector_configured(record: Record) -> Iterator[Finding]:
    """Configures an MSI-X vector before it creates a completion queue that uses it."""
    table: Table = {}
    seen: set[str] = set()  # controllers whose MSI-X table the record has
    for state, event in record.walk(MsixWrite, Reset, Submitted):
        match event:
            case Reset():
                _forget(table, event, state.spec.id)
            case MsixWrite():
                seen.add(state.spec.id)
                table.setdefault((state.spec.id, event.offset // ENTRY), Vector()).write(event)
            case Submitted(command=CreateIoCq(IEN=1, IV=number)) if state.spec.id in seen:
                vector = table.get((state.spec.id, number))
                ok = vector is not None and vector.is_set
                shown = f"vector {number} {'configured' if ok else 'not configured'}"
                yield Finding(ok, event, "address and data of the vector written before", shown, fields=("IEN", "IV"))
