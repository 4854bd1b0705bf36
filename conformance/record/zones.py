"""Where the write pointer of each zone is, as far as the commands and their completions say. Zoned 1.1, 2.1.1.2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from conformance.record.record import Record
from conformance.record.state import State
from lab.data.events import Completed, Reset, Submitted
from lab.data.plan import Namespace
from lab.nvme.commands import (
    Command,
    Copy,
    FormatNvm,
    LbaCommand,
    Write,
    WriteUncorrectable,
    WriteZeroes,
    ZoneAppend,
    ZoneManagementReceive,
    ZoneManagementSend,
)
from lab.nvme.status import Status, StatusType
from lab.nvme.zones import ZoneSendAction

ADDRESSED = (Write, WriteZeroes, WriteUncorrectable)
"""Address-specific write commands, without Copy. 1.4.4.2."""
OF_BLOCKS = (LbaCommand, Copy, ZoneManagementSend, ZoneManagementReceive)
"""Commands about the blocks or the zones of one namespace."""


@dataclass
class Pointers:
    """The write pointers of one namespace's zones."""

    namespace: Namespace
    known: dict[int, int | None] = field(default_factory=dict)
    """By a zone's first block; None where nobody can say, and left out where the zone is empty."""

    def start(self, lba: int) -> int:
        """Return the first block of the zone that a block is in."""
        return lba - lba % self.namespace.zone_blocks

    def end(self, lba: int) -> int:
        """Return the end of what can be written of the zone that a block is in."""
        return self.start(lba) + self.namespace.writable_zone

    def at(self, lba: int) -> int | None:
        """Return the write pointer of the zone that a block is in; None if it is unknown."""
        start = self.start(lba)
        return self.known.get(start, start)

    def written(self) -> list[int]:
        """Return the first blocks of the zones that hold data."""
        return [start for start, pointer in self.known.items() if pointer is not None and pointer > start]

    def forget(self, command: Command) -> None:
        """Take a command of which nobody knows how far it came."""
        if isinstance(command, (*ADDRESSED, ZoneAppend)):
            self.known[self.start(command.SLBA)] = None
        elif isinstance(command, Copy):
            self.known[self.start(command.SDLBA)] = None
        elif isinstance(command, ZoneManagementSend):
            self.known = dict.fromkeys(range(0, self.namespace.blocks, self.namespace.zone_blocks))

    def succeed(self, command: Command) -> None:
        """Take a command that succeeded."""
        if isinstance(command, (*ADDRESSED, ZoneAppend)):
            before = self.at(command.SLBA)
            self.known[self.start(command.SLBA)] = None if before is None else before + command.blocks
        elif isinstance(command, Copy):
            self.forget(command)
        elif isinstance(command, ZoneManagementSend):
            self._manage(command)

    def _manage(self, command: ZoneManagementSend) -> None:
        starts = list(self.known) if command.SELECT_ALL else [self.start(command.SLBA)]
        for start in starts:
            if command.ZSA == ZoneSendAction.RESET:
                self.known.pop(start, None)
            elif command.ZSA == ZoneSendAction.FINISH:
                self.known[start] = self.end(start)


class ZonedCommand(NamedTuple):
    """A command to a zoned namespace, with what was known just before it."""

    state: State
    event: Submitted
    command: Command
    pointers: Pointers

    @property
    def writes_in_flight(self) -> list[LbaCommand]:
        """Writes in flight to the zone of this command."""
        lba = getattr(self.command, "SLBA", 0)
        others = [one.command for one in self.state.in_flight.values() if one.sqid]
        mine = [one for one in others if isinstance(one, (*ADDRESSED, ZoneAppend)) and one.NSID == self.command.NSID]
        return [one for one in mine if self.pointers.start(one.SLBA) == self.pointers.start(lba)]


def zoned_commands(record: Record) -> Iterator[ZonedCommand]:
    """Yield the commands to zoned namespaces, which no other controller writes to."""
    found: dict[tuple[str, int], Pointers] = {}
    if not any(n.zone_blocks for controller in record.controllers for n in controller.namespaces):
        return
    for state, event in record.walk(Submitted, Completed, Reset):
        if isinstance(event, Reset):
            for one in state.in_flight.values():
                if one.sqid and (pointers := _pointers(found, state, one.command)):
                    pointers.forget(one.command)
            continue
        sent = event if isinstance(event, Submitted) else state.answered(event) if isinstance(event, Completed) else None
        if sent is None:
            continue
        if not sent.sqid:
            if isinstance(event, Completed) and isinstance(sent.command, FormatNvm):
                found.clear()
            continue
        pointers = _pointers(found, state, sent.command)
        if pointers is None:
            continue
        if not isinstance(event, Completed):
            if isinstance(sent.command, OF_BLOCKS):
                yield ZonedCommand(state, sent, sent.command, pointers)
        elif event.completion.ok:
            pointers.succeed(sent.command)
        elif not _was_refused(event.completion.status):
            pointers.forget(sent.command)


def _pointers(found: dict[tuple[str, int], Pointers], state: State, command: Command) -> Pointers | None:
    """Return the pointers of a command's namespace; None if it has no zones, or is shared."""
    namespace = state.spec.namespace(command.NSID)
    if namespace is None or not namespace.zone_blocks or namespace.shared:
        return None
    return found.setdefault((state.spec.id, namespace.nsid), Pointers(namespace))


def _was_refused(status: int) -> bool:
    """Return whether a status says that nothing was written."""
    return status >> 8 == StatusType.COMMAND_SPECIFIC or status in (Status.INVALID_FIELD, Status.LBA_OUT_OF_RANGE,
                                                                    Status.INVALID_OPCODE)  # fmt: skip
