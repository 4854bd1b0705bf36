"""Reads and writes that are handed over in one system call: io_submit(2).

From three on (fs/aio.c, AIO_PLUG_THRESHOLD) the kernel gathers them, and the driver gets them together.
"""

import ctypes
import struct
from collections.abc import Sequence

from lab.drivers.linux_agent.system_calls import LIBC, called

SETUP, DESTROY, GET_EVENTS, SUBMIT = 206, 207, 208, 209  # of x86-64
READ, WRITE = 0, 1
REQUEST = struct.Struct("<QIIHhIQQq8xII")
"""struct iocb (include/uapi/linux/aio_abi.h): the number that comes back, the operation, the file, address, length, offset."""
EVENT = struct.Struct("<QQqq")


def transfer(file: int, requests: Sequence[tuple[int, memoryview, int]]) -> list[int]:
    """Do all of these (operation, memory, byte offset) at once; return how many bytes each has moved, or its error negated."""
    context = ctypes.c_ulong(0)
    called(LIBC.syscall(SETUP, len(requests), ctypes.byref(context)))
    try:
        blocks = [
            ctypes.create_string_buffer(REQUEST.pack(n, 0, 0, what, 0, file, _address(view), len(view), at, 0, 0), REQUEST.size)
            for n, (what, view, at) in enumerate(requests)
        ]
        pointers = (ctypes.c_void_p * len(blocks))(*map(ctypes.addressof, blocks))
        submitted = 0
        while submitted < len(blocks):
            rest = ctypes.byref(pointers, submitted * ctypes.sizeof(ctypes.c_void_p))
            submitted += called(LIBC.syscall(SUBMIT, context, ctypes.c_long(len(blocks) - submitted), rest))
        events = ctypes.create_string_buffer(EVENT.size * len(blocks))
        called(LIBC.syscall(GET_EVENTS, context, ctypes.c_long(len(blocks)), ctypes.c_long(len(blocks)), events, None))
    finally:
        LIBC.syscall(DESTROY, context)
    moved = [0] * len(blocks)
    for number, _, result, _ in EVENT.iter_unpack(events.raw):
        moved[number] = result
    return moved


def _address(view: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(view))
