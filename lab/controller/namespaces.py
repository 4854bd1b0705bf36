"""Namespaces: blocks in a raw image file, metadata behind them, and a write cache that can lose what was not flushed."""

from __future__ import annotations

import ctypes
import errno
import os
import random
import uuid
from collections import deque
from pathlib import Path

from lab.controller.block_ranges import BlockRanges
from lab.controller.zones import Zones
from lab.data.plan import Namespace as Spec
from lab.errors import LabError
from lab.nvme.identify import LbaFormat

CACHE_SIZE = 16 << 20
"""Bytes that the write cache can hold back; what is older has reached the medium."""
FORMATS = (LbaFormat.of(LBADS=9), LbaFormat.of(LBADS=12), LbaFormat.of(LBADS=9, MS=8), LbaFormat.of(LBADS=12, MS=8))
"""The LBA formats that a namespace offers, unless Identify's LBAF is overridden."""

_UNTIL_POWER_CYCLE = 2
_PIECE = 1 << 20
_KEEP_SIZE, _PUNCH_HOLE = 1, 2  # fallocate(2)
_libc = ctypes.CDLL(None, use_errno=True)


class WriteCache:
    """What was on the medium before each write that was not flushed: (offset, bytes), the oldest first."""

    def __init__(self) -> None:
        """Begin with an empty cache."""
        self._before: deque[tuple[int, bytes]] = deque()
        self._held = 0

    def hold(self, offset: int, before: bytes) -> None:
        """Remember ``before``, the bytes at ``offset`` that are about to change: a power cut brings them back."""
        self._before.append((offset, before))
        self._held += len(before)
        while self._held > CACHE_SIZE:
            self._held -= len(self._before.popleft()[1])

    def destage(self, offset: int, length: int, now: bytes | None = None) -> None:
        """Make bytes durable: whatever is rolled back, they come back as they are ``now`` (None: zeros)."""
        end = offset + length
        for index, (start, before) in enumerate(self._before):
            first, last = max(start, offset), min(start + len(before), end)
            if first < last:
                durable = bytes(last - first) if now is None else now[first - offset : last - offset]
                self._before[index] = start, before[: first - start] + durable + before[last - start :]

    def flush(self) -> None:
        """Make everything durable."""
        self._before.clear()
        self._held = 0

    def roll_back(self, fd: int, keep: float, seed: int) -> int:
        """Take writes back, the newest first, each with probability 1 - ``keep``; return how many were lost."""
        chance, lost = random.Random(seed), 0
        while self._before:
            offset, before = self._before.pop()
            if chance.random() >= keep:
                os.pwrite(fd, before, offset)
                lost += 1
            else:
                self.destage(offset, len(before), os.pread(fd, len(before), offset))
        self.flush()
        return lost


