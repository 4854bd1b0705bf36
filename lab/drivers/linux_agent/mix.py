"""The action load-mix: many lanes of reads and writes at once (`lab.data.mix`)."""

import errno
import hashlib
import os
import threading
import zlib

from lab.drivers.linux_agent import gathered
from lab.drivers.linux_agent.answers import Fields, errno_text
from lab.drivers.linux_agent.buffers import OpenFile, new_buffer
from lab.drivers.linux_agent.sysfs import find_disk


def load_mix(request: Fields) -> Fields:
    """Run all lanes of a load at once (see `lab.data.mix`) on their jobs' CPUs; report which CPUs there are.

    Each lane is a thread; or each job is one, which hands over what all its lanes want in one call (``gathered``).
    """
    node, size = find_disk(request)
    length, at, lanes = request["blocks"] * size, 0, list[_Lane]()
    cpus = sorted(os.sched_getaffinity(0))
    for lane in request["lanes"]:
        steps: list[tuple[int, int | bytes]] = []
        for lba, crc in lane["steps"]:
            steps.append((lba * size, request["data"][at : at + length] if crc is None else crc))
            at += length if crc is None else 0
        lanes.append(_Lane(node, length, cpus[lane["job"] % len(cpus)], steps))
    jobs: dict[int, list[_Lane]] = {}
    for number, lane in enumerate(lanes):
        jobs.setdefault(request["lanes"][number]["job"] if request.get("gathered") else number, []).append(lane)
    threads = [threading.Thread(target=_run, args=(job,)) for job in jobs.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
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


class _Lane:
    """One lane: its steps one after the other, each (byte offset, bytes to write or the CRC-32 of what must be read)."""

    def __init__(self, node: str, length: int, cpu: int, steps: list[tuple[int, int | bytes]]) -> None:
        self.node, self.cpu, self.steps = node, cpu, steps
        self._buffer = new_buffer(length)
        self.view = memoryview(self._buffer)[:length]
        self.ended, self.mismatches, self.errors = 0, 0, list[str]()

    def begin(self, what: int | bytes) -> int:
        """Prepare the memory of a step; return what is to be done with it."""
        if isinstance(what, bytes):
            self.view[:] = what
            return gathered.WRITE
        return gathered.READ

    def end(self, what: int | bytes, moved: int) -> None:
        """Take note of how many bytes a step has moved, or of its error."""
        self.ended += 1
        if 0 <= moved < len(self.view):
            self.errors.append(f"EIO: {moved} of {len(self.view)} bytes were moved")
        elif moved < 0:
            self.errors.append(errno_text(OSError(-moved, os.strerror(-moved))))
        elif not isinstance(what, bytes):
            self.mismatches += zlib.crc32(self.view) != what


def _run(lanes: list[_Lane]) -> None:
    """Run the lanes of one thread: the next step of each, until none has any."""
    os.sched_setaffinity(0, {lanes[0].cpu})
    with OpenFile(lanes[0].node, os.O_RDWR | os.O_DIRECT) as node:
        for number in range(max(len(lane.steps) for lane in lanes)):
            asked = [(lane, *lane.steps[number]) for lane in lanes if number < len(lane.steps)]
            requests = [(lane.begin(what), lane.view, at) for lane, at, what in asked]
            moved = gathered.transfer(node, requests) if len(requests) > 1 else [_moved(node, *requests[0])]
            for (lane, _, what), count in zip(asked, moved, strict=True):
                lane.end(what, count)


def _moved(node: int, what: int, view: memoryview, at: int) -> int:
    """Do one read or write; return how many bytes it has moved, or its error negated."""
    try:
        return os.pwritev(node, [view], at) if what == gathered.WRITE else os.preadv(node, [view], at)
    except OSError as error:
        return -(error.errno or errno.EIO)


def _digest(node: str, at: int, length: int) -> str:
    """Return the SHA-256 of what the disk holds there; "" where it cannot be read."""
    buffer = new_buffer(length)
    with OpenFile(node, os.O_RDONLY | os.O_DIRECT) as source, memoryview(buffer)[:length] as view:
        try:
            moved = os.preadv(source, [view], at)
        except OSError:
            return ""
        return hashlib.sha256(view[:moved]).hexdigest()
