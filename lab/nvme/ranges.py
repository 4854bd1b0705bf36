"""Ranges of logical blocks that commands carry as data. NVM Command Set 1.0, 3.2.2 "Copy", 3.2.3 "Dataset Management"."""

from __future__ import annotations

from collections.abc import Iterable

from lab.nvme.fields import U8, U16, U32, U64, Bits, Nested, Raw, Register, Structure


class ContextAttributes(Register):
    """How the host will use a range; hints, never promises."""

    AF = Bits(3, 0)  # access frequency
    AL = Bits(5, 4)  # access latency
    SR = Bits(8)  # sequential read
    SW = Bits(9)  # sequential write
    WP = Bits(10)  # write prepare
    CAS = Bits(31, 24)  # command access size, blocks


class DsmRange(Structure, size=16):
    """Dataset Management Range."""

    CATTR = Nested(0, ContextAttributes)
    LENGTH = U32(4)  # blocks, not 0's based
    SLBA = U64(8)


class CopyRange(Structure, size=32):
    """Copy Source Range Entry, format 0h."""

    SLBA = U64(8)
    NLB = U16(16)  # 0's based
    EILBRT = U32(24)
    ELBAT = U16(28)
    ELBATM = U16(30)

    @property
    def blocks(self) -> int:
        """Number of logical blocks."""
        return self.NLB + 1


class CopyRangeWide(Structure, size=40):
    """Copy Source Range Entry, format 1h: wide tags."""

    SLBA = U64(8)
    NLB = U16(16)  # 0's based
    ELBT = Raw(26, 10)  # storage and reference tag, expected
    ELBAT = U16(36)
    ELBATM = U16(38)

    @property
    def blocks(self) -> int:
        """Number of logical blocks."""
        return self.NLB + 1


class LbaStatusDescriptor(Structure, size=16):
    """LBA Status Descriptor Entry of Get LBA Status."""

    DSLBA = U64(0)
    NLB = U32(8)  # 0's based
    STATUS = U8(13)  # bit 0: reading may fail, bit 1: written by Write Uncorrectable


class LbaStatus(Structure, size=8):
    """The head of what Get LBA Status returns; NLSD descriptors follow."""

    NLSD = U32(0)
    CMPC = U8(4)  # completion condition


def dsm_ranges(raw: bytes, count: int) -> tuple[DsmRange, ...]:
    """Return the first ``count`` ranges of a Dataset Management buffer; ValueError if it is shorter."""
    size = DsmRange.SIZE
    return tuple(DsmRange(raw[at : at + size]) for at in range(0, count * size, size))


def encode_ranges(ranges: Iterable[Structure]) -> bytes:
    """Return ranges in a row, as the data of Dataset Management or Copy."""
    return b"".join(ranges)
