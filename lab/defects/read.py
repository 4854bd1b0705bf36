"""Defects of reading, and of describing memory by PRP entries."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from lab.defects.defect import defect
from lab.defects.reset import NoAbort
from lab.nvme.commands import Command, LbaCommand
from lab.nvme.completions import Completion
from lab.reference.data import DataPath
from lab.reference.errors import CommandFailed, Refused
from lab.reference.execution import Execution
from lab.reference.fat import FatVolume
from lab.reference.namespace import Namespace
from lab.reference.queue_pair import QueuePair
from lab.reference.request import Request
from lab.reference.service import Service
from lab.reference.transport import Memory

LISTED = 2
"""Pages that PRP1 and PRP2 name by themselves."""
FAT16_STATE = 37
"""Byte of a FAT16 boot sector: 1 while the file system is mounted for writing."""
PARTITION_TYPE = 446 + 4
"""Byte of an MBR: the type of the first partition, 0 if there is none."""


def pages(command: Command, memory: Memory, length: int) -> int:
    """Return the number of pages that a described transfer touches."""
    return -(-(command.PRP1 % memory.page_size + length) // memory.page_size)


@defect("read/first-last-high:32-bit")
class Lba32(Namespace):
    """Keeps the LBA in 32 bits."""

    def command(self, kind: type[LbaCommand], lba: int, blocks: int, flags: dict[str, int]) -> Command:
        """Return the command with the lower 32 bits of its LBA."""
        return super().command(kind, lba & 0xFFFF_FFFF, blocks, flags)


@defect("read/exact:offset-lost", source="Haiku 8eb950cd64", scenarios=("read/mdts",))
class OffsetLost(DataPath):
    """Moves every piece of a transfer that was split to the beginning of the buffer."""

    def describe(self, command: Command, memory: Memory, offset: int, length: int, lists: list[Memory]) -> Command:
        """Describe the data at offset 0 of the buffer."""
        return super().describe(command, memory, 0, length, lists)


@defect("read/mbr:next-sector")
class NextSector(Namespace):
    """Reads the sector behind the one that it was asked for."""

    def command(self, kind: type[LbaCommand], lba: int, blocks: int, flags: dict[str, int]) -> Command:
        """Return the command with the LBA one too large."""
        return super().command(kind, lba + 1, blocks, flags)


@defect("read/nlb:one-fewer", scenarios=("read/basic",))
class OneFewer(Namespace):
    """Takes NLB for 0's based twice, and reads one block too few."""

    def command(self, kind: type[LbaCommand], lba: int, blocks: int, flags: dict[str, int]) -> Command:
        """Return the command for one block less."""
        return super().command(kind, lba, max(blocks - 1, 1), flags)


@defect("read/extra:one-based")
class OneBased(Namespace):
    """Sends the number of blocks, where NLB is 0's based."""

    def command(self, kind: type[LbaCommand], lba: int, blocks: int, flags: dict[str, int]) -> Command:
        """Return the command for one block more."""
        return super().command(kind, lba, blocks + 1, flags)


@defect("read/tags-unused:stale")
class StaleTags(Namespace):
    """Leaves the tags of an earlier command in commands without protection information."""

    def command(self, kind: type[LbaCommand], lba: int, blocks: int, flags: dict[str, int]) -> Command:
        """Return the command with a reference tag."""
        return super().command(kind, lba, blocks, {**flags, "ILBRT": lba & 0xFFFF_FFFF or 7})


@defect("read/pract-unused:always")
class AlwaysPract(Namespace):
    """Sets PRACT in every command, whatever the format."""

    def command(self, kind: type[LbaCommand], lba: int, blocks: int, flags: dict[str, int]) -> Command:
        """Return the command with PRINFO=8."""
        return super().command(kind, lba, blocks, {**flags, "PRINFO": 8})


@defect("read/active-namespace:next")
class NextNamespace(Namespace):
    """Reads the namespace after the one that it was asked for."""

    def command(self, kind: type[LbaCommand], lba: int, blocks: int, flags: dict[str, int]) -> Command:
        """Return the command with NSID one too large."""
        return super().command(kind, lba, blocks, flags).but(NSID=self.nsid + 1)


