"""Defects of writing and of getting what was written to the medium."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

from lab.defects.defect import defect
from lab.nvme.commands import Command, Flush, LbaCommand, Write, WriteZeroes
from lab.reference.errors import CommandFailed, Refused
from lab.reference.namespace import Namespace
from lab.reference.transport import Memory


@defect("write/exact:one-too-far")
class OneTooFar(Namespace):
    """Writes to the block behind the one that it was given."""

    def command(self, kind: type[LbaCommand], lba: int, blocks: int, flags: dict[str, int]) -> Command:
        return super().command(kind, lba + issubclass(kind, Write), blocks, flags)


@defect("write/exact:last-refused", source="EDK2 86e285dd21", scenarios=("write/basic",))
class LastRefused(Namespace):
    """Refuses the last block, as if it were behind the end."""

    def check(self, lba: int, blocks: int) -> None:
        super().check(lba, blocks)
        if lba + blocks >= self.blocks:
            raise Refused("beyond the end")


@defect("write/signature:never-submitted")
class NeverSubmitted(Namespace):
    """Reports a write as done, and never sends it."""

    def write_from(self, lba: int, blocks: int, memory: Memory, offset: int, *, fua: bool = False) -> None:
        self.check(lba, blocks)


@defect("write/flush:dropped")
class Dropped(Namespace):
    """Takes a flush for done, although the write cache is volatile."""

    def flush(self) -> None:
        pass


@defect("write/flush-nsid:zero")
class FlushOfNothing(Namespace):
    """Sends Flush with NSID 0."""

    def noop(self) -> None:
        self._run([Flush.of(NSID=0)])


@defect("write/fua:bit-29")
class WrongBit(Namespace):
    """Sets bit 29 of dword 12 for Force Unit Access, which is bit 30."""

    def command(self, kind: type[LbaCommand], lba: int, blocks: int, flags: dict[str, int]) -> Command:
        plain = super().command(kind, lba, blocks, {})
        return plain.but(CDW12=plain.CDW12 | 1 << 29) if "FUA" in flags else plain


@defect("write/zeroes-gated:wrong-bit", scenarios=("write/zeroes-not-offered",))
class WrongGate(Namespace):
    """Looks at bit 2 of ONCS, Dataset Management, before it sends Write Zeroes."""

    def zeroes(self, lba: int, blocks: int) -> None:
        self._run([self.command(WriteZeroes, at, count, {}) for at, count in self.pieces(lba, blocks)])


@defect("write/in-range:unchecked", scenarios=("write/past-end",))
class Unchecked(Namespace):
    """Sends a write that ends behind the last block."""

    def check(self, lba: int, blocks: int) -> None:
        pass


@defect("write/error:swallowed")
class Swallowed(Namespace):
    """Reports a write and a flush as done, whatever their status."""

    def _run(self, commands: Sequence[Command]) -> None:
        with suppress(CommandFailed):
            super()._run(commands)


@defect("write/ordering:overlapping", scenarios=("write/backlog",))
class Overlapping(Namespace):
    """Begins each piece of a long write with the last block of the piece before it, which is still on its way."""

    def pieces(self, lba: int, blocks: int) -> Iterator[tuple[int, int]]:
        for at, count in super().pieces(lba, blocks):
            yield (at, count) if at == lba or count == self.longest else (at - 1, count + 1)
