"""The action load-mix: many lanes of reads and writes at once (`lab.data.mix`)."""

import errno
import hashlib
import os
import threading
import zlib

from lab.drivers.linux_agent.answers import Fields, errno_text
from lab.drivers.linux_agent.buffers import OpenFile, new_buffer
from lab.drivers.linux_agent.sysfs import find_disk


def load_mix(request: Fields) -> Fields:
    """Run all lanes of a load at once (see `lab.data.mix`), each a thread on its job's CPU; report which CPUs there are."""
    node, size = find_disk(request)
    length, at, lanes = request["blocks"] * size, 0, []
    cpus = sorted(os.sched_getaffinity(0))
    for lane in request["lanes"]:
        steps: list[tuple[int, int | bytes]] = []
        for lba, crc in lane["steps"]:
            steps.append((lba * size, request["data"][at : at + length] if crc is None else crc))
            at += length if crc is None else 0
        lanes.append(_Lane(node, length, cpus[lane["job"] % len(cpus)], steps))
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()
    found: Fields = {"operations": sum(lane.ended for lane in lanes), "cpus": len(cpus)}
    found |= {"errors": sum(len(lane.errors) for lane in lanes), "mismatches": sum(lane.mismatches for lane in lanes)}
    found["first_error"] = next((lane.errors[0] for lane in lanes if lane.errors), "")
    found["regions"] = []
    try:
        for job, (lba, blocks) in enumerate(request["regions"]):
            os.sched_setaffinity(0, {cpus[job % len(cpus)]})
            found["regions"].append(_digest(node, lba * size, blocks * size))
    finally:
        os.sched_setaffinity(0, cpus)
    return found


class _Lane(threading.Thread):
    """One lane: its steps one after the other, each (byte offset, bytes to write or the CRC-32 of what must be read)."""

    def __init__(self, node: str, length: int, cpu: int, steps: list[tuple[int, int | bytes]]) -> None:
        super().__init__()
        self._node, self._cpu, self._steps = node, cpu, steps
        self._buffer = new_buffer(length)
        self._view = memoryview(self._buffer)[:length]
        self.ended, self.mismatches, self.errors = 0, 0, list[str]()

    def run(self) -> None:
        os.sched_setaffinity(0, {self._cpu})
        with OpenFile(self._node, os.O_RDWR | os.O_DIRECT) as node:
            for at, what in self._steps:
                try:
                    self._step(node, at, what)
                except OSError as error:
                    self.errors.append(errno_text(error))
                self.ended += 1

    def _step(self, node: int, at: int, what: int | bytes) -> None:
        if isinstance(what, bytes):
            self._view[:] = what
            moved = os.pwritev(node, [self._view], at)
        else:
            moved = os.preadv(node, [self._view], at)
            self.mismatches += zlib.crc32(self._view) != what
        if moved != len(self._view):
            raise OSError(errno.EIO, f"{moved} of {len(self._view)} bytes were moved")


def _digest(node: str, at: int, length: int) -> str:
    """Return the SHA-256 of what the disk holds there; "" where it cannot be read."""
    buffer = new_buffer(length)
    with OpenFile(node, os.O_RDONLY | os.O_DIRECT) as source, memoryview(buffer)[:length] as view:
        try:
            moved = os.preadv(source, [view], at)
        except OSError:
            return ""
        return hashlib.sha256(view[:moved]).hexdigest()
