"""Legal ways to read, and to describe memory."""

from __future__ import annotations

from lab.nvme import prp
from lab.nvme.commands import Command, LbaCommand, Psdt, Read, Write
from lab.nvme.prp import ENTRY
from lab.reference.data import DataPath
from lab.reference.namespace import Namespace
from lab.reference.transport import Memory
from lab.variants.variant import variant

BASIC = ("read/basic",)
SIZES = ("read/sizes",)


@variant(
    "read/one-page-a-command",
    allowed='Base 2.0, 5.17.2.1 "Identify Controller", MDTS: an upper bound; less may be moved by each command',
    scenarios=SIZES,
    excludes=("write/one-block-a-command", "read/piecemeal"),
)
class OnePageACommand(Namespace):
    """Moves one page by each command, however much MDTS allows."""

    @property
    def max_blocks(self) -> int:
        """As many blocks as a page holds."""
        return min(super().max_blocks, max(1, self._c.page_size // self.block_size))


@variant(
    "read/piecemeal",
    allowed='NVM 1.0, 3.2.4 "Read command": a host reads any number of blocks by any number of commands',
    scenarios=SIZES,
)
class Piecemeal(Namespace):
    """Splits what it transfers into pieces of three blocks."""

    @property
    def max_blocks(self) -> int:
        """Three blocks at most."""
        return min(super().max_blocks, 3)


@variant(
    "read/ahead",
    allowed='NVM 1.0, 3.2.4 "Read command": a host may read blocks that its user did not ask for',
    scenarios=BASIC,
    warns=("read/extra",),
)
class ReadAhead(Namespace):
    """Reads up to four blocks more than it was asked for, within the namespace."""

    def read(self, lba: int, blocks: int, offset: int = 0) -> bytes:
        """Read up to four blocks more, and return what was asked for."""
        self.check_range(lba, blocks)
        more = min(4, self.blocks - lba - blocks)
        return super().read(lba, blocks + more, offset)[: blocks * self.block_size]


@variant(
    "read/twice",
    allowed='NVM 1.0, 3.2.4 "Read command": a host may read the same blocks as often as it likes',
    scenarios=BASIC,
)
class ReadsTwice(Namespace):
    """Reads everything twice, into different buffers, and compares."""

    def read(self, lba: int, blocks: int, offset: int = 0) -> bytes:
        """Return the blocks from two reads that agree, or else from a third one."""
        first = super().read(lba, blocks, offset)
        return first if first == super().read(lba, blocks) else super().read(lba, blocks)


@variant(
    "read/bounces",
    allowed='Base 2.0, 4.1.1 "Physical Region Page Entry and List": which buffer data goes through is the host\'s choice',
    scenarios=SIZES,
)
class Bounces(DataPath):
    """Moves all data of callers through an aligned buffer of its own."""

    def can_describe(self, offset: int) -> bool:
        """Return whether the offset is 0."""
        return super().can_describe(offset) and offset == 0


@variant(
    "read/starts-inside",
    allowed='Base 2.0, 4.1.1 "Physical Region Page Entry and List": PRP1 may have a dword aligned offset',
    scenarios=SIZES,
)
class StartsInside(Namespace):
    """Has buffers that begin four bytes into a page where the caller does not care."""

    def read(self, lba: int, blocks: int, offset: int = 0) -> bytes:
        """Return the blocks, read to offset 4 unless the caller names another."""
        return super().read(lba, blocks, offset or 4)

    def write(self, lba: int, data: bytes, *, fua: bool = False, offset: int = 0) -> None:
        """Write from offset 4 unless the caller names another."""
        super().write(lba, data, fua=fua, offset=offset or 4)


@variant(
    "read/list-inside-page",
    allowed='Base 2.0, 4.1.1 "Physical Region Page Entry and List": the first PRP list may begin at any 8-byte aligned offset',
    scenarios=SIZES,
)
class ListInsidePage(DataPath):
    """Puts the first PRP list of a command in the second half of a page, so that lists are chained early."""

    def describe(self, command: Command, memory: Memory, offset: int, length: int, lists: list[Memory]) -> Command:
        """Return the command; its first PRP list begins in the middle of a page."""
        page = memory.page_size
        inside = offset % page
        needed = max(1, -(-(inside + length) // page))
        if needed <= 2:
            return super().describe(command, memory, offset, length, lists)
        used = memory.pages[offset // page : offset // page + needed]
        entries, room, start = list(used[1:]), page // ENTRY // 2, page // 2
        here = self.list_page(lists, page)
        prp2 = here.address + start
        while len(entries) > room:
            following = self.list_page(lists, page)
            here.write(start, _encoded([*entries[: room - 1], following.address]))
            entries, room, start, here = entries[room - 1 :], page // ENTRY, 0, following
        here.write(start, _encoded(entries))
        return command.but(PRP1=used[0] + inside, PRP2=prp2)

    def list_page(self, lists: list[Memory], page: int) -> Memory:
        """Take memory for one more list page."""
        lists.append(self._c.transport.allocate(page, page))
        return lists[-1]


@variant(
    "read/just-full-lists",
    allowed='Base 2.0, 4.1.1 "Physical Region Page Entry and List": a list that ends with its page is full, and has no pointer',
    scenarios=SIZES,
)
class JustFullLists(DataPath):
    """Puts each PRP list that fits into a page at the end of that page, so that it is just full and chains nothing."""

    def describe(self, command: Command, memory: Memory, offset: int, length: int, lists: list[Memory]) -> Command:
        """Return the command; the last entry of its list is in the last slot of a page."""
        page = memory.page_size
        needed = -(-(offset % page + length) // page)
        if not 2 < needed <= page // ENTRY + 1:
            return super().describe(command, memory, offset, length, lists)
        used = memory.pages[offset // page : offset // page + needed]
        listed = _encoded(list(used[1:]))
        lists.append(self._c.transport.allocate(page, page))
        lists[-1].write(page - len(listed), listed)
        return command.but(PRP1=used[0] + offset % page, PRP2=lists[-1].address + page - len(listed))


def _encoded(entries: list[int]) -> bytes:
    return b"".join(entry.to_bytes(ENTRY, "little") for entry in entries)


@variant(
    "read/discards-into-one-page",
    allowed='Base 2.0, 4.1.1 "Physical Region Page Entry and List": nothing says that the pages of a list differ',
    scenarios=("read/chain",),
)
class DiscardsIntoOnePage(Namespace):
    """Reads blocks ahead into one page that all entries of the PRP list name, to warm the controller up."""

    def read_into(self, lba: int, blocks: int, memory: Memory, offset: int) -> None:
        """Read the blocks into one page, and then as usual."""
        if blocks * self.block_size > 2 * self._c.page_size and len([*self.split(lba, blocks)]) == 1:
            self._discard(lba, blocks)
        super().read_into(lba, blocks, memory, offset)

    def _discard(self, lba: int, blocks: int) -> None:
        page, pair = self._c.page_size, self._c.pair()
        pages = -(-blocks * self.block_size // page)
        lists = list[Memory]()
        with self._data.buffer(page) as memory:

            def list_page() -> int:
                lists.append(self._c.transport.allocate(page, page))
                return lists[-1].address

            pointers = prp.build(memory.pages * pages, 0, blocks * self.block_size, page, list_page)
            for listed, (_, entries) in zip(lists, pointers.lists, strict=True):
                listed.write(0, entries)
            command = self.command(Read, lba, blocks, {}).but(PRP1=pointers.prp1, PRP2=pointers.prp2)
            try:
                self._execution.run(pair, [command])
            finally:
                for listed in lists:
                    self._data.release(listed)


@variant(
    "read/sgl",
    allowed='Base 2.0, 4.1.2 "Scatter Gather List (SGL)": I/O commands may use SGLs where Identify Controller SGLS says so',
    scenarios=("read/sgl-offered",),
    excludes=("read/list-inside-page", "read/starts-inside"),
)
class UsesSgls(DataPath):
    """Describes the data of reads and writes by SGL descriptors where the controller offers them."""

    def describe(self, command: Command, memory: Memory, offset: int, length: int, lists: list[Memory]) -> Command:
        """Return reads and writes with an SGL where SGLS allows it, all else with PRPs."""
        identity = self._c.identity
        if identity is None or not identity.SGLS.SUPPORT or not isinstance(command, Read | Write):
            return super().describe(command, memory, offset, length, lists)
        page, at, descriptors = memory.page_size, offset, list[bytes]()
        while at < offset + length:
            size = min(page - at % page, offset + length - at)
            descriptors.append((memory.pages[at // page] + at % page).to_bytes(8, "little") + size.to_bytes(8, "little"))
            at += size
        first = descriptors[0]
        if len(descriptors) > 1:
            content = b"".join(descriptors)
            segment = self._c.transport.allocate(len(content), page, contiguous=True)
            lists.append(segment)
            segment.write(0, content)
            first = segment.address.to_bytes(8, "little") + len(content).to_bytes(7, "little") + bytes([0x30])
        halves = int.from_bytes(first[:8], "little"), int.from_bytes(first[8:], "little")
        return command.but(PSDT=Psdt.SGL_MPTR_BUFFER, PRP1=halves[0], PRP2=halves[1])


class _Flagged(Namespace):
    """Sets a further flag in the commands over blocks."""

    def flags(self, kind: type[LbaCommand]) -> dict[str, int]:
        raise NotImplementedError

    def command(self, kind: type[LbaCommand], lba: int, blocks: int, flags: dict[str, int]) -> Command:
        return super().command(kind, lba, blocks, {**self.flags(kind), **flags})


@variant(
    "read/limited-retry",
    allowed='NVM 1.0, 3.2.4 "Read command", LR: the host may ask the controller for limited retries',
    scenarios=BASIC,
)
class LimitedRetry(_Flagged):
    """Asks for limited retry in each Read and Write."""

    def flags(self, kind: type[LbaCommand]) -> dict[str, int]:
        """Return LR=1 for reads and writes."""
        return {"LR": 1} if issubclass(kind, Read | Write) else {}


@variant(
    "read/hints",
    allowed='NVM 1.0, 3.2.4 "Read command", DSM: hints that a controller may ignore',
    scenarios=BASIC,
)
class Hints(_Flagged):
    """Says by the hints of each Read and Write that the access is part of a sequential one, and may wait."""

    def flags(self, kind: type[LbaCommand]) -> dict[str, int]:
        """Return DSM=43h (sequential, latency idle) for reads and writes."""
        return {"DSM": 0x43} if issubclass(kind, Read | Write) else {}


@variant(
    "read/fua",
    allowed='NVM 1.0, 3.2.4 "Read command", FUA: a host may ask for what is on the medium',
    scenarios=BASIC,
)
class ReadsFua(_Flagged):
    """Sets FUA in each Read."""

    def flags(self, kind: type[LbaCommand]) -> dict[str, int]:
        """Return FUA=1 for reads."""
        return {"FUA": 1} if issubclass(kind, Read) else {}


@variant(
    "read/stray-tags",
    allowed='NVM 1.0, 3.2.4 "Read command", 3.2.6: ILBRT, LBAT and LBATM are ignored without protection information',
    scenarios=BASIC,
    warns=("read/tags-unused",),
)
class StrayTags(_Flagged):
    """Leaves the low half of the LBA in the reference tag, as drivers do that always fill it in."""

    def command(self, kind: type[LbaCommand], lba: int, blocks: int, flags: dict[str, int]) -> Command:
        """Return reads and writes with tags that no format here uses."""
        made = super().command(kind, lba, blocks, flags)
        ignored = isinstance(made, Read | Write) and not self.is_stripped
        return made.but(ILBRT=lba + 1 & 0xFFFF_FFFF, LBAT=0x1234, LBATM=0xFFFF) if ignored else made

    def flags(self, kind: type[LbaCommand]) -> dict[str, int]:
        """Return none."""
        return {}


@variant(
    "read/flushes-too",
    allowed='Base 2.0, 7.1 "Flush command": a host may send it at any time, and it changes no block',
    scenarios=("read/mount-vfat",),
)
class FlushesToo(Namespace):
    """Sends a Flush behind every read."""

    def read(self, lba: int, blocks: int, offset: int = 0) -> bytes:
        """Read, and flush."""
        found = super().read(lba, blocks, offset)
        self.flush()
        return found
