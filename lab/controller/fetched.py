"""One command on its way through the controller, and how it can end."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Protocol

from lab.controller.queues import Posting, SubmissionQueue
from lab.nvme.status import Status, StatusType

_HEAD = struct.Struct("<BBHI8xQQQ")  # what every command has: opcode, flags, CID, NSID, MPTR, PRP1, PRP2


class Strike(Protocol):
    """A fault's effect on one command; `lab.controller.behaviour.Behaviour` implements it."""

    def begin(self, request: FetchedCommand) -> bool:
        """Step in before the command is executed; return whether it is executed now."""

    def access(self, address: int, length: int) -> None:
        """Step in before an access to host memory."""

    def data(self, data: bytes) -> bytes:
        """Return the data that go to the host."""

    def end(self, request: FetchedCommand, posting: Posting) -> list[Posting]:
        """Return the completions that are posted, in order."""


class FetchedCommand:
    """A fetched submission queue entry: its raw bytes, the fields that all commands have, and the faults that strike it."""

    __slots__ = ("cid", "flags", "key", "mptr", "nsid", "on_abort", "opcode", "prp1", "prp2", "raw", "sq", "strikes")

    def __init__(self, sq: SubmissionQueue, raw: bytes) -> None:
        """Take the 64 bytes ``raw`` of queue ``sq``."""
        self.sq = sq
        self.opcode: int
        self.flags: int  # FUSE and PSDT
        self.cid: int
        self.nsid: int
        self.mptr: int
        self.prp1: int
        self.prp2: int
        self.key: tuple[int, int]
        """(SQID, CID): unique among the commands in flight."""
        self.edit(raw)
        self.strikes: tuple[Strike, ...] = ()
        self.on_abort: Callable[[], None] | None = None
        """Called when the command is aborted while it is kept."""

    def edit(self, raw: bytes) -> None:
        """Take these 64 bytes for the entry, before it is executed."""
        self.raw = raw
        self.opcode, self.flags, self.cid, self.nsid, self.mptr, self.prp1, self.prp2 = _HEAD.unpack_from(raw)
        self.key = self.sq.qid, self.cid


MORE = 1 << 13
DNR = 1 << 14
"""Bits of `Posting.status`."""


class CommandStatusError(Exception):
    """A command ends with this status. ``dnr`` None: do not retry unless the medium or the path is to blame."""

    def __init__(self, status: int, *, dnr: bool | None = None, dw0: int = 0) -> None:
        """Create the error; ``status`` is SCT << 8 | SC, with the retry delay index in bits 12:11."""
        super().__init__(status)
        self.status, self.dw0 = int(status), dw0
        self.dnr = status >> 8 not in (StatusType.MEDIA, StatusType.PATH) if dnr is None else dnr

    def __str__(self) -> str:
        """Return the status in words."""
        return Status(self.status).text if self.status in Status._value2member_map_ else f"{self.status:#x}"


class CommandPendingError(Exception):
    """A command does not end now; the part that keeps it completes it later."""
