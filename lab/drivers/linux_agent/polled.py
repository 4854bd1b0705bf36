"""Reads that are polled for: an io_uring with IORING_SETUP_IOPOLL (include/uapi/linux/io_uring.h, io_uring_setup(2)).

A plain read cannot be polled for since Linux 5.16, whatever RWF_HIPRI says.
"""

import ctypes
import mmap
import os
import struct
from dataclasses import dataclass

from lab.drivers.linux_agent.system_calls import LIBC, called

SETUP, ENTER = 425, 426  # include/uapi/asm-generic/unistd.h
IOPOLL, GETEVENTS, READ = 1 << 0, 1 << 0, 22
PARAMETERS = struct.Struct("<7I12x8IQ8IQ")
"""struct io_uring_params: the last two thirds are the offsets of both rings."""
ENTRY = struct.Struct("<BBHiQQII Q 24x")
COMPLETION = struct.Struct("<QiI")
OFF_SUBMISSION, OFF_COMPLETION, OFF_ENTRIES = 0, 0x800_0000, 0x1000_0000


@dataclass
class Offsets:
    """Where a ring has its indexes and its array (struct io_sqring_offsets and io_cqring_offsets)."""

    head: int
    tail: int
    array: int


def read_polled(file: int, view: memoryview, offset: int) -> int:
    """Read into ``view`` from an offset of a file that was opened with O_DIRECT; return how many bytes."""
    parameters = bytearray(PARAMETERS.pack(*[0, 0, IOPOLL], *[0] * (len(PARAMETERS.unpack(bytes(PARAMETERS.size))) - 3)))
    ring = called(LIBC.syscall(SETUP, 1, ctypes.c_char_p(ctypes.addressof(ctypes.c_char.from_buffer(parameters)))))
    try:
        numbers = PARAMETERS.unpack(parameters)
        submission, completion = Offsets(numbers[7], numbers[8], numbers[13]), Offsets(numbers[16], numbers[17], numbers[21])
        with (
            _mapped(ring, mmap.PAGESIZE, OFF_ENTRIES) as entries,
            _mapped(ring, submission.array + 4, OFF_SUBMISSION) as own,
            _mapped(ring, completion.array + COMPLETION.size, OFF_COMPLETION) as theirs,
        ):
            address = ctypes.addressof(ctypes.c_char.from_buffer(view))
            ENTRY.pack_into(entries, 0, READ, 0, 0, file, offset, address, len(view), 0, 0)
            struct.pack_into("<I", own, submission.array, 0)
            struct.pack_into("<I", own, submission.tail, 1)
            new = 1
            while struct.unpack_from("<I", theirs, completion.tail)[0] == 0:  # the kernel may return before it is complete
                called(LIBC.syscall(ENTER, ring, new, 1, GETEVENTS, None, 0))
                new = 0
            _, result, _ = COMPLETION.unpack_from(theirs, completion.array)
    finally:
        os.close(ring)
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return int(result)


def _mapped(ring: int, size: int, offset: int) -> mmap.mmap:
    return mmap.mmap(ring, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=offset)
