"""Legal ways to write, to flush, and to zero blocks."""

from __future__ import annotations

from contextlib import suppress

from lab.nvme import prp
from lab.nvme.commands import BROADCAST_NSID, Command, Flush, LbaCommand, SetFeatures, Write, WriteZeroes
from lab.nvme.features import Fid
from lab.reference.controller import Controller
from lab.reference.errors import CommandFailed
from lab.reference.namespace import Namespace
from lab.reference.transport import Memory
from lab.variants.variant import variant

BASIC = ("write/basic",)


class _CacheOff(Controller):
    """Switches the volatile write cache off when it comes up."""

    write_through = False

    def identify(self) -> None:
        super().identify()
        assert self.identity is not None
        self.write_through = False
        if self.identity.VWC.PRESENT:
            with suppress(CommandFailed):
                self.execution.admin(SetFeatures.of(FID=Fid.VOLATILE_WRITE_CACHE, CDW11=0))
                self.write_through = True


@variant(
    "write/write-through",
    allowed='Base 2.0, 5.27.1.4 "Volatile Write Cache": with WCE 0 the cache is disabled, so that there is nothing to flush',
    scenarios=BASIC,
    also=(_CacheOff,),
    excludes=("write/fua-only",),
)
class WriteThrough(Namespace):
    """Disables the volatile write cache, and sends no Flush."""

    def flush(self) -> None:
        """Send nothing while the write cache is off; else Flush."""
        if not (isinstance(self._c, _CacheOff) and self._c.write_through):
            super().flush()


@variant(
    "write/fua-only",
    allowed='NVM 1.0, 3.2.6 "Write command", FUA: the data is on the medium before the command completes',
    scenarios=BASIC,
)
class FuaOnly(Namespace):
    """Writes everything with FUA, and sends no Flush."""

    def command(self, kind: type[LbaCommand], lba: int, blocks: int, flags: dict[str, int]) -> Command:
        """Return the command; writes with FUA=1."""
        return super().command(kind, lba, blocks, {**flags, "FUA": 1} if issubclass(kind, Write | WriteZeroes) else flags)

    def flush(self) -> None:
        """Check that the namespace has a block, and send nothing."""
        self.check_range(0, 1)


@variant(
    "write/flush-each",
    allowed='Base 2.0, 7.1 "Flush command": it may be sent at any time, whether anything is in the cache or not',
    scenarios=BASIC,
)
class FlushEach(Namespace):
    """Sends a Flush behind each write."""

    def write(self, lba: int, data: bytes, *, fua: bool = False, offset: int = 0) -> None:
        """Write, and flush."""
        super().write(lba, data, fua=fua, offset=offset)
        self.flush()


@variant(
    "write/flush-without-cache",
    allowed='Base 2.0, 7.1 "Flush command": without a volatile write cache it completes and does nothing',
    scenarios=("write/no-cache",),
    excludes=("write/write-through", "write/fua-only"),
)
class FlushWithoutCache(Namespace):
    """Sends Flush to a controller without a volatile write cache too."""

    def flush(self) -> None:
        """Send Flush, whatever VWC says."""
        self.noop()


@variant(
    "write/flush-all",
    allowed='Base 2.0, 7.1 "Flush command": NSID FFFFFFFFh flushes all namespaces where VWC bits 2:1 are 11b',
    scenarios=BASIC,
)
class FlushAll(Namespace):
    """Flushes all namespaces by one command where the controller says that it can."""

    def noop(self) -> None:
        """Send Flush with NSID FFFFFFFFh where VWC allows it."""
        assert self._c.identity is not None
        every = self._c.identity.VWC.PRESENT and self._c.identity.VWC.FLUSH_BROADCAST == 0b11
        self._run([Flush.of(NSID=BROADCAST_NSID if every else self.nsid)])


