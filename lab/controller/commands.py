"""How a command handler is declared: a row of a table, from which the checks that all commands share derive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from lab.controller.core import Core
from lab.controller.fetched import CommandStatusError, FetchedCommand
from lab.controller.parts import Parts
from lab.nvme.commands import Command
from lab.nvme.logs import CommandEffects
from lab.nvme.status import Status

C = TypeVar("C", bound=Command)

Handler = Callable[[Parts, FetchedCommand, C], int]
"""Executes a command: returns dword 0 of its completion; raises CommandStatusError, CommandPendingError or DmaRefusedError."""


class CommandRow(Generic[C]):
    """One command that the controller knows."""

    def __init__(
        self,
        command: type[C],
        handler: Handler[C],
        *,
        nsid: bool = True,
        supported: Callable[[Core], bool] | None = None,
        **effects: int,
    ) -> None:
        """Declare a command.

        ``nsid``: it uses the namespace id; ``supported``: whether a controller has it, by its Identify data; ``effects``:
        fields of its entry in log page 05h.
        """
        if command.OPCODE is None:
            raise TypeError(f"{command.__name__} has no opcode")
        self.opcode = command.OPCODE
        self._command, self._handler, self._nsid, self._supported = command, handler, nsid, supported
        self.effects = int(CommandEffects.of(CSUPP=1, **effects))
        dirty = command(b"\xff" * command.SIZE).reserved
        self._reserved = sum(bits << 8 * offset for offset, bits in dirty.items())

    def supported(self, core: Core) -> bool:
        """Return whether a controller has it."""
        return self._supported is None or self._supported(core)

    def execute(self, parts: Parts, request: FetchedCommand) -> int:
        """Decode the command, remark on what must be zero and is not, and execute it."""
        core = parts.core
        if self._supported is not None and not self._supported(core):
            raise CommandStatusError(Status.INVALID_OPCODE)
        raw = request.raw
        command = self._command(raw)
        if int.from_bytes(raw, "little") & self._reserved:
            core.remark("sqe-reserved", sqid=request.sq.qid, cid=request.cid, bits=command.reserved)
        if request.flags & 3:
            core.remark("fuse", sqid=request.sq.qid, cid=request.cid, fuse=request.flags & 3)
            raise CommandStatusError(Status.INVALID_FIELD)
        if request.nsid and not self._nsid:
            core.remark("nsid-unused", sqid=request.sq.qid, cid=request.cid, nsid=request.nsid)
        return self._handler(parts, request, command)


Table = dict[int, CommandRow[Any]]
"""Opcode to command."""


def table(*rows: CommandRow[Any]) -> Table:
    """Return the table of these commands."""
    return {row.opcode: row for row in rows}