@defect("read/failed-data:swallowed", scenarios=("read/media-error",))
class Swallowed(Execution):
    """Takes every command that has a completion for a success."""

    def run(
        self, pair: QueuePair, commands: Sequence[Command], *, retry: bool = True, depth: int | None = None
    ) -> list[Completion]:
        """Run the commands, and return success for those that failed."""
        with suppress(CommandFailed):
            return super().run(pair, commands, retry=False, depth=depth)
        return [Completion.of() for _ in commands]


@defect("read/in-range:unchecked", scenarios=("read/past-end",))
class Unchecked(Namespace):
    """Asks the controller for blocks behind the last one."""

    def check_range(self, lba: int, blocks: int) -> None:
        """Let every range pass."""


@defect("read/prp1-offset:masked")
class Masked(DataPath):
    """Clears the offset of PRP1 into its page."""

    def describe(self, command: Command, memory: Memory, offset: int, length: int, lists: list[Memory]) -> Command:
        """Return the command with PRP1 rounded down to a page."""
        described = super().describe(command, memory, offset, length, lists)
        return described.but(PRP1=described.PRP1 & -memory.page_size)


@defect("read/prp2:missing")
class NoSecondPage(DataPath):
    """Leaves PRP2 0 where the data goes on in a second page."""

    def describe(self, command: Command, memory: Memory, offset: int, length: int, lists: list[Memory]) -> Command:
        """Return the command with PRP2=0 where it would be a page."""
        described = super().describe(command, memory, offset, length, lists)
        return described.but(PRP2=0) if pages(described, memory, length) == LISTED else described


@defect("read/prp2:junk", source="Linux 5228b3280b9b")
class Junk(DataPath):
    """Leaves junk in PRP2 where it is not used."""

    def describe(self, command: Command, memory: Memory, offset: int, length: int, lists: list[Memory]) -> Command:
        """Return the command with PRP2 set where it would be 0."""
        described = super().describe(command, memory, offset, length, lists)
        return described if described.PRP2 else described.but(PRP2=0xDEAD_B000)


class _ListDefect(DataPath):
    """What is wrong is in the PRP list."""

    def describe(self, command: Command, memory: Memory, offset: int, length: int, lists: list[Memory]) -> Command:
        first = len(lists)
        described = super().describe(command, memory, offset, length, lists)
        if len(lists) == first:
            return described
        own = lists[first:]
        spoilt = self.spoil(described, memory, offset, own[0], own)
        lists[first:] = own
        return spoilt

    def spoil(self, command: Command, memory: Memory, offset: int, page: Memory, lists: list[Memory]) -> Command:
        """Return the command, after its first list ``page`` or the others of ``lists`` were changed."""
        raise NotImplementedError