@variant(
    "write/one-block-a-command",
    allowed='NVM 1.0, 3.2.6 "Write command": a host writes any number of blocks by any number of commands',
    scenarios=BASIC,
    excludes=("read/piecemeal", "read/one-page-a-command"),
)
class OneBlockACommand(Namespace):
    """Writes each block by a command of its own."""

    def write(self, lba: int, data: bytes, *, fua: bool = False, offset: int = 0) -> None:
        """Write up to 64 blocks one by one, and longer data as usual."""
        size = self.block_size
        if len(data) % size or len(data) > 64 * size:
            super().write(lba, data, fua=fua, offset=offset)
            return
        self.check_range(lba, len(data) // size)
        for at in range(0, len(data), size):
            super().write(lba + at // size, data[at : at + size], fua=fua, offset=offset)


@variant(
    "write/verifies",
    allowed='NVM 1.0, 3.2.4 "Read command": a host may read back what it has written',
    scenarios=BASIC,
)
class Verifies(Namespace):
    """Reads back everything that it writes, and writes once more what differs."""

    def write_from(self, lba: int, blocks: int, memory: Memory, offset: int, *, fua: bool = False) -> None:
        """Write, read back, and write again if it differs."""
        super().write_from(lba, blocks, memory, offset, fua=fua)
        if self.read(lba, blocks) != memory.read(offset, blocks * self.block_size):
            super().write_from(lba, blocks, memory, offset, fua=fua)


@variant(
    "write/zeroes-by-data",
    allowed='NVM 1.0, 3.2.8 "Write Zeroes command": optional, and the host need not use it; 4.1.1 of Base 2.0 lets PRPs repeat',
    scenarios=("write/zeroes",),
)
class ZeroesByData(Namespace):
    """Zeroes blocks by Write commands whose PRP entries all name the same page of zeros."""

    def zeroes(self, lba: int, blocks: int) -> None:
        """Send Write commands that take zeros from one page."""
        self.check_range(lba, blocks)
        page = self._c.page_size
        with self._data.buffer(page) as memory:
            for at, count in self.split(lba, blocks):
                self._write_zeros(memory, at, count, page)

    def _write_zeros(self, memory: Memory, lba: int, blocks: int, page: int) -> None:
        lists, length = list[Memory](), blocks * self.block_size

        def list_page() -> int:
            lists.append(self._c.transport.allocate(page, page))
            return lists[-1].address

        pointers = prp.build(memory.pages * max(1, -(-length // page)), 0, length, page, list_page)
        for listed, (_, entries) in zip(lists, pointers.lists, strict=True):
            listed.write(0, entries)
        try:
            command = self.command(Write, lba, blocks, {}).but(PRP1=pointers.prp1, PRP2=pointers.prp2)
            self._execution.run(self._c.pair(), [command])
        finally:
            for listed in lists:
                self._data.release(listed)


@variant(
    "write/clears-backwards",
    allowed='NVM 1.0, 3.2.6 "Write command": a host may write blocks in any order, and as often as it likes',
    scenarios=("write/clear",),
)
class ClearsBackwards(Namespace):
    """Clears block by block from the last one on, twice."""

    def clear(self, lba: int, blocks: int, block: bytes) -> None:
        """Write each block by a command of its own."""
        for at in (*range(lba + blocks - 1, lba - 1, -1),) * 2:
            super().clear(at, 1, block)


@variant(
    "write/long-zeroes",
    allowed='NVM 1.0, 3.2.8 "Write Zeroes command": it moves no data, so that MDTS does not bind it without WZSL',
    scenarios=("write/zeroes-long",),
)
class LongZeroes(Namespace):
    """Zeroes up to 65536 blocks by one command, however small MDTS is."""

    def zeroes(self, lba: int, blocks: int) -> None:
        """Send Write Zeroes for 65536 blocks at a time, where ONCS has it."""
        assert self._c.identity is not None
        if not self._c.identity.ONCS.WRITE_ZEROES:
            super().zeroes(lba, blocks)
            return
        self.check_range(lba, blocks)
        step = self.zero_blocks
        self._run([self.command(WriteZeroes, at, min(step, lba + blocks - at), {}) for at in range(lba, lba + blocks, step)])


@variant(
    "write/whole-blocks-twice",
    allowed='NVM 1.0, 3.2.6 "Write command": a host may write the same data as often as it likes',
    scenarios=BASIC,
)
class WritesTwice(Namespace):
    """Sends each write twice, the second time with FUA."""

    def write(self, lba: int, data: bytes, *, fua: bool = False, offset: int = 0) -> None:
        """Write, and write again with FUA."""
        super().write(lba, data, fua=fua, offset=offset)
        super().write(lba, data, fua=True)
