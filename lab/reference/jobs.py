"""Benchmark jobs: what is read and written, how, and for how long. Their options have the names of fio's.

A job keeps ``iodepth`` operations outstanding for each of its ``numjobs`` CPUs, on DMA memory of its own, without copies.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from lab.nvme.commands import Read, Write
from lab.reference.controller import Controller
from lab.reference.errors import Refused
from lab.reference.io_ring import IoRing
from lab.reference.namespace import Namespace
from lab.reference.operation import PHYSICAL, Operation
from lab.reference.statistics import Statistics

PATTERNS = "read", "write", "rw", "randread", "randwrite", "randrw"
UNITS = {"k": 1 << 10, "m": 1 << 20}
PROGRESS_SECONDS = 0.25
FILL = bytes(range(251))
"""What is written, again and again."""


@dataclass(frozen=True)
class Job:
    """One job. ``bs`` is bytes, ``runtime`` seconds, ``rwmixread`` the share of reads in percent."""

    name: str
    rw: str = "randread"
    bs: int = 4096
    iodepth: int = 32
    numjobs: int = 1
    rwmixread: int = 50
    runtime: float = 1.0
    randseed: int = 1
    number_ios: int = 1 << 62
    """Operations after which it ends, before its time has passed."""

    @property
    def read_percent(self) -> int:
        """The share of reads in percent."""
        if self.rw.endswith("rw"):
            return self.rwmixread
        return 100 if self.rw.endswith("read") else 0

    @property
    def writes(self) -> bool:
        """Whether the job destroys data."""
        return self.read_percent < 100


STANDARD = (
    Job("randread-4k", "randread", 4 << 10),
    Job("seqread-128k", "read", 128 << 10),
    Job("randrw-70-30", "randrw", 4 << 10, rwmixread=70),
)
"""Random 4 KiB reads, sequential 128 KiB reads, and a random mix of 70 % reads and 30 % writes, 32 outstanding each."""


def parse(text: str) -> Job:
    """Return the job of ``name=hot,rw=randread,bs=4k,iodepth=8``. Refused for what is not an option, or not a value."""
    job = Job("job")
    for part in text.split(","):
        option, _, value = part.partition("=")
        if option not in OPTIONS:
            raise Refused(f"the job {text!r} has an option {option!r}, but the options are {', '.join(OPTIONS)}")
        convert, allowed = OPTIONS[option]
        try:
            job = replace(job, **{option: convert(value)})
        except ValueError:
            raise Refused(f"the option {option} of a job is {value!r}, but must be {allowed}") from None
    return job


def _size(text: str) -> int:
    unit = UNITS.get(text[-1:].lower(), 1)
    return _at_least(512)(str(int(text[:-1] if unit > 1 else text) * unit))


def _at_least(least: int, most: int = 1 << 30) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if not least <= int(text) <= most:
            raise ValueError(text)
        return int(text)

    return convert


def _pattern(text: str) -> str:
    if text not in PATTERNS:
        raise ValueError(text)
    return text


def _seconds(text: str) -> float:
    if not 0 < float(text) < 1e6:
        raise ValueError(text)
    return float(text)


def _name(text: str) -> str:
    if not text:
        raise ValueError(text)
    return text


OPTIONS: dict[str, tuple[Callable[[str], Any], str]] = {
    "name": (_name, "a name"),
    "rw": (_pattern, f"one of {', '.join(PATTERNS)}"),
    "bs": (_size, "a number of bytes of at least 512, as in 4k or 1m"),
    "iodepth": (_at_least(1, 65535), "a number from 1 to 65535"),
    "numjobs": (_at_least(1, 1024), "a number from 1 to 1024"),
    "rwmixread": (_at_least(0, 100), "a number of percent from 0 to 100"),
    "runtime": (_seconds, "a number of seconds above 0"),
    "randseed": (_at_least(0), "a number of at least 0"),
    "number_ios": (_at_least(1, 1 << 62), "a number of at least 1"),
}
"""Name: how its text is converted, and what is allowed."""


@dataclass(frozen=True)
class JobResult:
    """What a job did. ``user`` and ``system`` are seconds of the processor."""

    job: Job
    statistics: Statistics
    user: float
    system: float
    first_error: str


Progress = Callable[[Job, Statistics, float], None]
"""Called now and then with the job, its statistics so far, and the share of its time that has passed."""


def run(controller: Controller, namespace: Namespace, job: Job, progress: Progress | None = None) -> JobResult:
    """Run a job. Refused where the namespace is too small for it, or its block size is no whole number of blocks."""
    blocks, rest = divmod(job.bs, namespace.block_size)
    if rest or not blocks:
        raise Refused(f"the block size {job.bs} is not a whole number of blocks of {namespace.block_size} bytes")
    places = namespace.blocks // blocks
    if not places:
        raise Refused(f"namespace {namespace.nsid} is smaller than a block of {job.bs} bytes")
    draw, lanes, began = random.Random(job.randseed), job.numjobs * job.iodepth, os.times()
    now, first_error, sequence = controller.transport.now, "", 0
    with IoRing(controller, entries=lanes) as ring:
        memory = ring.allocate(lanes * job.bs)
        if job.writes:
            memory.write(0, (FILL * (len(memory) // len(FILL) + 1))[: len(memory)])

        def prepare(operation: Operation) -> None:
            """Choose the next place and direction, and put the operation into the ring."""
            nonlocal sequence
            place = draw.randrange(places) if job.rw.startswith("rand") else sequence % places
            sequence += 1
            operation.lba = place * blocks
            operation.kind = Read if draw.random() * 100 < job.read_percent else Write
            ring.prepare(operation)

        end = now() + job.runtime
        shown = now() + PROGRESS_SECONDS
        for lane in range(min(lanes, job.number_ios)):
            address = memory.address + lane * job.bs | PHYSICAL
            prepare(Operation(Read, namespace, blocks=blocks, address=address, cpu=lane // job.iodepth))
        while ring.outstanding:
            for result in ring.wait(1):
                first_error = first_error or str(result.error or "")
                if now() < end and sequence < job.number_ios and not first_error:
                    prepare(result.operation)
            if progress is not None and now() >= shown:
                shown = now() + PROGRESS_SECONDS
                progress(job, ring.statistics, min(1.0, 1 - (end - now()) / job.runtime))
        ended = os.times()
        return JobResult(job, ring.statistics, ended.user - began.user, ended.system - began.system, first_error)
