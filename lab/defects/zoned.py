"""Mistakes of drivers with zoned namespaces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lab.defects.defect import defect
from lab.nvme.commands import Command, LbaCommand, Write, ZoneAppend, ZoneManagementSend
from lab.nvme.zones import ZoneDescriptor, ZoneSendAction
from lab.reference.namespace import Namespace
from lab.reference.zoned import ZonedNamespace


@defect("zoned/sequential:last-first", scenarios=("zoned/sequence",))
class LastFirst(ZonedNamespace):
    """Writes the parts of a long transfer from the last one to the first."""

    def _run(self, commands: Sequence[Command]) -> None:
        super()._run(commands[::-1])


@defect("zoned/sequential:one-beyond", scenarios=("zoned/sequence",))
class OneBeyond(ZonedNamespace):
    """Writes each first part of a zone one block behind the write pointer."""

    def command(self, kind: type[LbaCommand], lba: int, blocks: int, flags: dict[str, int]) -> Command:
        """Return a command that begins one block late where it writes the beginning of a zone."""
        late = int(kind is Write and not lba % self.zone_blocks)
        return super().command(kind, lba + late, blocks, flags)


@defect("zoned/in-order:all-at-once", scenarios=("zoned/slow",))
class AllAtOnce(ZonedNamespace):
    """Submits all parts of a write together, as to a namespace without zones."""

    def _run(self, commands: Sequence[Command]) -> None:
        Namespace._run(self, commands)


@defect("zoned/boundary:not-split", scenarios=("zoned/boundary",))
class NotSplit(ZonedNamespace):
    """Splits transfers at MDTS, and at no zone."""

    def split(self, lba: int, blocks: int) -> Iterator[tuple[int, int]]:
        """Yield (LBA, blocks) of each command, split at MDTS only."""
        return Namespace.split(self, lba, blocks)


@defect("zoned/limits:opens-each", scenarios=("zoned/resources",))
class OpensEach(ZonedNamespace):
    """Opens each zone explicitly before it writes there, and closes none."""

    def write(self, lba: int, data: bytes, **more: Any) -> None:
        """Open the zone, and write."""
        self.manage(ZoneSendAction.OPEN, lba - lba % self.zone_blocks)
        super().write(lba, data, **more)


@defect("zoned/limits:closes-only", scenarios=("zoned/resources",))
class ClosesOnly(ZonedNamespace):
    """Closes a zone where it is to finish it, so that it stays active."""

    def manage(self, action: ZoneSendAction, lba: int | None) -> None:
        """Close zones instead of finishing them."""
        super().manage(ZoneSendAction.CLOSE if action == ZoneSendAction.FINISH else action, lba)


@defect("zoned/zone-start:at-pointer", scenarios=("zoned/append",))
class AtPointer(ZonedNamespace):
    """Appends at the write pointer, as if Zone Append were a write."""

    def command(self, kind: type[LbaCommand], lba: int, blocks: int, flags: dict[str, int]) -> Command:
        """Return a command; one that appends names the write pointer."""
        if kind is ZoneAppend:
            lba = next(one.WP for one in self.report() if one.ZSLBA == lba)
        return super().command(kind, lba, blocks, flags)


@defect("zoned/zone-start:last-block", scenarios=("zoned/reset",))
class LastBlock(ZonedNamespace):
    """Names a zone by its last block."""

    def management_command(self, action: ZoneSendAction, lba: int | None) -> ZoneManagementSend:
        """Return the command for the zone that ends where it should begin."""
        return super().management_command(action, lba if lba is None else lba + self.zone_blocks - 1)


@defect("zoned/append-limit:mdts", scenarios=("zoned/append",))
class AppendsByMdts(ZonedNamespace):
    """Bounds Zone Append by MDTS, and forgets ZASL."""

    @property
    def append_blocks(self) -> int:
        """The blocks that one command may move."""
        return self.max_blocks


@defect("zoned/report:relative-pointers", scenarios=("zoned/sequence",))
class RelativePointers(ZonedNamespace):
    """Takes write pointers for counted from the beginning of their zone."""

    def report(self) -> list[ZoneDescriptor]:
        """Return descriptors with the beginning of the zone added to each write pointer."""
        return [one.but(WP=one.ZSLBA + one.WP) for one in super().report()]


@defect("zoned/report:last-left-out", scenarios=("zoned/sequence",))
class LastLeftOut(ZonedNamespace):
    """Takes the number of zones for 0's based, and leaves the last one out."""

    def report(self) -> list[ZoneDescriptor]:
        """Return all descriptors but the last."""
        return super().report()[:-1]


@defect("zoned/placed:zone-start", scenarios=("zoned/append",))
class PlacedAtStart(ZonedNamespace):
    """Takes the zone's first block for the place of what it has appended."""

    def assigned(self, start: int, low: int, high: int) -> int:
        """Return the zone's first block."""
        return start


@defect("zoned/placed:swapped", scenarios=("zoned/append",))
class PlacedSwapped(ZonedNamespace):
    """Takes dword 1 of the completion for the low half of the assigned block, and dword 0 for the high half."""

    def assigned(self, start: int, low: int, high: int) -> int:
        """Return the halves the wrong way round."""
        return low << 32 | high


@defect("zoned/kept:select-all", scenarios=("zoned/reset",))
class ResetsAll(ZonedNamespace):
    """Sets Select All whichever zone it is to reset."""

    def management_command(self, action: ZoneSendAction, lba: int | None) -> ZoneManagementSend:
        """Return the command for all zones."""
        return super().management_command(action, lba).but(SELECT_ALL=1)


@defect("zoned/kept:resets-first", scenarios=("zoned/sequence", "zoned/reset"))
class ResetsFirst(ZonedNamespace):
    """Resets a zone that is not empty before it writes there."""

    def write(self, lba: int, data: bytes, **more: Any) -> None:
        """Reset the zone, and write."""
        self.manage(ZoneSendAction.RESET, lba - lba % self.zone_blocks)
        super().write(lba, data, **more)
