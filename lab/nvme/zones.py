"""Zones and what Identify says of them. Zoned Namespace Command Set 1.1; its commands are in `lab.nvme.commands`."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from lab.nvme.fields import U8, U32, U64, Array, Bits, Structure
from lab.nvme.identify import SIZE

NO_LIMIT = 0xFFFF_FFFF
"""MAR and MOR where any number of zones may be active or open."""
SEQUENTIAL_WRITE_REQUIRED = 2
"""The only zone type."""


class ZoneState(IntEnum):
    """Zone State of a zone descriptor. 3.4.2.2.3."""

    EMPTY = 0x1
    IMPLICITLY_OPENED = 0x2
    EXPLICITLY_OPENED = 0x3
    CLOSED = 0x4
    READ_ONLY = 0xD
    FULL = 0xE
    OFFLINE = 0xF


OPEN = frozenset({ZoneState.IMPLICITLY_OPENED, ZoneState.EXPLICITLY_OPENED})
ACTIVE = OPEN | {ZoneState.CLOSED}
"""The states of zones that take open resources, and of those that take active resources. 2.1.1.4."""


class ZoneSendAction(IntEnum):
    """Zone Send Action. 3.4.3."""

    CLOSE = 0x01
    FINISH = 0x02
    OPEN = 0x03
    RESET = 0x04
    OFFLINE = 0x05
    SET_EXTENSION = 0x10


REPORT_OPTIONS = {
    0x00: frozenset(ZoneState),
    0x01: frozenset({ZoneState.EMPTY}),
    0x02: frozenset({ZoneState.IMPLICITLY_OPENED}),
    0x03: frozenset({ZoneState.EXPLICITLY_OPENED}),
    0x04: frozenset({ZoneState.CLOSED}),
    0x05: frozenset({ZoneState.FULL}),
    0x06: frozenset({ZoneState.READ_ONLY}),
    0x07: frozenset({ZoneState.OFFLINE}),
}
"""Reporting options to the states of the zones that are listed. 3.4.2."""


class LbaFormatExtension(Structure, size=16):
    """LBA Format Extension. 4.1.5.1."""

    ZSZE = U64(0)  # logical blocks of a zone
    ZDES = U8(8)  # zone descriptor extension, in 64 bytes


class IdentifyNamespaceZoned(Structure, size=SIZE):
    """I/O command set specific Identify Namespace of the zoned namespace command set, CNS 05h, CSI 02h. 4.1.5.1."""

    VARIABLE_CAPACITY = Bits(0)  # ZOC
    ACTIVE_EXCURSIONS = Bits(1)
    READ_ACROSS = Bits(0, at=2)  # OZCS: reads may cross zone boundaries
    MAR = U32(4)  # active zones, 0's based
    MOR = U32(8)  # open zones, 0's based
    RRL = U32(12)
    FRL = U32(16)
    LBAFE = Array(2816, 64, LbaFormatExtension)


class IdentifyControllerZoned(Structure, size=SIZE):
    """I/O command set specific Identify Controller of the zoned namespace command set, CNS 06h, CSI 02h. 4.1.5.2."""

    ZASL = U8(0)  # Zone Append's data: a power of two of pages of MPSMIN; 0 for MDTS


class ZoneDescriptor(Structure, size=64):
    """Zone Descriptor. 3.4.2.2.3."""

    ZT = Bits(3, 0)
    ZS = Bits(7, 4, at=1)  # a `ZoneState`
    ZA = U8(2)
    ZAI = U8(3)
    ZCAP = U64(8)  # blocks that can be written
    ZSLBA = U64(16)
    WP = U64(24)  # the next block to write, where the state has a valid one

    @property
    def is_full(self) -> bool:
        """Whether nothing more can be written."""
        return self.ZS == ZoneState.FULL


class ReportZones(Structure, size=64):
    """The head of Report Zones, which the descriptors follow. 3.4.2.2.1."""

    ZONES = U64(0)


def report_zones(count: int, descriptors: Iterable[ZoneDescriptor]) -> bytes:
    """Return Report Zones with ``count`` as the number of zones."""
    return b"".join([ReportZones.of(ZONES=count), *descriptors])


def parse_report(raw: bytes) -> list[ZoneDescriptor]:
    """Return the descriptors of a report as far as they are in ``raw``."""
    held = min(ReportZones(raw).ZONES, len(raw) // ZoneDescriptor.SIZE - 1)
    return [ZoneDescriptor(raw[at : at + ZoneDescriptor.SIZE]) for at in range(64, 64 * (held + 1), 64)]
