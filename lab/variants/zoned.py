"""Legal ways to use zoned namespaces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

from lab.nvme.commands import Command, LbaCommand, Read, Write, ZoneAppend, ZoneManagementReceive, ZoneManagementSend
from lab.nvme.zones import ReportZones, ZoneDescriptor, ZoneSendAction, parse_report
from lab.reference.identification import Identification, ZonedIdentity
from lab.reference.transport import Memory
from lab.reference.zoned import ZonedNamespace
from lab.variants.variant import variant

SEQUENCE, RESOURCES = ("zoned/sequence", "zoned/reset"), ("zoned/resources", "zoned/sequence")
SMALL = 8
"""Blocks of a command of the driver that moves few."""


@variant(
    "zoned/opens-and-closes",
    allowed='Zoned 1.1, A.3 "Open Zone Considerations": a host may open a zone explicitly, write, and close it',
    scenarios=RESOURCES,
)
class OpensAndCloses(ZonedNamespace):
    """Opens each zone explicitly before it writes there, and closes it afterwards."""

    def write(self, lba: int, data: bytes, **more: Any) -> None:
        """Open the zones, write, and close what is not full."""
        if not data:
            return super().write(lba, data, **more)
        last = lba + len(data) // self.block_size - 1
        every = self.zone_blocks
        for number in range(lba // every, last // every + 1):
            begin, end = max(lba, number * every), min(last + 1, (number + 1) * every)
            self.manage(ZoneSendAction.OPEN, number * every)
            part = data[(begin - lba) * self.block_size : (end - lba) * self.block_size]
            super().write(begin, part, **more)
            if not any(one.ZSLBA == number * every and one.is_full for one in self.report()):
                self.manage(ZoneSendAction.CLOSE, number * every)
        return None


@variant(
    "zoned/appends-instead",
    allowed='Zoned 1.1, 3.4.1 "Zone Append command": a host may append in place of a write at the write pointer',
    scenarios=SEQUENCE,
)
class AppendsInstead(ZonedNamespace):
    """Appends whatever it is to write to a zone; it is the only one that writes."""

    def command(self, kind: type[LbaCommand], lba: int, blocks: int, flags: dict[str, int]) -> Command:
        """Return Zone Append in place of Write."""
        if kind is Write:
            return super().command(ZoneAppend, lba - lba % self.zone_blocks, blocks, flags)
        return super().command(kind, lba, blocks, flags)


@variant(
    "zoned/zone-by-zone",
    allowed='Zoned 1.1, 3.4.2 "Zone Management Receive command": SLBA and the number of dwords are the host\'s choice',
    scenarios=SEQUENCE,
)
class ZoneByZone(ZonedNamespace):
    """Asks for one zone's descriptor at a time, by a block in the middle of it, and for the number of all that match."""

    def report(self) -> list[ZoneDescriptor]:
        """Return every zone's descriptor."""
        found = list[ZoneDescriptor]()
        length = ReportZones.SIZE + ZoneDescriptor.SIZE
        for lba in range(self.zone_blocks // 2, self.blocks, self.zone_blocks):
            command = ZoneManagementReceive.of(NSID=self.nsid, SLBA=lba, NUMD=length // 4 - 1)
            with self._data.buffer(length) as memory:
                self._execution.with_data(self._c.pair(), command, memory, length)
                found += parse_report(memory.read(0, length))
        return found


@variant(
    "zoned/resets-one-by-one",
    allowed='Zoned 1.1, 3.4.3 "Zone Management Send command": Select All is for a host that wants it',
    scenarios=("zoned/reset",),
)
class ResetsOneByOne(ZonedNamespace):
    """Resets each zone by a command of its own where all are to be reset."""

    def manage(self, action: ZoneSendAction, lba: int | None) -> None:
        """Manage zones one by one."""
        for start in range(0, self.blocks, self.zone_blocks) if lba is None else (lba,):
            super().manage(action, start)


@variant(
    "zoned/all-with-address",
    allowed='Zoned 1.1, 3.4.3 "Zone Management Send command": with Select All, SLBA is ignored',
    scenarios=("zoned/reset",),
)
class AllWithAddress(ZonedNamespace):
    """Leaves an address in SLBA where it means all zones."""

    def management_command(self, action: ZoneSendAction, lba: int | None) -> ZoneManagementSend:
        """Return the command; for all zones with the last block in SLBA."""
        command = super().management_command(action, lba)
        return command.but(SLBA=self.blocks - 1) if lba is None else command


@variant(
    "zoned/resets-empty",
    allowed='Zoned 1.1, 3.4.3 "Zone Management Send command": a reset changes nothing about an empty zone',
    scenarios=SEQUENCE,
)
class ResetsEmpty(ZonedNamespace):
    """Resets a zone, which is empty, before it writes its first block."""

    def write(self, lba: int, data: bytes, **more: Any) -> None:
        """Reset the zone where the first block is written, and write."""
        if not lba % self.zone_blocks:
            self.manage(ZoneSendAction.RESET, lba)
        super().write(lba, data, **more)


@variant(
    "zoned/small-commands",
    allowed='Zoned 1.1, 2.1.1 "Namespaces": commands may end anywhere within a zone',
    scenarios=SEQUENCE,
)
class SmallCommands(ZonedNamespace):
    """Writes few blocks by each command, and appends no more."""

    def split(self, lba: int, blocks: int) -> Iterator[tuple[int, int]]:
        """Yield (LBA, blocks) of each command."""
        for at, count in super().split(lba, blocks):
            for begin in range(at, at + count, SMALL):
                yield begin, min(SMALL, at + count - begin)

    @property
    def append_blocks(self) -> int:
        """The blocks of one Zone Append."""
        return min(SMALL, super().append_blocks)


@variant(
    "zoned/appends-at-once",
    allowed='Zoned 1.1, 3.4.1 "Zone Append command": several may be outstanding for one zone, and end in any order',
    scenarios=("zoned/append",),
)
class AppendsAtOnce(ZonedNamespace):
    """Has all parts of an append in flight at once, and names their places last first."""

    def append(self, start: int, data: bytes) -> list[tuple[int, int]]:
        """Append whole blocks by commands that are submitted together."""
        step = self.append_blocks * self.block_size
        parts = [data[at : at + step] for at in range(0, len(data), step)]
        commands, lists = list[Command](), list[Memory]()
        try:
            with ExitStack() as held:
                for part in parts:
                    memory = held.enter_context(self._data.buffer(len(part)))
                    memory.write(0, part)
                    command = self.command(ZoneAppend, start, len(part) // self.block_size, {})
                    commands.append(self._data.describe(command, memory, 0, len(part), lists))
                done = self._execution.run(self._c.pair(), commands)
        finally:
            for page in lists:
                self._data.release(page)
        places = [self.assigned(start, one.DW0, one.DW1) for one in done]
        return [(lba, len(part) // self.block_size) for lba, part in zip(places, parts, strict=True)][::-1]


@variant(
    "zoned/merged-places",
    allowed='Zoned 1.1, 3.4.1 "Zone Append command": how a host tells its user of assigned blocks is its choice',
    scenarios=("zoned/append",),
)
class MergedPlaces(ZonedNamespace):
    """Appends by commands half as long as they may be, and names neighbouring places as one."""

    @property
    def append_blocks(self) -> int:
        """The blocks of one Zone Append."""
        return max(1, super().append_blocks // 2)

    def append(self, start: int, data: bytes) -> list[tuple[int, int]]:
        """Append whole blocks, and join what lies side by side."""
        joined = list[tuple[int, int]]()
        for lba, blocks in super().append(start, data):
            if joined and sum(joined[-1]) == lba:
                joined[-1] = joined[-1][0], joined[-1][1] + blocks
            else:
                joined.append((lba, blocks))
        return joined


@variant(
    "zoned/limits-each-time",
    allowed='Zoned 1.1, 4.1.5 "Identify Command": how often a host reads what does not change is its choice',
    scenarios=SEQUENCE,
)
class LimitsEachTime(Identification):
    """Reads what is special about a zoned namespace twice."""

    def zoned(self, nsid: int) -> ZonedIdentity:
        """Read it, and read it again."""
        super().zoned(nsid)
        return super().zoned(nsid)


@variant(
    "zoned/other-zone-in-flight",
    allowed='Zoned 1.1, 2.1.2 "Command Ordering Requirements": the order matters within one zone only',
    scenarios=("zoned/boundary",),
)
class OtherZoneInFlight(ZonedNamespace):
    """Writes to several zones at once, to each of them in order."""

    def _run(self, commands: Sequence[Command]) -> None:
        if all(isinstance(command, Read) for command in commands):
            super()._run(commands)
            return
        lanes: dict[int, list[Command]] = {}
        for command in commands:
            lanes.setdefault(command.SLBA // self.zone_blocks if isinstance(command, LbaCommand) else -1, []).append(command)
        while any(lanes.values()):
            batch = [lane.pop(0) for lane in lanes.values() if lane]
            self._execution.run(self._c.pair(), batch)