@defect("read/prp-list:first-page-too")
class FirstPageToo(_ListDefect):
    """Begins a PRP list with the page that PRP1 names already."""

    def spoil(self, command: Command, memory: Memory, offset: int, page: Memory, lists: list[Memory]) -> Command:
        """Put the first page before the list's entries."""
        own = memory.pages[offset // memory.page_size]
        page.write(0, own.to_bytes(8, "little") + page.read(0, len(page) - 8))
        return command


@defect("read/prp-list:misaligned", source="U-Boot b21dcebfa6b")
class MisalignedList(_ListDefect):
    """Puts a PRP list at an address that is no multiple of 8."""

    def spoil(self, command: Command, memory: Memory, offset: int, page: Memory, lists: list[Memory]) -> Command:
        """Move the list and PRP2 by four bytes."""
        page.write(4, page.read(0, len(page) - 4))
        return command.but(PRP2=command.PRP2 + 4)


@defect("read/prp-entries:offset")
class EntryOffset(_ListDefect):
    """Gives the entries of a PRP list an offset into their pages."""

    def spoil(self, command: Command, memory: Memory, offset: int, page: Memory, lists: list[Memory]) -> Command:
        """Add 8 to the list's first entry."""
        page.write(0, (int.from_bytes(page.read(0, 8), "little") + 8).to_bytes(8, "little"))
        return command


@defect("read/mdts-split:never", scenarios=("read/mdts",))
class NeverSplit(Namespace):
    """Sends a transfer as one command, however small MDTS is."""

    @property
    def max_blocks(self) -> int:
        """65536, the most that NLB can say."""
        return 1 << 16


@defect("read/odd-buffer:as-it-is", source="Haiku 69880fc7cb")
class AsItIs(DataPath):
    """Points PRP1 at an odd address."""

    def can_describe(self, offset: int) -> bool:
        """Return True for every offset, aligned or not."""
        return True

    def describe(self, command: Command, memory: Memory, offset: int, length: int, lists: list[Memory]) -> Command:
        """Return the command with the lowest two bits of the offset in PRP1."""
        described = super().describe(command, memory, offset & ~3, length, lists)
        return described.but(PRP1=described.PRP1 | offset & 3)


@defect("read/block-4096:in-512s", source="Asterinas issue 1984")
class In512s(Namespace):
    """Counts NLB in units of 512 bytes, whatever the block size is."""

    def command(self, kind: type[LbaCommand], lba: int, blocks: int, flags: dict[str, int]) -> Command:
        """Return the command with its length in units of 512 bytes."""
        return super().command(kind, lba, blocks * self.block_size // 512, flags)


@defect("read/owned-memory:page-given-back", scenarios=("read/strict-iommu",))
class PageGivenBack(DataPath):
    """Points PRP2 at a page that it has given back."""

    def describe(self, command: Command, memory: Memory, offset: int, length: int, lists: list[Memory]) -> Command:
        """Return the command with a freed page in PRP2 where it would be a page."""
        described = super().describe(command, memory, offset, length, lists)
        if pages(described, memory, length) != LISTED:
            return described
        page = self._c.transport.allocate(memory.page_size, memory.page_size)
        self._c.transport.free(page)
        return described.but(PRP2=page.address)


@defect("read/owned-memory:list-given-back", scenarios=("read/strict-iommu",))
class ListGivenBack(_ListDefect):
    """Gives a PRP list back as soon as the command is built."""

    def spoil(self, command: Command, memory: Memory, offset: int, page: Memory, lists: list[Memory]) -> Command:
        """Free the list pages before the command is sent."""
        for listed in lists:
            self._c.transport.free(listed)
        lists.clear()
        return command


@defect("read/owned-memory:left-behind", scenarios=("reset/stall",))
class LeftBehind(NoAbort):
    """Gives back the buffer of a command that was not completed in time, while the controller may still write to it."""


@defect("read/mptr-zero:junk")
class MetadataPointer(DataPath):
    """Leaves junk in MPTR, although there is no metadata."""

    def describe(self, command: Command, memory: Memory, offset: int, length: int, lists: list[Memory]) -> Command:
        """Return the command with MPTR=1000h."""
        return super().describe(command, memory, offset, length, lists).but(MPTR=0x1000)


@defect("read/prp-chain:needless", source="U-Boot 4ca8d95ce1e", scenarios=("read/chain",))
class NeedlessChain(_ListDefect):
    """Chains another list page as soon as one is full, although nothing is left for it."""

    def spoil(self, command: Command, memory: Memory, offset: int, page: Memory, lists: list[Memory]) -> Command:
        """Move the last entry of a full list page to a page of its own."""
        last = page.read(len(page) - 8, 8)
        if any(last) and len(lists) == 1:
            lists.append(self._c.transport.allocate(len(page), page.page_size))
            lists[-1].write(0, last)
            page.write(len(page) - 8, lists[-1].address.to_bytes(8, "little"))
        return command


@defect("read/prp-chain:never", scenarios=("read/chain",))
class NeverChained(_ListDefect):
    """Fills the last slot of a full list page with a data page, and the rest of the list is never read."""

    def spoil(self, command: Command, memory: Memory, offset: int, page: Memory, lists: list[Memory]) -> Command:
        """Replace the pointer to the second list page by that page's first entry."""
        if len(lists) > 1:
            page.write(len(page) - 8, lists[1].read(0, 8))
        return command


@defect("read/prp-chain:filled-elsewhere", source="U-Boot 4f510505988", scenarios=("read/chain", "read/mdts-long"))
class FilledElsewhere(_ListDefect):
    """Writes the entries of a chained list page eight pages further on: the page has what was there before."""

    def spoil(self, command: Command, memory: Memory, offset: int, page: Memory, lists: list[Memory]) -> Command:
        """Fill chained pages with the bytes of an earlier owner."""
        for chained in lists[1:]:
            chained.write(0, b"\x00\x50\x5a\x5a\x5a\x5a\x00\x00" * (len(chained) // 8))
        return command


@defect("read/prp-chain:one-slot-too-far", scenarios=("read/chain",))
class OneSlotTooFar(_ListDefect):
    """Advances the pointer into a chained list page by one slot too much."""

    def spoil(self, command: Command, memory: Memory, offset: int, page: Memory, lists: list[Memory]) -> Command:
        """Move the entries of chained pages one slot up, behind an entry of 0."""
        for chained in lists[1:]:
            chained.write(0, bytes(8) + chained.read(0, len(chained) - 8))
        return command


@defect("read/scattered:assumed-contiguous")
class AssumedContiguous(DataPath):
    """Takes the pages of a buffer for neighbours on the bus."""

    def describe(self, command: Command, memory: Memory, offset: int, length: int, lists: list[Memory]) -> Command:
        """Describe the buffer as if its pages followed its first one."""
        pages = range(memory.address, memory.address + len(memory), memory.page_size)
        return super().describe(command, replace(memory, pages=tuple(pages)), offset, length, lists)


@defect("read/media-error:ignored", source="Redox efab539, EDK2 9a77210b43")
class Ignored(Namespace):
    """Does not look at the status of its I/O commands."""

    def _run(self, commands: Sequence[Command]) -> None:
        with suppress(CommandFailed):
            super()._run(commands)


@defect("read/out-of-order:first-in-first-out")
class FirstInFirstOut(QueuePair):
    """Takes a completion for the end of all commands that were submitted before it."""

    def match(self, completion: Completion) -> Request | None:
        """Return the command, and end those with lower identifiers by the same completion."""
        request = super().match(completion)
        for cid in [cid for cid in self.outstanding if request and self.qid and cid < completion.CID]:
            self.outstanding.pop(cid).end(completion)
        return request


class _NextCluster(FatVolume):
    """Reads files, but not folders, one cluster too far."""

    def read_chain(self, cluster: int, *, of_file: bool = False) -> bytes:
        """Return what follows the first cluster of a file."""
        return super().read_chain(cluster + of_file, of_file=of_file)


class _Dirty(FatVolume):
    """Marks the file system as in use, as systems do that mount it for writing."""

    def __init__(self, namespace: Namespace) -> None:
        super().__init__(namespace)
        namespace.patch(0, FAT16_STATE, b"\1")


class _WithPartitions(FatVolume):
    """Looks for the file system in the first partition, whether there is one or not."""

    def __init__(self, namespace: Namespace) -> None:
        if namespace.read(0, 1)[PARTITION_TYPE] == 0:
            raise Refused("there is no partition")
        super().__init__(namespace)


@defect("read/mount:next-cluster", scenarios=("read/mount-vfat",))
class NextCluster(Service):
    """Counts the clusters of a file system from 1, where they begin at 2, and returns what follows a file."""

    volume = _NextCluster


@defect("read/mountable:wants-partitions", scenarios=("read/mount-vfat",))
class WantsPartitions(Service):
    """Mounts partitions only, and finds none on a disk that is one file system as a whole."""

    volume = _WithPartitions


@defect("read/mount-changes-nothing:marks-it-dirty", scenarios=("read/mount-vfat",))
class MarksItDirty(Service):
    """Marks a file system as in use when it mounts it, though nothing is to be written."""

    volume = _Dirty
