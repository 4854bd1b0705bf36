"""Defects of writing and of getting what was written to the medium."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

from lab.defects.defect import defect
from lab.nvme.commands import Command, Flush, LbaCommand, Write, WriteZeroes
from lab.reference.errors import CommandFailed, Refused
from lab.reference.namespace import Namespace
from lab.reference.request import Request
from lab.reference.transport import Memory


@defect("write/exact:one-too-far")
class OneTooFar(Namespace):
    """Writes to the block behind the one that it was given."""

    def command(self, kind: type[LbaCommand], lba: int, blocks: int, flags: dict[str, int]) -> Command:
        """Return the command; a write with the LBA one too large."""
        return super().command(kind, lba + issubclass(kind, Write), blocks, flags)


@defect("write/exact:last-refused", scenarios=("write/basic",))
class LastRefused(Namespace):
    """Refuses the last block, as if it were behind the end."""

    def check_range(self, lba: int, blocks: int) -> None:
        """Check the range; Refused if it contains the last block."""
        super().check_range(lba, blocks)
        if lba + blocks >= self.blocks:
            raise Refused("beyond the end")


@defect("write/exact:cleared-but-last", source="EDK2 86e285dd21", scenarios=("write/clear",))
class ClearedButLast(Namespace):
    """Clears all blocks but the last one, whose number it takes for how many there are."""

    def clear(self, lba: int, blocks: int, block: bytes) -> None:
        """Clear one block less."""
        super().clear(lba, blocks - 1, block)


@defect("write/signature:never-submitted")
class NeverSubmitted(Namespace):
    """Reports a write as done, and never sends it."""

    def write_from(self, lba: int, blocks: int, memory: Memory, offset: int, *, fua: bool = False) -> None:
        """Check the range, and send nothing."""
        self.check_range(lba, blocks)


@defect("write/partial-block:residue")
class Residue(Namespace):
    """Fills the rest of a block that it writes in part with what its buffer held before."""

    def patch(self, lba: int, at: int, data: bytes) -> None:
        """Write the blocks filled up with data of block 0."""
        blocks = -(-(at + len(data)) // self.block_size)
        held = bytearray(self.read(0, blocks))
        held[at : at + len(data)] = data
        self.write(lba, bytes(held))


@defect("write/buffer-stable:reused", scenarios=("write/backlog",))
class Reused(Namespace):
    """Passes all pieces of a long write through one small buffer, which it refills during the transfer before."""

    def write_from(self, lba: int, blocks: int, memory: Memory, offset: int, *, fua: bool = False) -> None:
        """Describe all pieces by one buffer, filled before the piece before has ended."""
        with self._data.buffer(self.max_blocks * self.block_size) as small:
            commands = []
            for at, count in self.split(lba, blocks):
                small.write(0, memory.read(offset + (at - lba) * self.block_size, count * self.block_size))
                command = self.command(Write, at, count, {"FUA": 1} if fua else {})
                commands.append(self._data.describe(command, small, 0, count * self.block_size, []))
            self._run(commands)


@defect("write/durable:before-flush")
class BeforeFlush(Namespace):
    """Reports a flush as done as soon as it is sent."""

    def flush(self) -> None:
        """Submit Flush, and do not wait for its completion."""
        pair = self._c.pair()
        pair.submit(Request(Flush.of(NSID=self.nsid)), self._c.transport.now())
        pair.ring()


@defect("write/durable:fua-lost")
class FuaLost(Namespace):
    """Sends a write with Force Unit Access without it."""

    def write_from(self, lba: int, blocks: int, memory: Memory, offset: int, *, fua: bool = False) -> None:
        """Write without FUA."""
        super().write_from(lba, blocks, memory, offset)


@defect("write/flush:dropped")
class Dropped(Namespace):
    """Takes a flush for done, although the write cache is volatile."""

    def flush(self) -> None:
        """Send nothing."""


@defect("write/flush-nsid:zero")
class FlushOfNothing(Namespace):
    """Sends Flush with NSID 0."""

    def noop(self) -> None:
        """Send Flush with NSID 0."""
        self._run([Flush.of(NSID=0)])


@defect("write/fua:bit-29")
class WrongBit(Namespace):
    """Sets bit 29 of dword 12 for Force Unit Access, which is bit 30."""

    def command(self, kind: type[LbaCommand], lba: int, blocks: int, flags: dict[str, int]) -> Command:
        """Return the command; for FUA with bit 29 of dword 12 instead of bit 30."""
        plain = super().command(kind, lba, blocks, {})
        return plain.but(CDW12=plain.CDW12 | 1 << 29) if "FUA" in flags else plain


@defect("write/zeroes-gated:wrong-bit", scenarios=("write/zeroes-not-offered",))
class WrongGate(Namespace):
    """Looks at bit 2 of ONCS, Dataset Management, before it sends Write Zeroes."""

    def zeroes(self, lba: int, blocks: int) -> None:
        """Send Write Zeroes without a look at its own bit of ONCS."""
        self._run([self.command(WriteZeroes, at, count, {}) for at, count in self.split(lba, blocks)])


@defect("write/in-range:unchecked", scenarios=("write/past-end",))
class Unchecked(Namespace):
    """Sends a write that ends behind the last block."""

    def check_range(self, lba: int, blocks: int) -> None:
        """Let every range pass."""


@defect("write/error:swallowed")
class Swallowed(Namespace):
    """Reports a write and a flush as done, whatever their status."""

    def _run(self, commands: Sequence[Command]) -> None:
        with suppress(CommandFailed):
            super()._run(commands)


@defect("write/ordering:overlapping", scenarios=("write/backlog",))
class Overlapping(Namespace):
    """Begins each piece of a long write with the last block of the piece before it, which is still on its way."""

    def split(self, lba: int, blocks: int) -> Iterator[tuple[int, int]]:
        """Yield (LBA, blocks) of the pieces; a shorter last one begins a block early."""
        for at, count in super().split(lba, blocks):
            yield (at, count) if at == lba or count == self.max_blocks else (at - 1, count + 1)


@defect("write/signature:zeroes-by-trim", scenarios=("write/zeroes-not-offered",))
class ZeroesByTrim(Namespace):
    """Deallocates blocks that it is to zero where DLFEAT says that such blocks read as zeros: the controller need not do it."""

    def zeroes(self, lba: int, blocks: int) -> None:
        """Trim the blocks where that seems to be the same."""
        if self.identity.DLFEAT.READ == 1 and self._c.known_identity.ONCS.DATASET_MANAGEMENT:
            self.trim([(lba, blocks)])
        else:
            super().zeroes(lba, blocks)
