"""The programmable controller's record: a file of binary records that is written at the speed of the device.

A record is a head (its length, its kind, the time) and a body; `LAYOUTS` says what body an event has. Events without a
layout of their own are kept as JSON. The writer packs into a shared mapping of the file's end: what it packed is in the
file even if the process is killed the next moment, and memory stays bounded by the mapping's size.

The reader takes the file in pieces, and keeps no more of it than one piece.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import mmap
import os
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from lab.data.events import (
    Barrier,
    Completed,
    Dma,
    DmaMap,
    Doorbell,
    Event,
    Interrupt,
    MemoryRead,
    MemoryWrite,
    PrpList,
    RegisterRead,
    RegisterWrite,
    Submitted,
    from_json,
    revive,
    to_json,
)
from lab.errors import LabError

MAGIC = b"NVMe Lab record\1"
"""The file's first 16 bytes; the last of them is the format's version."""
WINDOW = 1 << 20
"""Bytes of the file that are mapped, and reserved on the disk, at a time."""
PIECE = 1 << 18
"""Bytes that are read at a time."""

_HEAD = struct.Struct("<IBxxxd")  # length of the whole record, kind, seconds
_SHAPE = "<IBxxxd"
_INTERRUPTS = ("msix", "msi", "intx")
_JSON = 0x7F
_UNKNOWN_QID = 0xFFFF  # in a Doorbell record: no queue
Values = dict[str, Any]
"""Fields of an event by name."""


def digest(data: bytes | bytearray | memoryview) -> str:
    """Return the digest of moved bytes in `lab.data.events.Dma`: the first 16 hex digits of SHA-1, the fastest long hash."""
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()[:16]


@dataclass(frozen=True)
class Layout:
    """One kind of record. ``fields`` name the event's numbers in the order of ``body``; ``tail`` the bytes after them."""

    kind: int
    event: type[Event]
    body: str
    fields: tuple[str, ...]
    tail: str = ""

    @property
    def shape(self) -> struct.Struct:
        """Head and body as one."""
        return struct.Struct(_SHAPE + self.body)


