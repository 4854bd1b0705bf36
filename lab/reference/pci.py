"""Finding a controller by PCI. PCIe Transport 1.0, 3.8.1 "PCI Header"; PCI Local Bus 3.0, 6.1 and 6.7."""

from __future__ import annotations

from collections.abc import Iterator

from lab.reference.transport import Transport

CLASS_NVME = 0x010802
"""Mass storage, non-volatile memory, NVM Express I/O controller: a driver binds to it, whichever vendor made the device."""
COMMAND, CLASS, CAPABILITIES = 0x04, 0x08, 0x34
MEMORY_SPACE, BUS_MASTER, INTX_DISABLE = 1 << 1, 1 << 2, 1 << 10
MSI, EXPRESS, MSIX = 0x05, 0x10, 0x11
"""Identifiers of capabilities."""
DEVICE_CONTROL, INITIATE_FLR, FLR_SECONDS = 8, 1 << 15, 0.1
"""In the PCI Express capability; how long a function may take for a reset. PCI Express Base, 7.5.3.4 and 6.6.2."""
BARS = range(0x10, 0x28, 4)
MSI_ENABLE = 1 << 0
MSIX_ENABLE, MSIX_MASK_ALL = 1 << 15, 1 << 14
MSIX_ENTRY, MSIX_DATA, MSIX_CONTROL = 16, 8, 12
"""Bytes of an entry of the MSI-X table, and where in it data and vector control are. PCI Local Bus 3.0, 6.8.2."""


def class_code(transport: Transport) -> int:
    """Return base class, subclass and programming interface."""
    return transport.config_read(CLASS, 4) >> 8


def set_command(transport: Transport, bits: int) -> None:
    """Set bits of the Command register."""
    transport.config_write(COMMAND, 2, transport.config_read(COMMAND, 2) | bits)


def clear_command(transport: Transport, bits: int) -> None:
    """Clear bits of the Command register."""
    transport.config_write(COMMAND, 2, transport.config_read(COMMAND, 2) & ~bits & 0xFFFF)


def capabilities(transport: Transport) -> Iterator[tuple[int, int]]:
    """Yield (capability id, offset) of each capability."""
    offset, seen = transport.config_read(CAPABILITIES, 1) & ~3, set[int]()
    while offset and offset != 0xFC and offset not in seen:  # a list that leads back to itself ends too
        seen.add(offset)
        yield transport.config_read(offset, 1), offset
        offset = transport.config_read(offset + 1, 1) & ~3


def msix(transport: Transport) -> tuple[int, int]:
    """Return (offset of the MSI-X capability, number of vectors); (0, 0) without one."""
    offset = next((at for kind, at in capabilities(transport) if kind == MSIX), 0)
    return (offset, (transport.config_read(offset + 2, 2) & 0x7FF) + 1) if offset else (0, 0)