class StoredNamespace:
    """One namespace with its blocks, which several controllers may share."""

    def __init__(self, spec: Spec, image: Path, formats: tuple[LbaFormat, ...] = FORMATS) -> None:
        """Open or make the image; LabError when that cannot be.

        ``formats`` are the LBA formats that it offers; its own comes first where it is none of them.
        """
        self.spec, self.nsid = spec, spec.nsid
        self.image = image
        self.block_size, self.metadata_size = spec.block_size, spec.metadata_size
        self.extended = spec.interleaved and bool(spec.metadata_size)
        """Metadata lie at the end of each block, else in a buffer of their own."""
        self.registrants: dict[bytes, int] = {}
        """The reservation key of each host that has registered one."""
        self.holder: tuple[bytes, int] | None = None
        """The host that has reserved it, and the type of the reservation."""
        self.protection = spec.protection
        """The type of its end-to-end protection information; 0 for none."""
        self.write_protection = 0
        """Its state: 0 none, 1 protected, 2 until the power cycle, 3 for ever. Base 2.0, 5.27.1.28."""
        own = LbaFormat.of(LBADS=spec.block_size.bit_length() - 1, MS=spec.metadata_size)
        self.formats = formats if own in formats else (own, *formats)
        self.format_index = self.formats.index(own)
        self.uncorrectable = BlockRanges()
        """The blocks that Write Uncorrectable has spoilt."""
        self.cache = WriteCache()
        self.zones = Zones(
            spec.blocks, spec.zone_blocks, spec.writable_zone, spec.max_active_zones, spec.max_open_zones
        ) if spec.zone_blocks else None  # fmt: skip
        """Its zones, where it is a zoned namespace."""
        self._size = spec.blocks * spec.block_size  # of the data; metadata lie behind them
        self._opened = -1
        try:
            if self._is_complete():
                return  # it is opened when it is first used: there may be more namespaces than a process may have files open
            fresh = os.fstat(self._fd).st_size <= self._size
            self._make_room()
            if fresh:
                self._forget_metadata(0, self.blocks)
        except (OSError, OverflowError) as error:
            self.close()
            raise LabError(f"the namespace's image {image} cannot be used: {error}") from error

    def _is_complete(self) -> bool:
        """Return whether the image is there, of at least its size, and without metadata to prepare."""
        usable = not self.metadata_size and os.access(self.image, os.R_OK | os.W_OK)
        return usable and self.image.is_file() and self.image.stat().st_size >= self._size

    @property
    def _fd(self) -> int:
        """The image's descriptor; the image is opened, or made, when that is needed first."""
        if self._opened < 0:
            self._opened = os.open(self.image, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        return self._opened

    @property
    def image_bytes(self) -> int:
        """Bytes that its blocks take of the subsystem's capacity, without metadata."""
        return self._size

    def close(self) -> None:
        """Close the image; may be called again."""
        if self._opened >= 0:
            os.close(self._opened)
            self._opened = -1

    @property
    def blocks(self) -> int:
        """Its size in logical blocks of the format in use."""
        return self._size // self.block_size

    @property
    def uuid(self) -> uuid.UUID | None:
        """Its UUID, where it has one."""
        return uuid.UUID(self.spec.uuid) if self.spec.uuid else None

    @property
    def nguid(self) -> bytes | None:
        """Its NGUID, where it has one."""
        return uuid.UUID(self.spec.nguid).bytes if self.spec.nguid else None

    @property
    def eui64(self) -> bytes | None:
        """Its EUI64, where it has one."""
        return self.spec.eui64.to_bytes(8, "big") if self.spec.eui64 else None

    # -- blocks -----------------------------------------------------------------------------------------------------

    def read(self, lba: int, blocks: int) -> bytes:
        """Return the data of so many blocks, without metadata."""
        return os.pread(self._fd, blocks * self.block_size, lba * self.block_size)

    def write(self, lba: int, data: bytes, *, durable: bool) -> None:
        """Write whole blocks; unless ``durable`` they stay in the write cache. OSError when the machine's disk is full."""
        offset = lba * self.block_size
        if durable:
            self.cache.destage(offset, len(data), data)
        else:
            self.cache.hold(offset, os.pread(self._fd, len(data), offset))
        os.pwrite(self._fd, data, offset)
        if self.uncorrectable:
            self.uncorrectable.remove(lba, len(data) // self.block_size)

    def read_metadata(self, lba: int, blocks: int) -> bytes:
        """Return the metadata of so many blocks."""
        return os.pread(self._fd, blocks * self.metadata_size, self._size + lba * self.metadata_size)

    def write_metadata(self, lba: int, data: bytes) -> None:
        """Write the metadata of whole blocks."""
        os.pwrite(self._fd, data, self._size + lba * self.metadata_size)

    def deallocate(self, lba: int, blocks: int) -> None:
        """Make blocks read as zeros, durably."""
        self.cache.destage(lba * self.block_size, blocks * self.block_size)
        self.uncorrectable.remove(lba, blocks)
        self._zero(lba * self.block_size, blocks * self.block_size)
        self._forget_metadata(lba, blocks)

    def advance(self, lba: int, blocks: int) -> None:
        """Advance the write pointer of the zone that was written, where there are zones."""
        if self.zones is not None:
            self.zones.wrote(lba, blocks)

    def bad_block(self, lba: int, blocks: int) -> int | None:
        """Return the first block of the range that Write Uncorrectable has spoilt; None if there is none."""
        return self.uncorrectable.first_in(lba, blocks)

    def format(self, index: int, extended: bool) -> None:
        """Format: another block size perhaps, and nothing in it. OSError when the machine's disk is full."""
        chosen = self.formats[index]
        self.block_size, self.metadata_size = chosen.block_size, chosen.MS
        self.format_index, self.extended, self.protection = index, extended and bool(chosen.MS), 0
        self.cache.flush()
        self.uncorrectable.clear()
        self._make_room()
        self._zero(0, os.fstat(self._fd).st_size)
        if self.zones is not None:
            self.zones = Zones(
                self.blocks, self.zone_blocks(chosen), self._in_format(self.spec.writable_zone, chosen),
                self.zones.max_active, self.zones.max_open,
            )  # fmt: skip

    def zone_blocks(self, format: LbaFormat) -> int:
        """Return the blocks of a zone in one of its formats; 0 where there are no zones."""
        return self._in_format(self.spec.zone_blocks, format)

    def _in_format(self, blocks: int, format: LbaFormat) -> int:
        """Return how many blocks of a format take as much room as so many of the first one."""
        return blocks * self.spec.block_size // format.block_size

    def resize(self, blocks: int) -> None:
        """Give it another size, without metadata; what it gains is zero. OSError when the machine's disk is full."""
        before, self._size = self._size, blocks * self.block_size
        self.cache.flush()
        self._make_room()
        if self.zones is not None:
            self.zones = Zones(blocks, self.zones.zone_blocks, self.zones.capacity, self.zones.max_active, self.zones.max_open)
        if self._size > before:
            self._zero(before, self._size - before)

    def cut_power(self, keep: float = 0.0, seed: int = 0) -> int:
        """Lose writes that were not flushed, each with probability 1 - ``keep``; return how many."""
        if self.write_protection == _UNTIL_POWER_CYCLE:
            self.write_protection = 0
        if self.zones is not None:
            self.zones.restart()
        return self.cache.roll_back(self._fd, keep, seed)

    def _make_room(self) -> None:
        """Make the image as long as its blocks and their metadata; what was missing reads as zeros."""
        size = self._size + self.blocks * self.metadata_size
        if os.fstat(self._fd).st_size < size:
            os.ftruncate(self._fd, size)

    def _forget_metadata(self, lba: int, blocks: int) -> None:
        """Make metadata those of blocks that were never written: zeros, or all ones if they are protection information."""
        offset, length = self._size + lba * self.metadata_size, blocks * self.metadata_size
        if not self.protection:
            self._zero(offset, length)
            return
        for at in range(offset, offset + length, _PIECE):
            os.pwrite(self._fd, b"\xff" * min(_PIECE, offset + length - at), at)

    def _zero(self, offset: int, length: int) -> None:
        if not length:
            return
        hole = _libc.fallocate(self._fd, _PUNCH_HOLE | _KEEP_SIZE, ctypes.c_int64(offset), ctypes.c_int64(length))
        if hole == 0:
            return
        if ctypes.get_errno() not in (errno.EOPNOTSUPP, errno.ENOSYS):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(self.image))
        for at in range(offset, offset + length, _PIECE):
            os.pwrite(self._fd, bytes(min(_PIECE, offset + length - at)), at)
