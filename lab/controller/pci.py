"""PCI configuration space of the function. PCI Express Base, 7.5; PCIe Transport 1.0 for what NVMe asks of it.

Every byte has a mask of the bits that a host may write. Behind vfio-user-pci QEMU itself answers for BARs, MSI and MSI-X,
and passes the writes on as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from lab.errors import UsageError

SIZE = 4096
COMMAND, STATUS = 0x04, 0x06
BAR0, BAR2, BAR4 = 0x10, 0x18, 0x20
PM, MSI, MSIX, EXPRESS = 0x40, 0x50, 0x70, 0x80
"""Where the capabilities lie: power management, MSI, MSI-X, PCI Express."""

MEMORY_SPACE, BUS_MASTER, INTX_DISABLE = 1 << 1, 1 << 2, 1 << 10
INTERRUPT_STATUS = 1 << 3
MEMORY_BAR = 0b1100
"""The low bits of a BAR that is 64 bits wide and prefetchable, as memory is."""
MSIX_RESERVED = 0b111 << 11  # of Message Control
MSI_VECTORS = 32
MSIX_ENTRY = 16
FLR = 1 << 15  # Device Control: Initiate Function Level Reset

DEFAULTS = {
    "vendor": 0x1234,
    "device": 0x4E56,
    "class_code": 0x010802,
    "revision": 2,
    "subsystem_vendor": 0x1AF4,
    "subsystem": 0x1100,
}
"""The fields of `lab.data.plan.Controller.pci`. Not the identity of QEMU's own device: drivers work around that one's quirks
(Linux ignores its namespace identifiers), and so would not show what they do with a device that they do not know."""


class ConfigOwner(Protocol):
    """What a configuration space reports to."""

    def function_reset(self) -> None:
        """Perform a Function Level Reset: the host asked for it."""

    def interrupts_changed(self) -> None:
        """Take note that MSI-X, MSI or INTx was switched on or off."""


class ConfigSpace:
    """The function's 4096 bytes.

    ``vectors`` 0 leaves INTx only; without ``has_msix`` they are MSI's; ``bar_size`` is BAR0's, in bytes, and ``memory_size``
    BAR2's, which is memory: 0 for none.
    """

    def __init__(
        self,
        identity: Mapping[str, int],
        bar_size: int,
        vectors: int,
        prefetchable: bool,
        owner: ConfigOwner,
        *,
        has_msix: bool = True,
        memory_size: int = 0,
    ) -> None:
        """Begin as after power-on; UsageError for an identity with other fields than `DEFAULTS`."""
        unknown = identity.keys() - DEFAULTS.keys()
        if unknown:
            raise UsageError(f"pci has no field {sorted(unknown)[0]!r}; it has {', '.join(DEFAULTS)}")
        self._identity = {**DEFAULTS, **identity}
        self._bar_size, self._vectors, self._prefetchable = bar_size, vectors, prefetchable
        self._memory_size = memory_size
        self._owner = owner
        self.msix_vectors = vectors if has_msix else 0
        """Entries of the MSI-X table."""
        self.msix_reserved_set = False
        """The reserved bits of MSI-X Message Control read as 1."""
        self.interrupt_status = False
        """Interrupt Status of the Status register."""
        self.reset()

    @property
    def msix_table_size(self) -> int:
        """Bytes of BAR4: the MSI-X table, and the pending bits behind it in pages of their own; 0 without MSI-X."""
        return 2 * self._msix_half if self.msix_vectors else 0

    @property
    def _msix_half(self) -> int:
        return _power_of_two(max(4096, self.msix_vectors * MSIX_ENTRY))

    @property
    def msi_limit(self) -> int:
        """Number of MSI vectors that there are."""
        return min(MSI_VECTORS, _power_of_two(self._vectors)) if self._vectors else 0

    @property
    def why_no_dma(self) -> str:
        """Why the function may do no DMA."""
        return "Bus Master Enable is 0" if not self._bytes[COMMAND] & BUS_MASTER else "the function is not in D0"

    @property
    def asleep(self) -> bool:
        """Whether the function is not in D0: it has no memory space, and does no DMA. PCI Power Management 1.2, 5.4."""
        return bool(self._bytes[PM + 4] & 0b11)

    @property
    def msix(self) -> bool:
        """MSI-X Enable."""
        return bool(self.msix_vectors) and bool(self._bytes[MSIX + 3] & 0x80)

    @property
    def msi(self) -> int:
        """Number of MSI vectors that the host has switched on; 0 without MSI."""
        if not self._vectors or not self._bytes[MSI + 2] & 1:
            return 0
        return 1 << (self._bytes[MSI + 2] >> 4 & 7)

    @property
    def intx(self) -> bool:
        """Whether INTx may be asserted."""
        return not self._bytes[COMMAND + 1] & INTX_DISABLE >> 8

    def read(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes from ``offset`` on; fewer at the end."""
        found = bytearray(self._bytes[offset : offset + size])
        if self.interrupt_status and offset <= STATUS < offset + size:
            found[STATUS - offset] |= INTERRUPT_STATUS
        if self.msix_reserved_set and self.msix_vectors and offset <= MSIX + 3 < offset + size:
            found[MSIX + 3 - offset] |= MSIX_RESERVED >> 8
        return bytes(found)

    def write(self, offset: int, data: bytes) -> None:
        """Take the bits that can be written; bytes beyond the end are ignored."""
        before = self.msix, self.msi, self.intx
        for at, value in enumerate(data[: max(0, SIZE - offset)], offset):
            mask = self._writable[at]
            self._bytes[at] = self._bytes[at] & ~mask | value & mask
        self._note_state()
        control = EXPRESS + 8
        if offset <= control + 1 < offset + len(data) and data[control + 1 - offset] & FLR >> 8:
            self._owner.function_reset()
        elif (self.msix, self.msi, self.intx) != before:
            self._owner.interrupts_changed()

    def reset(self) -> None:
        """Set every byte as after power-on."""
        self._bytes, self._writable = bytearray(SIZE), bytearray(SIZE)
        identity = self._identity
        self._put(0x00, 2, identity["vendor"])
        self._put(0x02, 2, identity["device"])
        self._put(COMMAND, 2, 0, MEMORY_SPACE | BUS_MASTER | INTX_DISABLE | 1 << 6 | 1 << 8)
        self._put(0x06, 2, 1 << 4)  # status: there is a list of capabilities
        self._put(0x08, 4, identity["class_code"] << 8 | identity["revision"])
        self._put(0x0C, 1, 0, 0xFF)  # cache line size: any value, no effect
        self._put(BAR0, 8, 0b0100 | self._prefetchable << 3, -self._bar_size & ~0xF)
        if self._memory_size:
            self._put(BAR2, 8, MEMORY_BAR, -_power_of_two(self._memory_size) & ~0xF)
        if self.msix_vectors:
            self._put(BAR4, 4, 0, -self.msix_table_size & ~0xF)
        self._put(0x2C, 2, identity["subsystem_vendor"])
        self._put(0x2E, 2, identity["subsystem"])
        self._put(0x3C, 1, 0, 0xFF)  # interrupt line
        self._put(0x3D, 1, 1)  # INTA#
        self._capabilities()
        self._note_state()

    def _note_state(self) -> None:
        """Keep what every access asks for: nothing of it changes but by `write` and `reset`."""
        command = self._bytes[COMMAND]
        self.masters_bus = bool(command & BUS_MASTER) and not self.asleep
        """The function may do DMA: Bus Master Enable is 1 and it is in D0."""
        self.claims_memory = bool(command & MEMORY_SPACE) and not self.asleep
        """The function answers accesses to its BARs: Memory Space Enable is 1 and it is in D0."""

    def _capabilities(self) -> None:
        chain = [PM, *[MSI] * bool(self._vectors), *[MSIX] * bool(self.msix_vectors), EXPRESS]
        self._put(0x34, 1, chain[0])
        for here, following in zip(chain, [*chain[1:], 0], strict=True):
            self._put(here + 1, 1, following)
        self._put(PM, 1, 0x01)
        self._put(PM + 2, 2, 0x0003)  # version 3
        self._put(PM + 4, 2, 1 << 3, 0b11)  # No Soft Reset; the power state
        if self._vectors:
            self._put(MSI, 1, 0x05)
            capable = self.msi_limit.bit_length() - 1  # a power of two
            self._put(MSI + 2, 2, 1 << 7 | capable << 1, 0x71)  # 64-bit addresses; writable: enable, and how many
            self._put(MSI + 4, 8, 0, ~0b11 & (1 << 64) - 1)
            self._put(MSI + 12, 2, 0, 0xFFFF)
        if self.msix_vectors:
            self._put(MSIX, 1, 0x11)
            self._put(MSIX + 2, 2, self.msix_vectors - 1, 0xC000)
            self._put(MSIX + 4, 4, 4)  # table: BAR4
            self._put(MSIX + 8, 4, self._msix_half | 4)  # pending bits: BAR4
        self._put(EXPRESS, 1, 0x10)
        self._put(EXPRESS + 2, 2, 0x0002)  # version 2, endpoint
        self._put(EXPRESS + 4, 4, 1 << 28 | 1 << 15)  # FLR, role-based error reporting
        self._put(EXPRESS + 8, 2, 0x2810, 0x7FFF)  # device control, with its defaults; FLR reads as 0
        self._put(EXPRESS + 12, 4, 0x411)  # link: x1, 2.5 GT/s, which may save power in L0s
        self._put(EXPRESS + 16, 2, 0, 0x01FB)
        self._put(EXPRESS + 18, 2, 0x11)
        self._put(EXPRESS + 44, 4, 0x02)  # link capabilities 2: 2.5 GT/s

    def _put(self, offset: int, size: int, value: int, writable: int = 0) -> None:
        self._bytes[offset : offset + size] = value.to_bytes(size, "little")
        self._writable[offset : offset + size] = (writable & (1 << 8 * size) - 1).to_bytes(size, "little")


def _power_of_two(number: int) -> int:
    """Return the smallest power of two that is no less."""
    return 1 << (number - 1).bit_length()
