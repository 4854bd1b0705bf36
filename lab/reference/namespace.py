"""Reading and writing logical blocks. NVM Command Set 1.0, 3.2; Flush: Base 2.0, 7.1.

A transfer longer than one command may be (MDTS, and 65536 blocks by NLB) is split; its commands are outstanding together. A
range beyond the last block is refused before any command is sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from lab.nvme.commands import Command, DatasetManagement, Flush, FormatNvm, LbaCommand, Read, Write, WriteZeroes
from lab.nvme.identify import Csi, IdentifyNamespace
from lab.nvme.ranges import DsmRange, encode_ranges
from lab.reference.core import Core
from lab.reference.data import DataPath
from lab.reference.errors import Refused
from lab.reference.execution import Execution
from lab.reference.identification import Identifiers
from lab.reference.transport import Memory

NLB_LIMIT = 1 << 16
"""Blocks of one command: NLB has 16 bits and is 0's based."""
RANGE_BLOCKS = (1 << 32) - 1
"""Blocks of one range of Dataset Management: its length has 32 bits and is 1's based."""
DSM_RANGES = 256
"""Ranges of one Dataset Management command."""
PROTECTION_BYTES = 8
"""Protection information of one block, with a 16-bit guard."""
PRACT, GUARD_CHECK, REFERENCE_CHECK = 0b1000, 0b0100, 0b0001
"""Bits of PRINFO. NVM Command Set 1.0, 2.1.5 "End-to-end Protection Information"."""
WITHOUT_REFERENCE = 3
"""The type of protection information whose reference tag is not checked."""
TAGS = 0xFFFF_FFFF
SMALLEST_BLOCK = 9
"""LBADS of 512 bytes; less means that there is no such format."""


