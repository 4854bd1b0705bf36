"""End-to-end data protection with a 16-bit guard, where the metadata is the protection information and nothing else.

NVM Command Set 1.0, 5.2 "End-to-end Data Protection". Blocks that were never written, or were deallocated, hold all ones, by
which nothing is checked (application tag FFFFh).
"""

from __future__ import annotations

from struct import Struct
from typing import Protocol

from lab.controller.fetched import CommandStatusError
from lab.controller.namespaces import StoredNamespace
from lab.nvme.status import Status

BYTES = 8
"""Of the protection information of one block."""
PRACT, GUARD, APPLICATION, REFERENCE = 0b1000, 0b0100, 0b0010, 0b0001
"""Bits of PRINFO."""
TYPE_1, TYPE_3 = 1, 3
UNCHECKED = 0xFFFF
"""The application tag of a block of which nothing is checked."""
TAGS = 0xFFFF_FFFF
_FIELDS = Struct(">HHI")
"""Guard, application tag, reference tag."""


class ProtectedCommand(Protocol):
    """A command that says what is checked."""

    SLBA: int
    PRINFO: int
    ILBRT: int
    LBAT: int
    LBATM: int


def strips(ns: StoredNamespace, command: ProtectedCommand) -> bool:
    """Return whether the protection information stays in the controller: PRACT=1, and there is no other metadata."""
    return bool(ns.protection and command.PRINFO & PRACT and ns.metadata_size == BYTES)


def check_command(ns: StoredNamespace, command: ProtectedCommand) -> None:
    """Raise CommandStatusError where the initial reference tag of type 1 is not the low half of the first LBA. 5.2.3."""
    if ns.protection == TYPE_1 and command.PRINFO & REFERENCE and command.ILBRT != command.SLBA & TAGS:
        raise CommandStatusError(Status.PROTECTION_INFO_INVALID)


def generate(ns: StoredNamespace, command: ProtectedCommand, data: bytes) -> bytes:
    """Return the protection information that the controller inserts into blocks."""
    size, steps = ns.block_size, ns.protection != TYPE_3
    return b"".join(
        _FIELDS.pack(_crc(data[at : at + size]), command.LBAT, command.ILBRT + (at // size if steps else 0) & TAGS)
        for at in range(0, len(data), size)
    )


def check(ns: StoredNamespace, command: ProtectedCommand, data: bytes, information: bytes) -> None:
    """Check what PRCHK asks for; CommandStatusError names the first check that fails."""
    wanted, size = command.PRINFO & ~PRACT, ns.block_size
    if not wanted:
        return
    for number, at in enumerate(range(0, len(information), BYTES)):
        guard, application, reference = _FIELDS.unpack_from(information, at)
        if application == UNCHECKED and (ns.protection != TYPE_3 or reference == TAGS):
            continue
        if wanted & GUARD and guard != _crc(data[number * size : number * size + size]):
            raise CommandStatusError(Status.GUARD_CHECK_ERROR)
        if wanted & APPLICATION and (application ^ command.LBAT) & command.LBATM:
            raise CommandStatusError(Status.APPLICATION_TAG_CHECK_ERROR)
        if wanted & REFERENCE and ns.protection != TYPE_3 and reference != command.ILBRT + number & TAGS:
            raise CommandStatusError(Status.REFERENCE_TAG_CHECK_ERROR)


def _table() -> tuple[int, ...]:
    """Return the remainders of all bytes by the polynomial 18BB7h."""
    found = []
    for byte in range(256):
        rest = byte << 8
        for _ in range(8):
            rest = rest << 1 ^ (0x18BB7 if rest & 0x8000 else 0)
        found.append(rest)
    return tuple(found)


_TABLE = _table()


def _crc(data: bytes) -> int:
    rest = 0
    for byte in data:
        rest = (rest << 8 & 0xFFFF) ^ _TABLE[rest >> 8 ^ byte]
    return rest
