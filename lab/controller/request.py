"""One command on its way through the controller, and how it can end."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from lab.controller.queues import SubmissionQueue
from lab.nvme.commands import Command
from lab.nvme.status import Status, StatusType

if TYPE_CHECKING:
    from lab.controller.behaviour import Behaviour

_HEAD = struct.Struct("<BBHI8xQQQ")  # what every command has: opcode, flags, CID, NSID, MPTR, PRP1, PRP2
_ENTRY = struct.Struct("<IIHHHH")


class Request:
    """A fetched submission queue entry. ``command`` is the decoded command, once its opcode is known to the controller."""

    __slots__ = ("cid", "command", "flags", "mptr", "nsid", "opcode", "prp1", "prp2", "raw", "sq", "strikes")

    def __init__(self, sq: SubmissionQueue, raw: bytes) -> None:
        self.sq, self.raw = sq, raw
        self.opcode: int
        self.flags: int  # FUSE and PSDT
        self.cid: int
        self.nsid: int
        self.mptr: int
        self.prp1: int
        self.prp2: int
        self.opcode, self.flags, self.cid, self.nsid, self.mptr, self.prp1, self.prp2 = _HEAD.unpack_from(raw)
        self.command: Command
        self.strikes: tuple[Behaviour, ...] = ()
        """The faults that have struck it."""

    @property
    def key(self) -> tuple[int, int]:
        """(queue, command identifier): unique among the commands in flight."""
        return self.sq.qid, self.cid

    @property
    def uses_sgl(self) -> bool:
        return bool(self.flags >> 6)


class Posting(NamedTuple):
    """A completion before it has a slot: what goes into it, and what a fault makes of it."""

    dw0: int
    sqhd: int
    sqid: int
    cid: int
    status: int  # SCT << 8 | SC, with M and DNR at bits 13 and 14
    wrong_phase: bool = False
    silent: bool = False  # no interrupt for it

    def entry(self, phase: int) -> bytes:
        """The 16 bytes."""
        phase ^= self.wrong_phase
        return _ENTRY.pack(self.dw0, 0, self.sqhd, self.sqid, self.cid, self.status << 1 | phase)


MORE = 1 << 13
DNR = 1 << 14
"""Bits of `Posting.status`."""


class Failed(Exception):
    """A command ends with this status. ``dnr`` None: do not retry unless the medium or the path is to blame."""

    def __init__(self, status: int, *, dnr: bool | None = None, dw0: int = 0) -> None:
        super().__init__(status)
        self.status, self.dw0 = int(status), dw0
        self.dnr = status >> 8 not in (StatusType.MEDIA, StatusType.PATH) if dnr is None else dnr

    def __str__(self) -> str:
        return Status(self.status).text if self.status in Status._value2member_map_ else f"{self.status:#x}"


class Later(Exception):
    """A command does not end now; whoever keeps it completes it."""