class Namespace:
    """One namespace. Offsets are in bytes, all else in logical blocks."""

    command_set: ClassVar[int] = Csi.NVM

    def __init__(
        self,
        core: Core,
        data: DataPath,
        execution: Execution,
        nsid: int,
        identity: IdentifyNamespace,
        names: Identifiers,
    ) -> None:
        """Describe an active namespace by its Identify structure and its identifiers."""
        self._c, self._data, self._execution = core, data, execution
        self.nsid, self.identity, self.names = nsid, identity, names
        self.lba_format = identity.format
        """The LBA format that FLBAS names."""

    @property
    def blocks(self) -> int:
        """The capacity: NSZE, all 64 bits of it."""
        return self.identity.NSZE

    @property
    def block_size(self) -> int:
        """The bytes of a block of the LBA format that FLBAS names."""
        return self.lba_format.block_size

    @property
    def unsupported_reason(self) -> str:
        """Why this driver does no I/O on the namespace; "" if it does."""
        if self.names.csi != self.command_set:
            return f"namespace {self.nsid} belongs to command set {self.names.csi}, which is not selected"
        if self.lba_format.MS and not self.is_stripped:
            return f"namespace {self.nsid} has {self.lba_format.MS} bytes of metadata a block, which this driver cannot do"
        if self.lba_format.LBADS < SMALLEST_BLOCK:
            return f"namespace {self.nsid} has a format with blocks of 2^{self.lba_format.LBADS} bytes"
        return ""

    @property
    def is_stripped(self) -> bool:
        """Whether the metadata is protection information alone, which the controller inserts and strips (PRACT)."""
        return bool(self.identity.DPS.TYPE) and self.lba_format.MS == PROTECTION_BYTES

    @property
    def shared(self) -> bool:
        """Whether other controllers may have it too, under the same names. NVM Command Set 1.0, 4.1.5.1: NMIC."""
        return bool(self.identity.NMIC.SHARED) and self.names != Identifiers()

    # -- steps 5 and 6: read and write ------------------------------------------------------------------------------

    def read(self, lba: int, blocks: int, offset: int = 0) -> bytes:
        """Return the bytes of blocks. ``offset`` is where in its first page the buffer begins."""
        self.check_range(lba, blocks)
        length = blocks * self.block_size
        with self._data.buffer(offset + length) as memory:
            self.read_into(lba, blocks, memory, offset)
            return memory.read(offset, length)

    def write(self, lba: int, data: bytes, *, fua: bool = False, offset: int = 0) -> None:
        """Write whole blocks. With ``fua`` they are on the medium when this returns, without a flush."""
        blocks, rest = divmod(len(data), self.block_size)
        if rest:
            raise Refused(f"{len(data)} bytes are not a whole number of blocks of {self.block_size} bytes")
        self.check_range(lba, blocks)
        with self._data.buffer(offset + len(data)) as memory:
            memory.write(offset, data)
            self.write_from(lba, blocks, memory, offset, fua=fua)

    def patch(self, lba: int, at: int, data: bytes) -> None:
        """Write bytes from byte ``at`` of a block on. The rest of the first and the last block stays as it is."""
        content = bytearray(self.read(lba, -(-(at + len(data)) // self.block_size)))
        content[at : at + len(data)] = data
        self.write(lba, bytes(content))

    def read_into(self, lba: int, blocks: int, memory: Memory, offset: int) -> None:
        """Read into the caller's memory, directly where PRP entries can describe it, else through a bounce buffer."""
        if self._data.can_describe(offset):
            self._transfer(Read, lba, blocks, memory, offset, {})
            return
        length = blocks * self.block_size
        with self._data.buffer(length) as bounce:
            self._transfer(Read, lba, blocks, bounce, 0, {})
            memory.write(offset, bounce.read(0, length))

    def write_from(self, lba: int, blocks: int, memory: Memory, offset: int, *, fua: bool = False) -> None:
        """Write from the caller's memory, directly or through a bounce buffer, as `read_into` does."""
        flags = {"FUA": 1} if fua else {}
        if self._data.can_describe(offset):
            self._transfer(Write, lba, blocks, memory, offset, flags)
            return
        length = blocks * self.block_size
        with self._data.buffer(length) as bounce:
            bounce.write(0, memory.read(offset, length))
            self._transfer(Write, lba, blocks, bounce, 0, flags)

    def flush(self) -> None:
        """Put what was written on the medium. Without a volatile write cache (VWC) it is there already."""
        if self._c.known_identity.VWC.PRESENT:
            self.noop()

    def noop(self) -> None:
        """Send a command without data: Flush of this namespace."""
        self._run([Flush.of(NSID=self.nsid)])

    def zeroes(self, lba: int, blocks: int) -> None:
        """Zero blocks: by Write Zeroes where ONCS has it, else by writing zeros. NVM Command Set 1.0, 3.2.8."""
        self.check_range(lba, blocks)
        if not self._c.known_identity.ONCS.WRITE_ZEROES:
            self.write(lba, bytes(blocks * self.block_size))
            return
        # Write Zeroes moves no data, so MDTS does not limit it. Since 2.0 a controller may have another limit (CNS 06h, WZSL),
        # and older ones refuse more than MDTS: the driver keeps to both.
        pieces = [piece for at, count in self.split(lba, blocks) for piece in _cut(at, count, self.zero_blocks)]
        self._run([self.command(WriteZeroes, at, count, {}) for at, count in pieces])

    def clear(self, lba: int, blocks: int, block: bytes) -> None:
        """Overwrite blocks, each with the bytes of the same one."""
        self.write(lba, block * blocks)

    @property
    def zero_blocks(self) -> int:
        """The blocks that one Write Zeroes may zero: WZSL."""
        limit = self._c.limit_bytes(self._c.limits.WZSL)
        return NLB_LIMIT if limit is None else max(1, limit // self.block_size)

    # -- step 10: Dataset Management --------------------------------------------------------------------------------

    def trim(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Deallocate ranges of (LBA, blocks). The controller decides what they read as afterwards: DLFEAT."""
        if not self._c.known_identity.ONCS.DATASET_MANAGEMENT:
            raise Refused("the controller has no Dataset Management: bit 2 of ONCS is 0")
        for lba, blocks in ranges:
            self.check_range(lba, blocks)
        limits = self._c.limits
        longest = min(RANGE_BLOCKS, limits.DMRSL or RANGE_BLOCKS, limits.DMSL or RANGE_BLOCKS)
        ranges = [piece for lba, blocks in ranges for piece in _cut(lba, blocks, longest)]
        most = min(DSM_RANGES, limits.DMRL or DSM_RANGES)
        if limits.DMSL:  # no command may be about more blocks, and each range is as long as that allows
            most = max(1, min(most, limits.DMSL // longest))
        for first in range(0, len(ranges), most):
            part = ranges[first : first + most]
            data = encode_ranges(DsmRange.of(SLBA=lba, LENGTH=blocks) for lba, blocks in part)
            command = DatasetManagement.of(NSID=self.nsid, NR=len(part) - 1, AD=1)
            with self._data.buffer(len(data)) as memory:
                memory.write(0, data)
                self._execution.with_data(self._c.pair(), command, memory, len(data))

    def format(self, index: int) -> None:
        """Format the namespace with another LBA format, without a secure erase. Base 2.0, 5.14."""
        if not self._c.known_identity.OACS.FORMAT:
            raise Refused("the controller has no Format NVM: bit 1 of OACS is 0")
        if index >= len(self.identity.formats):
            raise Refused(f"there is no LBA format {index}: namespace {self.nsid} has {len(self.identity.formats)}")
        self._execution.admin(FormatNvm.of(NSID=self.nsid, LBAFL=index & 15, LBAFU=index >> 4))

    # -- from blocks to commands ------------------------------------------------------------------------------------

    def check_range(self, lba: int, blocks: int) -> None:
        """Raise Refused if blocks are not all inside the namespace, or the driver does no I/O on it."""
        if self.unsupported_reason:
            raise Refused(self.unsupported_reason)
        if blocks < 1:
            raise Refused(f"a transfer needs at least 1 block, not {blocks}")
        if lba < 0 or lba + blocks > self.blocks:
            raise Refused(
                f"LBA {lba} to {lba + blocks - 1} is not inside namespace {self.nsid}, whose last LBA is {self.blocks - 1}"
            )

    @property
    def max_blocks(self) -> int:
        """The blocks that one command may move."""
        limit = self._c.max_transfer
        return NLB_LIMIT if limit is None else max(1, min(NLB_LIMIT, limit // self.block_size))

    def split(self, lba: int, blocks: int) -> Iterator[tuple[int, int]]:
        """Yield (LBA, blocks) of each command, none of which crosses a boundary of NOIOB."""
        end, boundary = lba + blocks, self.identity.NOIOB
        while lba < end:
            count = min(self.max_blocks, end - lba, boundary - lba % boundary if boundary else NLB_LIMIT)
            yield lba, count
            lba += count

    def command(self, kind: type[LbaCommand], lba: int, blocks: int, flags: dict[str, int]) -> Command:
        """Return a command over blocks; NLB is 0's based."""
        return kind.of(NSID=self.nsid, SLBA=lba, NLB=blocks - 1, **flags, **self.protection(kind, lba))

    def protection(self, kind: type[LbaCommand], lba: int) -> dict[str, int]:
        """Return the fields by which the controller inserts, checks and strips protection information. NVM 1.0, 5.2.

        Write Zeroes must ask for no check.
        """
        if not self.is_stripped:
            return {}
        checks = GUARD_CHECK if self.identity.DPS.TYPE == WITHOUT_REFERENCE else GUARD_CHECK | REFERENCE_CHECK
        return {"PRINFO": PRACT | (0 if kind is WriteZeroes else checks), "ILBRT": lba & TAGS}

    def _transfer(
        self, kind: type[LbaCommand], lba: int, blocks: int, memory: Memory, offset: int, flags: dict[str, int]
    ) -> None:
        self.check_range(lba, blocks)
        lists: list[Memory] = []
        try:
            commands = []
            for at, count in self.split(lba, blocks):
                begin, length = offset + (at - lba) * self.block_size, count * self.block_size
                command = self.command(kind, at, count, flags)
                commands.append(self._data.describe(command, memory, begin, length, lists))
            self._run(commands)
        finally:
            for page in lists:
                self._data.release(page)

    def _run(self, commands: Sequence[Command]) -> None:
        self._execution.run(self._c.pair(), commands)


def _cut(lba: int, blocks: int, most: int) -> Iterator[tuple[int, int]]:
    """Yield (LBA, blocks) of pieces of at most so many blocks."""
    for at in range(lba, lba + blocks, most):
        yield at, min(most, lba + blocks - at)
