"""A mixed load as data: who reads and writes what, in which order, so that driver and judge mean the same without a word.

``jobs`` × ``depth`` lanes run at the same time. Each has one command outstanding and its own slots on the medium, so that what
a slot must hold is known at each step, however the lanes overtake each other. The lanes of one job lie side by side: a block
shows whose it is.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from lab.data import content
from lab.data.plan import Namespace

SLOTS = 2
"""Slots of a lane: it comes back to what it wrote two steps ago."""
KEPT = 16
"""Mixes whose steps are kept: the driver's side and many checks ask for the same ones."""


@dataclass(frozen=True)
class MixStep:
    """One read or write of a slot. ``fill`` is what the slot holds when the step is done (`lab.data.content`)."""

    write: bool
    lba: int
    fill: int


@dataclass(frozen=True)
class Lane:
    """What one lane of a job does, step by step."""

    job: int
    steps: tuple[MixStep, ...]


@dataclass(frozen=True)
class Mix:
    """The arguments of the action ``load-mix``: ``operations`` in all, on slots of ``blocks`` from ``lba`` on."""

    nsid: int
    lba: int
    blocks: int
    jobs: int
    depth: int
    operations: int
    seed: int

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Mix:
        """Return the mix of an action; KeyError or ValueError if arguments are missing or no numbers."""
        return cls(**{name: int(arguments[name]) for name in cls.__dataclass_fields__})

    def region(self, job: int) -> range:
        """Return the blocks of one job."""
        length = self.depth * SLOTS * self.blocks
        return range(self.lba + job * length, self.lba + (job + 1) * length)

    @lru_cache(KEPT)  # noqa: B019 (a few mixes live longer: each is asked for by the driver's side and by many checks)
    def lanes(self) -> tuple[Lane, ...]:
        """Return the steps of each lane: it writes all its slots, and then reads and writes as the seed draws."""
        count = self.jobs * self.depth
        return tuple(
            Lane(number // self.depth, tuple(self._steps(number, len(range(number, self.operations, count)))))
            for number in range(count)
        )

    def _steps(self, lane: int, count: int) -> Iterator[MixStep]:
        draw = random.Random(f"{self.seed}/{lane}")
        held: dict[int, int] = {}
        for number in range(count):
            slot = number if number < SLOTS else draw.randrange(SLOTS)
            write = slot not in held or draw.random() < 0.5
            if write:
                held[slot] = draw.getrandbits(48)
            yield MixStep(write, self.lba + (lane * SLOTS + slot) * self.blocks, held[slot])

    def final(self) -> list[tuple[range, int]]:
        """Return the slots that are written, in order, each with its fill after all steps."""
        fills = {step.lba: step.fill for lane in self.lanes() for step in lane.steps if step.write}
        return [(range(lba, lba + self.blocks), fills[lba]) for lba in sorted(fills)]


def spelled_out(mix: Mix, namespace: Namespace) -> tuple[dict[str, Any], bytes]:
    """Return what a driver gets, which knows nothing of patterns.

    The lanes as [lba, None] for a write and [lba, CRC-32 of what must come] for a read; the bytes of all writes in this
    order; and each job's [lba, blocks].
    """
    lanes: list[dict[str, Any]] = []
    data = []
    for lane in mix.lanes():
        steps: list[list[int | None]] = []
        for step in lane.steps:
            held = content.blocks(step.fill, mix.nsid, step.lba, mix.blocks, namespace.block_size)
            steps.append([step.lba, None if step.write else zlib.crc32(held)])
            if step.write:
                data.append(held)
        lanes.append({"job": lane.job, "steps": steps})
    regions = [[mix.region(job).start, len(mix.region(job))] for job in range(mix.jobs)]
    return {"lanes": lanes, "regions": regions}, b"".join(data)