def _entries(raw: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(raw) // 8}Q", raw)


LAYOUTS = (
    Layout(1, RegisterRead, "IIQ", ("offset", "size", "value")),
    Layout(2, RegisterWrite, "IIQ", ("offset", "size", "value")),
    Layout(3, Doorbell, "IIQH?", ("offset", "size", "value", "qid", "completion")),
    Layout(4, Submitted, "HH64s", ("sqid", "slot", "raw")),
    Layout(5, Completed, "H16s", ("cqid", "raw")),
    Layout(6, PrpList, "HHQ", ("sqid", "cid", "address"), "entries"),
    Layout(7, Dma, "HHQI?8s", ("sqid", "cid", "address", "length", "to_host", "digest")),
    Layout(8, Interrupt, "HB", ("vector", "how")),
    Layout(9, DmaMap, "QQ?", ("address", "length", "mapped")),
    Layout(10, MemoryRead, "QI", ("address", "length"), "raw"),
    Layout(11, MemoryWrite, "QI", ("address", "length"), "raw"),
    Layout(12, Barrier, "", ()),
)
_STORED: dict[tuple[type[Event], str], Callable[[Any], Any]] = {
    (Doorbell, "qid"): lambda qid: -1 if qid == _UNKNOWN_QID else qid,
    (PrpList, "entries"): _entries,
    (Dma, "digest"): bytes.hex,
    (Interrupt, "how"): _INTERRUPTS.__getitem__,
}
"""Fields that are stored in another form than the event has them, and what makes that of it."""
_SHAPES = {layout.event: layout.shape for layout in LAYOUTS}
_READ, _WRITE, _BELL = _SHAPES[RegisterRead], _SHAPES[RegisterWrite], _SHAPES[Doorbell]
_SUBMITTED, _COMPLETED, _PRP = _SHAPES[Submitted], _SHAPES[Completed], _SHAPES[PrpList]
_DMA, _INTERRUPT, _MAP = _SHAPES[Dma], _SHAPES[Interrupt], _SHAPES[DmaMap]
_MEMORY, _BARRIER = _SHAPES[MemoryRead], _SHAPES[Barrier]


class StreamWriter:
    """Writes one controller's record; one thread at a time. LabError when the file cannot be written.

    The methods take the fields of the event that they are named after; ``clock`` returns the time in seconds.
    """

    def __init__(self, path: Path, clock: Any = time.time) -> None:
        """Create the file, which must not exist yet."""
        self.path = path
        self.clock = clock
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._base = 0  # where in the file the mapping begins
        self._at = self._end = 0  # in the mapping
        self._map: mmap.mmap | None = None
        self._window = memoryview(bytearray())  # the mapping's
        at = self._room(len(MAGIC))
        self._window[at : at + len(MAGIC)] = MAGIC

    def register_read(self, offset: int, size: int, value: int) -> None:
        """Record a register read."""
        at = self._room(_READ.size)
        _READ.pack_into(self._window, at, _READ.size, 1, self.clock(), offset, size, value)

    def register_write(self, offset: int, size: int, value: int) -> None:
        """Record a register write."""
        at = self._room(_WRITE.size)
        _WRITE.pack_into(self._window, at, _WRITE.size, 2, self.clock(), offset, size, value)

    def doorbell(self, offset: int, size: int, value: int, qid: int, completion: bool) -> None:
        """Record a doorbell write."""
        at = self._room(_BELL.size)
        _BELL.pack_into(self._window, at, _BELL.size, 3, self.clock(), offset, size, value, qid & 0xFFFF, completion)

    def submitted(self, sqid: int, slot: int, raw: bytes) -> None:
        """Record a fetched command."""
        at = self._room(_SUBMITTED.size)
        _SUBMITTED.pack_into(self._window, at, _SUBMITTED.size, 4, self.clock(), sqid, slot, raw)

    def completed(self, cqid: int, raw: bytes) -> None:
        """Record a posted completion."""
        at = self._room(_COMPLETED.size)
        _COMPLETED.pack_into(self._window, at, _COMPLETED.size, 5, self.clock(), cqid, raw)

    def prp_list(self, sqid: int, cid: int, address: int, entries: tuple[int, ...]) -> None:
        """Record a PRP list that was read."""
        length = _PRP.size + 8 * len(entries)
        at = self._room(length)
        struct.pack_into(f"<{len(entries)}Q", self._window, at + _PRP.size, *entries)
        _PRP.pack_into(self._window, at, length, 6, self.clock(), sqid, cid, address)

    def dma(self, sqid: int, cid: int, address: int, data: bytes | memoryview, to_host: bool) -> None:
        """Record a transfer of ``data``, with its digest."""
        seal = hashlib.sha1(data, usedforsecurity=False).digest()
        at = self._room(_DMA.size)
        _DMA.pack_into(self._window, at, _DMA.size, 7, self.clock(), sqid, cid, address, len(data), to_host, seal)

    def interrupt(self, vector: int, how: str) -> None:
        """Record an interrupt."""
        at = self._room(_INTERRUPT.size)
        _INTERRUPT.pack_into(self._window, at, _INTERRUPT.size, 8, self.clock(), vector, _INTERRUPTS.index(how))

    def dma_map(self, address: int, length: int, mapped: bool) -> None:
        """Record that memory was opened or closed to the device."""
        at = self._room(_MAP.size)
        _MAP.pack_into(self._window, at, _MAP.size, 9, self.clock(), address, length, mapped)

    def memory_access(self, address: int, length: int, raw: bytes, write: bool) -> None:
        """Record that the driver read or wrote its own memory."""
        at = self._room(total := _MEMORY.size + len(raw))
        self._window[at + _MEMORY.size : at + total] = raw
        _MEMORY.pack_into(self._window, at, total, 11 if write else 10, self.clock(), address, length)

    def barrier(self) -> None:
        """Record a barrier of the driver's."""
        at = self._room(_BARRIER.size)
        _BARRIER.pack_into(self._window, at, _BARRIER.size, 12, self.clock())

    def event(self, event: Event) -> None:
        """Record any other event, as JSON."""
        text = json.dumps(to_json(event), separators=(",", ":"), default=str).encode()
        length = _HEAD.size + len(text)
        at = self._room(length)
        self._window[at + _HEAD.size : at + length] = text
        _HEAD.pack_into(self._window, at, length, _JSON, event.t)

    def close(self) -> None:
        """Give back what was reserved and not used. May be called again."""
        if self._fd < 0:
            return
        size = self._base + self._at
        self._unmap()
        os.ftruncate(self._fd, size)
        os.close(self._fd)
        self._fd = -1

    def _room(self, length: int) -> int:
        """Return the place of the next ``length`` bytes in the mapping."""
        at = self._at
        if at + length > self._end:
            at = self._move(length)
        self._at = at + length
        return at

    def _move(self, length: int) -> int:
        """Map the file from the page of the next record on; reserve the space, since a full disk would raise SIGBUS."""
        if self._fd < 0:
            raise LabError(f"{self.path}: the record is closed")
        position = self._base + self._at
        self._unmap()
        self._base = position & -mmap.ALLOCATIONGRANULARITY
        size = max(WINDOW, (position - self._base + length + WINDOW - 1) & -WINDOW)
        try:
            os.posix_fallocate(self._fd, self._base, size)
        except OSError as error:
            raise LabError(
                f"{self.path} cannot grow: {error.strerror}", remedy="free some space or choose another folder with --out"
            ) from error
        self._map = mmap.mmap(self._fd, size, offset=self._base)
        self._window = memoryview(self._map)
        self._end = size
        return position - self._base

    def _unmap(self) -> None:
        if self._map is not None:
            self._window.release()
            self._map.close()
            self._map = None


def read_stream(path: Path, *, complete: bool) -> Iterator[Event]:
    """Yield the events of one record in order, one at a time. ``line`` is the record's number, negative.

    ``complete`` says that the recording ended in order; without it a record that was cut off ends the events. LabError for
    anything that is no record.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise LabError(f"{path} cannot be read: {error.strerror}") from error
    with file:
        if file.read(len(MAGIC)) != MAGIC:
            raise LabError(f"{path} is no record of a programmable controller")
        for _, event in _records(file, path, 0, complete=complete):
            yield event


class Tail:
    """A record that is under way. What its writer may be packing at this moment is left for the next look."""

    def __init__(self, path: Path) -> None:
        """Read a record from its first event on, also while it is written."""
        self._path = path
        self._at, self._number = len(MAGIC), 0  # what has been given
        self._seen = 0  # where the record ended at the last look

    def new(self, *, ended: bool) -> list[Event]:
        """Return the complete events since the last call; all that are left once the recording has ``ended``."""
        found, end = [], self._at
        with self._path.open("rb") as file:
            file.seek(self._at)
            for length, event in _records(file, self._path, self._number, complete=ended):
                end += length
                if ended or end <= self._seen:
                    found.append(event)
                    self._at, self._number = end, self._number + 1
        self._seen = end
        return found


def _records(file: BinaryIO, path: Path, number: int, *, complete: bool) -> Iterator[tuple[int, Event]]:
    """Yield (length, event) of each record from the file's position on, which comes after record ``number``."""
    controller = path.stem
    piece, at = b"", 0  # what was read of the file, and how much of that was looked at
    while True:
        if len(piece) - at < _HEAD.size:
            piece, at = piece[at:] + file.read(PIECE), 0
            if not piece:
                return
        number += 1
        length, kind, t = _HEAD.unpack(piece[at : at + _HEAD.size].ljust(_HEAD.size, b"\0"))
        if not length and not kind and not complete:
            return  # what was reserved and not used
        if len(piece) - at < length:
            piece, at = piece[at:] + file.read(max(PIECE, length - len(piece) + at)), 0
        try:
            if len(piece) - at < length or length < _HEAD.size:
                raise ValueError(f"{length} bytes announced, {len(piece) - at} there")
            event = _event(kind, t, piece, at, length, controller, -number)
        except (ValueError, KeyError, TypeError, IndexError, struct.error) as error:
            if not complete:
                return
            raise LabError(f"{path}, record {number}: cannot be read ({error})") from error
        at += length
        yield length, event


def _event(kind: int, t: float, piece: bytes, at: int, length: int, controller: str, line: int) -> Event:
    """Return the event of the record that lies at ``at`` in a piece of the file."""
    if kind == _JSON:
        return from_json(json.loads(piece[at + _HEAD.size : at + length]), line)
    event, values = _READERS[kind](piece, at, length)
    values["t"], values["controller"], values["line"] = t, controller, line
    return revive(event, values)


def _reader(layout: Layout) -> Callable[[bytes, int, int], tuple[type[Event], Values]]:
    """Return what reads the records of a layout: from a piece of the file, the record's place in it, and its length."""
    event, names, tail = layout.event, layout.fields, layout.tail
    size, unpack = layout.shape.size, layout.shape.unpack_from
    stored = [(name, made) for (kind, name), made in _STORED.items() if kind is event]

    def read(piece: bytes, at: int, length: int) -> tuple[type[Event], Values]:
        if length < size:
            raise ValueError(f"a {event.__name__} has at least {size} bytes, this one {length}")
        values: Values = dict(zip(names, unpack(piece, at)[3:], strict=True))
        if tail:
            values[tail] = piece[at + size : at + length]
        for name, made in stored:
            values[name] = made(values[name])
        return event, values

    return read


_READERS = {layout.kind: _reader(layout) for layout in LAYOUTS}


def _check_layouts() -> None:
    """Check that a layout names all fields of its event: a field added to an event must not be lost silently."""
    common = {"t", "controller", "line", "sampled", "exact", "rebuilt"}
    for layout in LAYOUTS:
        wanted = {field.name for field in dataclasses.fields(layout.event)} - common
        if wanted != {*layout.fields, *([layout.tail] if layout.tail else [])}:
            raise AssertionError(f"{layout.event.__name__}: its record holds {layout.fields}, the event has {sorted(wanted)}")


_check_layouts()
