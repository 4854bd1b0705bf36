"""What every block must hold, from the scenario's initial content and what the driver acknowledged since.

The model answers "unknown" where nobody can say: after a write that failed or was never answered, the old or the new bytes
(or a mixture) may be there; the same is true of what was not flushed when power was cut.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from conformance.record.record import Asked, Record
from lab.data import content
from lab.data.mix import Mix
from lab.data.plan import Controller, Namespace


@dataclass
class Disk:
    """The expected content of one namespace while the scenario's actions are replayed in order."""

    seed: int
    namespace: Namespace
    cached: bool = True  # what is written may be lost until it is flushed
    overlay: dict[int, bytes | None] = field(default_factory=dict)  # None: unknown
    unflushed: set[int] = field(default_factory=set)

    def expect(self, lba: int) -> bytes | None:
        """Return the bytes of a block; None if they are unknown."""
        if lba in self.overlay:
            return self.overlay[lba]
        return content.initial(self.seed, self.namespace, lba)

    def expect_range(self, lba: int, blocks: int) -> bytes | None:
        """Return the bytes that blocks from ``lba`` on must hold; None if one of them may hold anything."""
        parts = [self.expect(lba + i) for i in range(blocks)]
        return None if any(part is None for part in parts) else b"".join(part for part in parts if part is not None)

    def apply(self, asked: Asked) -> None:
        """Take an action that may have changed the disk."""
        if asked.action == "cut-power" and asked.ok:
            self.overlay.update(dict.fromkeys(self.unflushed))
            self.unflushed.clear()
        if asked.arguments.get("nsid") != self.namespace.nsid:
            return
        if asked.action == "flush" and asked.ok:
            self.unflushed.clear()
        elif asked.action == "load-mix":
            self._mixed(asked)
        elif asked.action in CHANGES:
            for block in touched(asked, self.namespace):
                self._keep(block, self._new(asked, block) if asked.ok else None, durable=bool(asked.arguments.get("fua")))

    def _new(self, asked: Asked, lba: int) -> bytes | None:
        """Return what a block of a write, zeroes or trim that succeeded holds now."""
        size = self.namespace.block_size
        if asked.action == "trim":
            return None
        if asked.action == "zeroes":
            return bytes(size)
        new = content.block(int(asked.arguments["fill"]), self.namespace.nsid, lba, size)
        if asked.action == "write" or (old := self.expect(lba)) is None:
            return new if asked.action == "write" else None
        begin = int(asked.arguments["lba"]) * size + int(asked.arguments["at"]) - lba * size
        first, last = max(begin, 0), min(begin + int(asked.arguments["length"]), size)
        return old[:first] + new[first:last] + old[last:]

    def _keep(self, lba: int, held: bytes | None, *, durable: bool = False) -> None:
        self.overlay[lba] = held
        if durable or not self.cached:
            self.unflushed.discard(lba)
        else:
            self.unflushed.add(lba)

    def _mixed(self, asked: Asked) -> None:
        """Take a mixed load: a lane that met an error may have missed any of its writes."""
        clean = asked.ok and not asked.answer.get("errors")
        for lba, fill in Mix.of(asked.arguments).final().items():
            held = content.block(fill, self.namespace.nsid, lba, self.namespace.block_size)
            self._keep(lba, held if clean else None)

    def expected_blocks(self) -> Iterator[int]:
        """Every block that may differ from zero."""
        seen = set(self.overlay)
        for first, count in self.namespace.areas:
            seen.update(range(first, first + count))
        return iter(sorted(seen))


CHANGES = ("write", "write-bytes", "zeroes", "trim")
"""Actions that change blocks."""


def touched(asked: Asked, namespace: Namespace) -> range:
    """Return the blocks that one of `CHANGES` may change; they end with the namespace."""
    lba, arguments = int(asked.arguments["lba"]), asked.arguments
    blocks = -(-(arguments["at"] + arguments["length"]) // namespace.block_size) if "at" in arguments else arguments["blocks"]
    return range(lba, min(lba + int(blocks), max(lba, namespace.blocks)))


Key = tuple[str, int]
"""(controller's id, NSID): what tells a namespace from all others. A shared one is its first controller's."""


def replay(record: Record) -> Iterator[tuple[Asked, Disk]]:
    """Every answered action on a namespace with that namespace's disk just before it."""
    disks = _disks(record)
    for asked in record.asked:
        key = _meant(record, asked)
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
    """Apply an action to the disk of the namespace that it names, or to all disks for a power cut."""
    for disk in disks.values() if asked.action == "cut-power" else [disks[key]] if key else []:
        disk.apply(asked)


def _meant(record: Record, asked: Asked) -> Key | None:
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
class Difference:
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
        _apply(disks, asked, _meant(record, asked))
    return disks


def differences(image: Path, controller: str, disk: Disk) -> Iterator[Difference]:
    """Every block of the image that is not as expected: holes are read as zeros and cost nothing."""
    size = disk.namespace.block_size
    known = set(disk.expected_blocks())
    with image.open("rb") as file:
        total = min(os.fstat(file.fileno()).st_size // size, disk.namespace.blocks)  # metadata lie behind
        for lba in sorted(known | set(_written_blocks(file.fileno(), size))):
            if lba >= total:
                continue
            file.seek(lba * size)
            actual = file.read(size)
            expected = disk.expect(lba)
            if expected is not None and actual != expected:
                yield Difference(controller, disk.namespace.nsid, lba, expected, actual)


def _written_blocks(descriptor: int, block_size: int) -> Iterator[int]:
    """Return the blocks of a sparse file that are not holes."""
    end = os.fstat(descriptor).st_size
    position = 0
    while position < end:
        try:
            first = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError:  # ENXIO: nothing but a hole up to the end
            return
        position = os.lseek(descriptor, first, os.SEEK_HOLE)
        yield from range(first // block_size, -(-position // block_size))


def show(data: bytes) -> str:
    """Return the beginning of some bytes, for a finding."""
    return f"{data[:16].hex()}…" if len(data) > 16 else data.hex()
