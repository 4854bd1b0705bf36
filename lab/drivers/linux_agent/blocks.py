"""Actions on the blocks of one namespace, and commands that the driver passes through."""

import ctypes
import fcntl
import os
import struct
import threading
from collections.abc import Callable
from mmap import mmap
from pathlib import Path

from lab.drivers.linux_agent.answers import CompletedWithError, Fields, RefusedError
from lab.drivers.linux_agent.buffers import OpenFile, new_buffer, spare, take_buffer, take_huge
from lab.drivers.linux_agent.polled import read_polled
from lab.drivers.linux_agent.sysfs import BLOCK, controllers, find_disk, read_attribute

BLKDISCARD, BLKZEROOUT = 0x1277, 0x127F  # linux/fs.h: _IO(0x12, 119) and _IO(0x12, 127)
ADMIN_COMMAND, IO_COMMAND = 0xC0484E41, 0xC0484E43  # linux/nvme_ioctl.h: _IOWR('N', 0x41 and 0x43, 72 bytes)
PASSTHROUGH = struct.Struct("<BBHIIIQQII6III")
POISON = b"\x5a"
"""What a buffer holds before a read, so that bytes which the device did not write show."""


def read(request: Fields) -> bytes:
    """Return blocks, read without the page cache; ``polled``: without an interrupt, where the driver has such queues.

    ``parts``: by so many threads side by side, or as one request. RefusedError where the disk ends before.
    """
    node, size = find_disk(request)
    length, begin = request["blocks"] * size, request["lba"] * size
    buffer, offset = take_memory(request, node, length)
    buffer[:] = POISON * len(buffer)
    with OpenFile(node, os.O_RDONLY | os.O_DIRECT) as source, memoryview(buffer)[offset : offset + length] as view:

        def part(first: int, end: int) -> None:
            done = first
            while done < end:
                rest, at = view[done:end], begin + done
                count = read_polled(source, rest, at) if request.get("polled") else os.preadv(source, [rest], at)
                if count == 0:
                    raise RefusedError(f"the disk ends after {done} of {length} bytes")
                done += count

        side_by_side(part, request["blocks"], size, request.get("parts", 0))
        found = bytes(view)
    spare.append(buffer)
    return found


def take_memory(request: Fields, node: str, length: int) -> tuple[mmap, int]:
    """Return a buffer, and where in it the data belong: at ``offset`` from the start of a page.

    What is to be one request (``parts`` 1) lies in few pieces, and may be as long as the device takes it.
    """
    offset = int(request.get("offset", 0))
    if request.get("parts") != 1:
        return take_buffer(length + offset), offset
    queue = Path(BLOCK, Path(node).name, "queue")
    (queue / "max_sectors_kb").write_text(read_attribute(queue / "max_hw_sectors_kb"))
    buffer, begin = take_huge(length + offset)
    return buffer, begin + offset


def side_by_side(part: Callable[[int, int], None], blocks: int, size: int, parts: int) -> None:
    """Do so many parts of some blocks at once, by bytes from and to; raise the first part's error."""
    if parts <= 1:
        part(0, blocks * size)
        return
    each = -(-blocks // parts) * size
    errors: dict[int, Exception] = {}

    def guarded(first: int) -> None:
        try:
            part(first, min(first + each, blocks * size))
        except (OSError, RefusedError) as error:
            errors[first] = error

    threads = [threading.Thread(target=guarded, args=(first,)) for first in range(0, blocks * size, each)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    for first in sorted(errors):
        raise errors[first]


def write(request: Fields) -> Fields:
    """Write blocks without the page cache; ``fua`` is Force Unit Access, ``parts`` as of `read`."""
    node, size = find_disk(request)
    data = request["data"]
    buffer, offset = take_memory(request, node, len(data))
    flags = os.RWF_DSYNC if request.get("fua") else 0  # with O_DIRECT: Force Unit Access, where the write cache is volatile
    with OpenFile(node, os.O_WRONLY | os.O_DIRECT) as sink, memoryview(buffer)[offset : offset + len(data)] as view:
        view[:] = data

        def part(first: int, end: int) -> None:
            while first < end:
                first += os.pwritev(sink, [view[first:end]], request["lba"] * size + first, flags)

        side_by_side(part, len(data) // size, size, request.get("parts", 0))
    spare.append(buffer)
    return {}


def write_bytes(request: Fields) -> Fields:
    """Write through the page cache, which completes blocks that are written in part, and flush."""
    node, size = find_disk(request)
    with OpenFile(node, os.O_RDWR) as sink:
        done = 0
        while done < len(request["data"]):
            done += os.pwrite(sink, request["data"][done:], request["lba"] * size + request["at"] + done)
        os.fsync(sink)
    return {}


def flush(request: Fields) -> Fields:
    """Flush the disk's cache (fsync(2))."""
    with OpenFile(find_disk(request)[0], os.O_WRONLY) as node:
        os.fsync(node)
    return {}


def zeroes(request: Fields) -> Fields:
    """Zero a range of blocks (BLKZEROOUT)."""
    return _range(request, BLKZEROOUT)


def trim(request: Fields) -> Fields:
    """Deallocate a range of blocks (BLKDISCARD)."""
    return _range(request, BLKDISCARD)


def _range(request: Fields, code: int) -> Fields:
    node, size = find_disk(request)
    with OpenFile(node, os.O_WRONLY) as target:
        fcntl.ioctl(target, code, struct.pack("QQ", request["lba"] * size, request["blocks"] * size))
    return {}


def raw_(request: Fields) -> Fields | bytes:
    """Send one command unchanged (linux/nvme_ioctl.h, nvme_passthru_cmd): ``opcode``, ``nsid``, ``cdw10`` to ``cdw15``."""
    admin = request.get("queue", "admin") == "admin"
    node = f"/dev/{controllers()[0].name}" if admin else find_disk(request)[0]
    length = request.get("length", 0)
    buffer = new_buffer(max(length, 1))
    address = ctypes.addressof(ctypes.c_char.from_buffer(buffer)) if length else 0
    dwords = [request.get(f"cdw{number}", 0) for number in range(10, 16)]
    command = bytearray(PASSTHROUGH.pack(request["opcode"], 0, 0, request.get("nsid", 0), 0, 0, 0, address, 0, length, *dwords,
                                         0, 0))  # fmt: skip
    with OpenFile(node, os.O_RDWR) as target:
        status = fcntl.ioctl(target, ADMIN_COMMAND if admin else IO_COMMAND, command)
    if status:
        raise CompletedWithError(status)
    return bytes(buffer[:length]) if length else {"result": PASSTHROUGH.unpack(command)[-1]}
