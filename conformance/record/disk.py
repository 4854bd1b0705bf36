"""What every block must hold, from the scenario's initial content and what the driver acknowledged since.

The model answers "unknown" where it cannot know: after a write that failed or was never answered, the old or the new bytes
(or a mixture) may be there; the same is true of what was not flushed when power was cut.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from conformance.record.extents import Extents
from conformance.record.record import Asked, Record
from lab.data import content
from lab.data.mix import Mix
from lab.data.plan import Controller, Namespace

UNKNOWN = None
"""What a block holds of which nobody can say what it holds."""
Held: TypeAlias = int | bytes | None
"""Of a changed range: the number of its fill, the bytes of each of its blocks, or `UNKNOWN`."""


@dataclass
class Disk:
    """The expected content of one namespace while the scenario's actions are replayed in order."""

    seed: int
    namespace: Namespace
    cached: bool = True  # what is written may be lost until it is flushed
    _before: Namespace | None = None  # as it was when its first content was made, where its size has changed since
    _changed: Extents[Held] = field(default_factory=Extents)
    _unflushed: Extents[None] = field(default_factory=Extents)
    _started: list[tuple[range, int]] = field(default_factory=list)  # writes that nobody has collected yet, with their fills

    def expect(self, lba: int) -> bytes | None:
        """Return the bytes of a block; None if they are unknown."""
        changed, held = self._changed.find(lba)
        if not changed and self.namespace.is_unknown:
            return UNKNOWN
        if not changed:
            return content.initial(self.seed, self._origin, lba)
        return content.block(held, self.namespace.nsid, lba, self.namespace.block_size) if isinstance(held, int) else held

    @property
    def _origin(self) -> Namespace:
        """The namespace that its first content was made for."""
        return self._before or self.namespace

    def expect_range(self, lba: int, blocks: int) -> bytes | None:
        """Return the bytes that blocks from ``lba`` on must hold; None if one of them may hold anything."""
        if any(held is UNKNOWN for _, held in self._changed.within(range(lba, lba + blocks))):
            return None
        if self.namespace.is_unknown:
            parts = [self.expect(lba + i) for i in range(blocks)]
            return None if UNKNOWN in parts else b"".join(part for part in parts if part is not None)
        changed = list(self._changed.within(range(lba, lba + blocks)))
        if not changed:
            return content.initial_blocks(self.seed, self.namespace, lba, blocks)
        found, size, at = [], self.namespace.block_size, lba
        for part, held in changed:
            found.append(content.initial_blocks(self.seed, self.namespace, at, part.start - at))
            if isinstance(held, bytes):
                found.append(held * len(part))
            elif held is not UNKNOWN:
                found.append(content.blocks(held, self.namespace.nsid, part.start, len(part), size))
            at = part.stop
        found.append(content.initial_blocks(self.seed, self.namespace, at, lba + blocks - at))
        return b"".join(found)

    def was_changed(self, lba: int, blocks: int) -> bool:
        """Return whether an action may have changed one of the blocks."""
        return any(True for _ in self._changed.within(range(lba, lba + blocks)))

    def apply(self, asked: Asked) -> None:
        """Take an action that may have changed the disk."""
        if asked.action == "cut-power" and asked.ok:
            for blocks, _ in self._unflushed:
                self._changed.put(blocks, UNKNOWN)
            self._unflushed.clear()
        if asked.action == "collect":
            self._collected(asked)
        if asked.arguments.get("nsid") != self.namespace.nsid:
            return
        if asked.action in RESHAPES and asked.ok:
            self._reshape(asked)
        if asked.action in ZONE_CHANGES and self.namespace.zone_blocks:
            self._zoned(asked)
        if asked.action == "flush" and asked.ok:
            self._unflushed.clear()
        elif asked.action == "load-mix":
            self._mixed(asked)
        elif asked.action == "submit" and "fill" in asked.arguments:
            blocks = touched(asked, self.namespace)
            self._keep(blocks, UNKNOWN)
            self._started.append((blocks, int(asked.arguments["fill"])))
        elif asked.action in CHANGES:
            blocks, durable = touched(asked, self.namespace), bool(asked.arguments.get("fua"))
            if asked.action == "write-bytes" and asked.ok:
                for lba in blocks:
                    self._keep(range(lba, lba + 1), self._partly_new(asked, lba), durable=durable)
            else:
                self._keep(blocks, self._new(asked) if asked.ok else UNKNOWN, durable=durable)

    def _reshape(self, asked: Asked) -> None:
        """Take another size, whose new blocks are zero, or another format, after which all blocks are."""
        before = self.namespace
        if asked.action == "resize":
            self._before, self.namespace = self._origin, replace(before, blocks=int(asked.arguments["blocks"]))
            self._keep(range(before.blocks, max(before.blocks, self.namespace.blocks)), bytes(before.block_size), durable=True)
            return
        size = BLOCK_SIZES[int(asked.arguments["format"])]
        self.namespace = replace(before, blocks=before.blocks * before.block_size // size, block_size=size, areas=())
        self._before = None
        self._changed.clear()
        self._unflushed.clear()

    def _new(self, asked: Asked) -> Held:
        """Return what each block of a write, zeroes, clear or trim that succeeded holds now."""
        if asked.action == "trim":
            return UNKNOWN
        if asked.action == "clear":
            first, size = int(asked.arguments["lba"]), self.namespace.block_size
            return content.block(int(asked.arguments["fill"]), self.namespace.nsid, first, size)
        return bytes(self.namespace.block_size) if asked.action == "zeroes" else int(asked.arguments["fill"])

    def _partly_new(self, asked: Asked, lba: int) -> Held:
        """Return what a block holds now of which some bytes were written."""
        if (old := self.expect(lba)) is None:
            return UNKNOWN
        size = self.namespace.block_size
        new = content.block(int(asked.arguments["fill"]), self.namespace.nsid, lba, size)
        begin = int(asked.arguments["lba"]) * size + int(asked.arguments["at"]) - lba * size
        first, last = max(begin, 0), min(begin + int(asked.arguments["length"]), size)
        return old[:first] + new[first:last] + old[last:]

    def _keep(self, blocks: range, held: Held, *, durable: bool = False) -> None:
        self._changed.put(blocks, held)
        if durable or not self.cached:
            self._unflushed.remove(blocks)
        else:
            self._unflushed.put(blocks, None)

    def _collected(self, asked: Asked) -> None:
        """Take the end of all that was started: where one of it failed, nobody can say what became of the writes."""
        clean = asked.ok and all(one.get("status") == "success" for one in asked.all("operations"))
        for blocks, fill in self._started:
            self._keep(blocks, fill if clean else UNKNOWN)
        self._started.clear()

    def _zoned(self, asked: Asked) -> None:
        """Take an append, whose data are where the driver says, or a reset, after which blocks read as the device likes."""
        every, arguments = self.namespace.zone_blocks, asked.arguments
        if asked.action == "zone":
            if arguments["operation"] == "reset":
                first = int(arguments.get("lba", 0))
                self._keep(range(first, first + every if "lba" in arguments else self.namespace.blocks), UNKNOWN, durable=True)
            return
        start, fill = int(arguments["lba"]), int(arguments["fill"])
        if not asked.ok:
            self._keep(range(start - start % every, start - start % every + every), UNKNOWN)
            return
        done = 0
        for place in asked.all("placed"):
            for lba in range(place["lba"], place["lba"] + place["blocks"]):
                block = content.block(fill, self.namespace.nsid, start + done, self.namespace.block_size)
                self._keep(range(lba, lba + 1), block)
                done += 1

    def _mixed(self, asked: Asked) -> None:
        """Take a mixed load: a lane that met an error may have missed any of its writes."""
        clean = asked.ok and not asked.answer.get("errors")
        written = [(blocks, fill if clean else UNKNOWN) for blocks, fill in Mix.of(asked.arguments).final()]
        self._changed.put_each(written)
        if self.cached:
            self._unflushed.put_each([(blocks, None) for blocks, _ in written])
        else:
            for blocks, _ in written:
                self._unflushed.remove(blocks)

    def expected_ranges(self) -> Iterator[range]:
        """Yield ranges, in no order, of every block that may differ from zero and is known."""
        for first, count in content.areas_of(self._origin) if not self._origin.is_unknown else ():
            yield range(first, first + count)
        zeros = bytes(self.namespace.block_size)
        yield from (blocks for blocks, held in self._changed if held is not UNKNOWN and held != zeros)


RESHAPES = ("resize", "reformat")
"""Actions of the lab that change a namespace's size or format."""
BLOCK_SIZES = (512, 4096)
"""Bytes of a block of the programmable controller's first formats, which have no metadata."""
ZONE_CHANGES = ("zone", "zone-append")
"""Actions that change blocks of zones."""
CHANGES = ("write", "write-bytes", "zeroes", "clear", "trim")
"""Actions that change blocks."""
OF_ALL = ("cut-power", "collect")
"""Actions that concern every disk, though they name none."""


def touched(asked: Asked, namespace: Namespace) -> range:
    """Return the blocks that one of `CHANGES` may change; they end with the namespace."""
    lba, arguments = int(asked.arguments["lba"]), asked.arguments
    blocks = -(-(arguments["at"] + arguments["length"]) // namespace.block_size) if "at" in arguments else arguments["blocks"]
    return range(lba, min(lba + int(blocks), max(lba, namespace.blocks)))


Key = tuple[str, int]
"""(controller's id, NSID): what distinguishes a namespace from all others. A shared one is its first controller's."""


def replay(record: Record) -> Iterator[tuple[Asked, Disk]]:
    """Every answered action on a namespace with that namespace's disk just before it."""
    disks = _disks(record)
    for asked in record.asked:
        key = meant(record, asked)
        if key is not None:
            yield asked, disks[key]
        _apply(disks, asked, key)


def key_of(record: Record, controller: Controller, namespace: Namespace) -> Key:
    """Where a controller's namespace stands among `final_disks`."""
    if namespace.shared:
        sharing = (c.id for c in record.controllers if (n := c.namespace(namespace.nsid)) and n.shared)
        return next(sharing), namespace.nsid
    return controller.id, namespace.nsid


def _apply(disks: dict[Key, Disk], asked: Asked, key: Key | None) -> None:
    """Apply an action to the disk of the namespace that it names, or to all disks where it concerns all."""
    for disk in disks.values() if asked.action in OF_ALL else [disks[key]] if key else []:
        disk.apply(asked)


def meant(record: Record, asked: Asked) -> Key | None:
    """Return the namespace that an action names: on the controller it names, or else on the first that has it."""
    wanted = asked.arguments.get("controller")
    for controller in record.controllers:
        if wanted in (None, controller.id) and (namespace := controller.namespace(asked.arguments.get("nsid", 0))):
            return key_of(record, controller, namespace)
    return None


def _disks(record: Record) -> dict[Key, Disk]:
    """Every namespace once, as it is at the start."""
    held = [(c, n) for c in record.controllers for n in c.namespaces]
    return {key_of(record, c, n): Disk(record.scenario.seed, n, c.write_cache) for c, n in reversed(held)}


@dataclass(frozen=True)
class BlockDifference:
    """A block of a namespace's image that does not hold what it must."""

    controller: str
    nsid: int
    lba: int
    expected: bytes
    actual: bytes


def final_disks(record: Record) -> dict[Key, Disk]:
    """Return the disks after all actions, also of namespaces that no action names."""
    disks = _disks(record)
    for asked in record.asked:
        _apply(disks, asked, meant(record, asked))
    return disks


def differences(image: Path, controller: str, disk: Disk) -> Iterator[BlockDifference]:
    """Every block of the image that is not as expected: holes are read as zeros and cost nothing."""
    size = disk.namespace.block_size
    with image.open("rb") as file:
        total = min(os.fstat(file.fileno()).st_size // size, disk.namespace.blocks)  # metadata lie behind
        for run in _each_once((*disk.expected_ranges(), *_written_ranges(file.fileno(), size)), total):
            file.seek(run.start * size)
            held = file.read(len(run) * size)
            if held == disk.expect_range(run.start, len(run)):
                continue
            for number, lba in enumerate(run):
                expected, actual = disk.expect(lba), held[number * size : (number + 1) * size]
                if expected is not None and actual != expected:
                    yield BlockDifference(controller, disk.namespace.nsid, lba, expected, actual)


def _each_once(ranges: Iterable[range], total: int) -> Iterator[range]:
    """Yield in order, in runs of `content.RUN` at most, the blocks below ``total`` that are in one of the ranges."""
    begin = 0
    for blocks in sorted(ranges, key=lambda blocks: blocks.start):
        begin = max(begin, blocks.start)
        while begin < min(blocks.stop, total):
            end = min(blocks.stop, total, (begin // content.RUN + 1) * content.RUN)
            yield range(begin, end)
            begin = end


def _written_ranges(descriptor: int, block_size: int) -> Iterator[range]:
    """Yield the blocks of a sparse file that are not holes."""
    end = os.fstat(descriptor).st_size
    position = 0
    while position < end:
        try:
            first = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError:  # ENXIO: nothing but a hole up to the end
            return
        position = os.lseek(descriptor, first, os.SEEK_HOLE)
        yield range(first // block_size, -(-position // block_size))


def show(data: bytes) -> str:
    """Return the beginning of some bytes, for a finding."""
    return f"{data[:16].hex()}…" if len(data) > 16 else data.hex()
