"""How a command handler is declared: a row of a table, from which checks that all commands share derive."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lab.controller.request import Failed, Request
from lab.nvme.commands import Command
from lab.nvme.logs import CommandEffects
from lab.nvme.status import Status

if TYPE_CHECKING:
    from lab.controller.controller import Controller

Handler = Callable[["Controller", Request], int]
"""Executes a command: returns dword 0 of its completion; raises Failed, Later or DmaRefused."""


class Row:
    """One command that the controller knows.

    ``nsid``: it uses the namespace id; ``supported``: whether a controller has it, by its Identify data; ``effects``: fields of
    its entry in log page 05h.
    """

    def __init__(
        self,
        command: type[Command],
        handler: Handler,
        *,
        nsid: bool = True,
        supported: Callable[[Controller], bool] | None = None,
        **effects: int,
    ) -> None:
        assert command.OPCODE is not None
        self.opcode = command.OPCODE
        self._command, self._handler, self._nsid, self._supported = command, handler, nsid, supported
        self.effects = int(CommandEffects.of(CSUPP=1, **effects))
        dirty = command(b"\xff" * command.SIZE).reserved
        self._reserved = sum(bits << 8 * offset for offset, bits in dirty.items())

    def supported(self, c: Controller) -> bool:
        """Whether a controller has it."""
        return self._supported is None or self._supported(c)

    def execute(self, c: Controller, request: Request) -> int:
        """Decodes the command, remarks on what must be zero and is not, and executes it."""
        if not self.supported(c):
            raise Failed(Status.INVALID_OPCODE)
        raw = request.raw
        command = request.command = self._command(raw)
        if int.from_bytes(raw, "little") & self._reserved:
            c.remark("sqe-reserved", sqid=request.sq.qid, cid=request.cid, bits=command.reserved)
        if request.flags & 3:
            c.remark("fuse", sqid=request.sq.qid, cid=request.cid, fuse=request.flags & 3)
            raise Failed(Status.INVALID_FIELD)
        if request.nsid and not self._nsid:
            c.remark("nsid-unused", sqid=request.sq.qid, cid=request.cid, nsid=request.nsid)
        return self._handler(c, request)
