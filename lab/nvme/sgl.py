"""Scatter Gather Lists. Base 2.0, 4.1.2 "Scatter Gather List (SGL)".

The command holds one descriptor. It is the data itself, or it points to a segment of descriptors in memory, whose last one
may point to the next; a segment that is announced as the last one points no further.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum

from lab.nvme.fields import U32, U64, Bits, Structure, UInt
from lab.nvme.prp import Read
from lab.nvme.status import Status


class SglType(IntEnum):
    """SGL Descriptor Type."""

    DATA_BLOCK = 0
    BIT_BUCKET = 1
    SEGMENT = 2
    LAST_SEGMENT = 3
    KEYED_DATA_BLOCK = 4
    TRANSPORT_DATA_BLOCK = 5
    VENDOR = 0xF


class SglSubType(IntEnum):
    """SGL Descriptor Sub Type."""

    ADDRESS = 0
    OFFSET = 1
    TRANSPORT = 0xA


class SglDescriptor(Structure, size=16):
    """A data block, a (last) segment, or a bit bucket, whose address is reserved."""

    ADDRESS = U64(0)
    LENGTH = U32(8)  # bytes
    SUBTYPE = Bits(3, 0, at=15)
    TYPE = Bits(7, 4, at=15)


class KeyedSglDescriptor(Structure, size=16):
    """A keyed data block, of fabrics."""

    ADDRESS = U64(0)
    LENGTH = UInt(8, 3)
    KEY = UInt(11, 4)
    SUBTYPE = Bits(3, 0, at=15)
    TYPE = Bits(7, 4, at=15)


class SglProblem(Enum):
    """What a list must not do: for people, and the status that answers it."""

    TYPE = "the descriptor's type cannot be here", Status.SGL_TYPE_INVALID
    SUBTYPE = "the descriptor's sub type is not an address", Status.SGL_TYPE_INVALID
    SEGMENT_LENGTH = "a segment's length is 0 or no multiple of 16", Status.SGL_INVALID_SEGMENT
    SEGMENT_NOT_LAST = "a segment descriptor is not the last of its segment", Status.SGL_INVALID_SEGMENT
    SEGMENT_IN_LAST = "a segment descriptor is in the last segment", Status.SGL_INVALID_SEGMENT
    NOT_ENDED = "a segment that is not the last points to no other", Status.SGL_INVALID_SEGMENT
    LOOP = "a segment comes a second time", Status.SGL_INVALID_SEGMENT
    TOO_MANY = "there are more descriptors than the limit", Status.SGL_INVALID_COUNT
    TOO_SHORT = "the list names less than the data", Status.SGL_DATA_LENGTH_INVALID
    TOO_LONG = "the list names more than the data", Status.SGL_DATA_LENGTH_INVALID

    @property
    def text(self) -> str:
        """The problem in words."""
        return str(self.value[0])

    @property
    def status(self) -> Status:
        """The status that a controller answers with; `TOO_LONG` is none where Sgls.OVERSIZE is set."""
        return Status(self.value[1])


@dataclass(frozen=True)
class Problem:
    """A rule broken by a descriptor, which lies at ``where`` (None: in the command itself)."""

    kind: SglProblem
    descriptor: SglDescriptor
    where: int | None = None

    def __str__(self) -> str:
        """Return the problem and its place in words."""
        place = "in the command" if self.where is None else f"at {self.where:#x}"
        return f"{self.kind.text}: {self.descriptor} {place}"


@dataclass(frozen=True)
class Piece:
    """Bytes of the data: at ``address``, or thrown away (None)."""

    address: int | None
    length: int


@dataclass
class Walk:
    """What a command's SGL names, cut to the length of the data."""

    pieces: list[Piece] = field(default_factory=list)
    segments: list[tuple[int, tuple[SglDescriptor, ...]]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Bytes named."""
        return sum(piece.length for piece in self.pieces)

    def note(self, kind: SglProblem, where: int | None, descriptor: SglDescriptor) -> None:
        """Add a problem."""
        self.problems.append(Problem(kind, descriptor, where))


def walk(first: bytes, length: int, read: Read, *, to_host: bool = True, limit: int = 1 << 16) -> Walk:
    """Return the memory that ``length`` bytes of data lie in; ``first`` is the command's descriptor (`Command.SGL1`).

    Bad descriptors are problems of the walk, which ends where they leave nothing to go on with; only a segment that cannot
    be read raises `lab.nvme.prp.UnreadableError`. A bit bucket counts only where data goes to the host. Not more than ``limit``
    descriptors are read. Data blocks by key or by transport are none of PCIe and so problems.
    """
    result, left, inline = Walk(), length, SglDescriptor(first)
    where, descriptor = None, inline
    for where, descriptor in _data_descriptors(inline, read, limit, result):
        bucket = descriptor.TYPE == SglType.BIT_BUCKET
        if not bucket and descriptor.TYPE != SglType.DATA_BLOCK:
            result.note(SglProblem.TYPE, where, descriptor)
            return result
        if descriptor.SUBTYPE != SglSubType.ADDRESS and not bucket:
            result.note(SglProblem.SUBTYPE, where, descriptor)
        size = descriptor.LENGTH if to_host or not bucket else 0
        if size > left:
            result.note(SglProblem.TOO_LONG, where, descriptor)
        if part := min(size, left):
            result.pieces.append(Piece(None if bucket else descriptor.ADDRESS, part))
            left -= part
    if left:
        result.note(SglProblem.TOO_SHORT, where, descriptor)
    return result


_POINTERS = (SglType.SEGMENT, SglType.LAST_SEGMENT)

_Placed = tuple[int | None, SglDescriptor]
"""A descriptor and where it lies (None: in the command)."""


def _data_descriptors(first: SglDescriptor, read: Read, limit: int, result: Walk) -> Iterator[_Placed]:
    """Yield all descriptors but those of segments, which are followed; note segments and broken rules in ``result``."""
    segment: list[_Placed] = [(None, first)]
    announced: int | None = None
    seen = set[int]()
    while True:
        *before, (where, final) = segment
        for place, descriptor in before:
            if descriptor.TYPE in _POINTERS:
                return result.note(SglProblem.SEGMENT_NOT_LAST, place, descriptor)
            yield place, descriptor
        if final.TYPE not in _POINTERS:
            yield where, final
            return result.note(SglProblem.NOT_ENDED, where, final) if announced == SglType.SEGMENT else None
        address, size = final.ADDRESS, final.LENGTH
        limit -= size // SglDescriptor.SIZE
        if announced == SglType.LAST_SEGMENT:
            return result.note(SglProblem.SEGMENT_IN_LAST, where, final)
        if final.SUBTYPE != SglSubType.ADDRESS:
            return result.note(SglProblem.SUBTYPE, where, final)
        if not size or size % SglDescriptor.SIZE:
            return result.note(SglProblem.SEGMENT_LENGTH, where, final)
        if limit < 0:
            return result.note(SglProblem.TOO_MANY, where, final)
        if address in seen:
            return result.note(SglProblem.LOOP, where, final)
        seen.add(address)
        announced = final.TYPE
        raw = read(address, size)
        segment = [(address + at, SglDescriptor(raw[at : at + 16])) for at in range(0, size, SglDescriptor.SIZE)]
        result.segments.append((address, tuple(descriptor for _, descriptor in segment)))


@dataclass(frozen=True)
class Pointers:
    """The command's descriptor, and the segments (address, content) that the driver must have written before."""

    sgl1: SglDescriptor
    segments: tuple[tuple[int, bytes], ...] = ()


def build(
    pieces: Sequence[Piece], allocate: Callable[[], int] | None = None, *, per_segment: int = 4096 // SglDescriptor.SIZE
) -> Pointers:
    """Return the list that names these pieces in order: one piece in the command itself, more of them in segments.

    ``allocate`` gives room for ``per_segment`` descriptors (at least 2) each time it is called.
    """
    if per_segment < 2:
        raise ValueError("a segment that chains needs room for two descriptors")
    descriptors = [_describe(piece) for piece in pieces]
    if not descriptors:
        return Pointers(SglDescriptor())
    if len(descriptors) == 1:
        return Pointers(descriptors[0])
    if allocate is None:
        raise ValueError(f"{len(descriptors)} pieces need an SGL segment, and there is no memory for it")
    groups: list[list[SglDescriptor]] = []
    while len(descriptors) > per_segment:
        groups.append(descriptors[: per_segment - 1])
        descriptors = descriptors[per_segment - 1 :]
    groups.append(descriptors)
    pointer: SglDescriptor | None = None
    segments: list[tuple[int, bytes]] = []
    for group in reversed(groups):
        content = b"".join([*group, pointer] if pointer else group)
        address = allocate()
        segments.append((address, content))
        kind = SglType.SEGMENT if pointer else SglType.LAST_SEGMENT
        pointer = SglDescriptor.of(ADDRESS=address, LENGTH=len(content), TYPE=kind)
    assert pointer is not None
    return Pointers(pointer, tuple(reversed(segments)))


def _describe(piece: Piece) -> SglDescriptor:
    if piece.address is None:
        return SglDescriptor.of(LENGTH=piece.length, TYPE=SglType.BIT_BUCKET)
    return SglDescriptor.of(ADDRESS=piece.address, LENGTH=piece.length, TYPE=SglType.DATA_BLOCK)
