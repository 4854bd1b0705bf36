"""Zoned namespaces. Zoned Namespace Command Set 1.1.

A zone is written in order: one command at a time, each where the one before it has ended. No command crosses into another zone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from lab.nvme.commands import Command, Read, ZoneAppend, ZoneManagementReceive, ZoneManagementSend
from lab.nvme.identify import Csi, IdentifyNamespace
from lab.nvme.zones import ReportZones, ZoneDescriptor, ZoneSendAction, parse_report
from lab.reference.core import Core
from lab.reference.data import DataPath
from lab.reference.errors import Refused
from lab.reference.execution import Execution
from lab.reference.identification import Identifiers, ZonedIdentity
from lab.reference.namespace import Namespace

REPORTED = 63
"""Zones of one report: with its head they are one page."""


class ZonedNamespace(Namespace):
    """One zoned namespace."""

    command_set: ClassVar[int] = Csi.ZONED

    def __init__(
        self,
        core: Core,
        data: DataPath,
        execution: Execution,
        nsid: int,
        identity: IdentifyNamespace,
        names: Identifiers,
        zoned: ZonedIdentity,
    ) -> None:
        """Describe an active namespace by what Identify says of it."""
        super().__init__(core, data, execution, nsid, identity, names)
        self.zoned = zoned

    @property
    def zone_blocks(self) -> int:
        """The blocks of a zone: ZSZE of the format in use."""
        return self.zoned.namespace.LBAFE[self.identity.format_index].ZSZE

    # -- reading and writing ----------------------------------------------------------------------------------------

    def split(self, lba: int, blocks: int) -> Iterator[tuple[int, int]]:
        """Yield (LBA, blocks) of each command, none of which is in two zones."""
        for at, count in super().split(lba, blocks):
            end = at + count
            while at < end:
                part = min(end - at, self.zone_blocks - at % self.zone_blocks)
                yield at, part
                at += part

    def _run(self, commands: Sequence[Command]) -> None:
        """Run commands; what writes one at a time, for the controller keeps no order. 2.1.2."""
        if all(isinstance(command, Read) for command in commands):
            super()._run(commands)
            return
        for command in commands:
            super()._run([command])

    @property
    def append_blocks(self) -> int:
        """The blocks that one Zone Append may write: ZASL, or MDTS where it says nothing. 4.1.5.2."""
        limit = self._c.limit_bytes(self.zoned.controller.ZASL)
        return self.max_blocks if limit is None else max(1, min(self.max_blocks, limit // self.block_size))

    def append(self, start: int, data: bytes) -> list[tuple[int, int]]:
        """Append whole blocks to a zone, and return (LBA, blocks) of where each part of them is."""
        blocks, rest = divmod(len(data), self.block_size)
        if rest:
            raise Refused(f"{len(data)} bytes are not a whole number of blocks of {self.block_size} bytes")
        self.check_range(start, blocks)
        placed = []
        for at in range(0, blocks, self.append_blocks):
            part = data[at * self.block_size : (at + self.append_blocks) * self.block_size]
            count = len(part) // self.block_size
            with self._data.buffer(len(part)) as memory:
                memory.write(0, part)
                command = self.command(ZoneAppend, start, count, {})
                done = self._execution.with_data(self._c.pair(), command, memory, len(part))
            placed.append((self.assigned(start, done.DW0, done.DW1), count))
        return placed

    def assigned(self, start: int, low: int, high: int) -> int:
        """Return where an append to the zone from ``start`` on has put its data: ALBA, in dwords 0 and 1. 3.4.1.2."""
        del start  # it is not there that they are, unless the zone was empty
        return high << 32 | low

    # -- zones ------------------------------------------------------------------------------------------------------

    def report(self) -> list[ZoneDescriptor]:
        """Return every zone's descriptor. 3.4.2.1.1."""
        found = list[ZoneDescriptor]()
        length = ReportZones.SIZE + REPORTED * ZoneDescriptor.SIZE
        lba = 0
        while lba < self.blocks:
            command = ZoneManagementReceive.of(NSID=self.nsid, SLBA=lba, NUMD=length // 4 - 1, PARTIAL=1)
            with self._data.buffer(length) as memory:
                self._execution.with_data(self._c.pair(), command, memory, length)
                part = parse_report(memory.read(0, length))
            if not part:
                break
            found += part
            lba = part[-1].ZSLBA + self.zone_blocks
        return found

    def manage(self, action: ZoneSendAction, lba: int | None) -> None:
        """Open, close, finish or reset the zone from ``lba`` on, or all zones. 3.4.3."""
        if lba is not None and lba % self.zone_blocks:
            raise Refused(f"no zone begins with LBA {lba}: zones have {self.zone_blocks} blocks")
        self._execution.run(self._c.pair(), [self.management_command(action, lba)])

    def management_command(self, action: ZoneSendAction, lba: int | None) -> ZoneManagementSend:
        """Return Zone Management Send for the zone from ``lba`` on, or for all zones."""
        where = {"SELECT_ALL": 1} if lba is None else {"SLBA": lba}
        return ZoneManagementSend.of(NSID=self.nsid, ZSA=action, **where)
