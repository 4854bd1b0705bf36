"""The data of reservation commands. Base 2.0, 7.2? to 7.5?"""

from __future__ import annotations

from enum import IntEnum

from lab.nvme.fields import U8, U16, U32, U64, Bits, Raw, Structure


class ReservationType(IntEnum):
    """RTYPE."""

    WRITE_EXCLUSIVE = 1
    EXCLUSIVE_ACCESS = 2
    WRITE_EXCLUSIVE_REGISTRANTS = 3
    EXCLUSIVE_ACCESS_REGISTRANTS = 4
    WRITE_EXCLUSIVE_ALL = 5
    EXCLUSIVE_ACCESS_ALL = 6


class RegisterData(Structure, size=16):
    """Data of Reservation Register."""

    CRKEY = U64(0)  # current key
    NRKEY = U64(8)  # new key


class AcquireData(Structure, size=16):
    """Data of Reservation Acquire."""

    CRKEY = U64(0)
    PRKEY = U64(8)  # key to preempt


class ReleaseData(Structure, size=8):
    """Data of Reservation Release."""

    CRKEY = U64(0)


class ReservationStatus(Structure, size=24):
    """The head of what Reservation Report returns; where EDS is asked for, 40 reserved bytes follow it."""

    GEN = U32(0)  # counts changes
    RTYPE = U8(4)
    REGCTL = U16(5)  # registered controllers that follow
    PTPLS = U8(9)


class RegisteredController(Structure, size=24):
    """Registered Controller, 64-bit host identifier."""

    CNTLID = U16(0)
    HOLDS = Bits(0, at=2)  # the reservation
    HOSTID = U64(8)
    RKEY = U64(16)


class RegisteredControllerExtended(Structure, size=64):
    """Registered Controller, 128-bit host identifier."""

    CNTLID = U16(0)
    HOLDS = Bits(0, at=2)
    RKEY = U64(8)
    HOSTID = Raw(16, 16)
