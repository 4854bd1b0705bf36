"""An io_uring for NVMe commands, by its system calls (include/uapi/linux/io_uring.h, io_uring_setup(2), io_uring_enter(2)).

Entries are the large ones: 128 bytes to submit, which hold a `lab.passthrough.structures.UringCmd`, and 32 bytes to complete,
which hold the 64-bit result. Not thread-safe: one thread submits, one thread reaps.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os

from lab.passthrough.errors import NotOfferedError, from_os
from lab.passthrough.structures import Ioctl

SETUP, ENTER = 425, 426
"""System calls (include/uapi/asm-generic/unistd.h); the same on every architecture."""
SQE128, CQE32 = 1 << 10, 1 << 11
GETEVENTS = 1 << 0
SINGLE_MMAP = 1 << 0
URING_CMD = 46
"""IORING_OP_URING_CMD."""
OFF_RINGS, OFF_ENTRIES = 0, 0x1000_0000
LIBC = ctypes.CDLL(None, use_errno=True)


def _fields(*names: str) -> list[tuple[str, type[ctypes.c_uint32]]]:
    return [(name, ctypes.c_uint32) for name in names]


class SubmissionOffsets(ctypes.Structure):
    """struct io_sqring_offsets."""

    _fields_ = (
        *_fields("head", "tail", "ring_mask", "ring_entries", "flags", "dropped", "array", "resv1"), ("resv2", ctypes.c_uint64),
    )  # fmt: skip


class CompletionOffsets(ctypes.Structure):
    """struct io_cqring_offsets."""

    _fields_ = (
        *_fields("head", "tail", "ring_mask", "ring_entries", "overflow", "cqes", "flags", "resv1"), ("resv2", ctypes.c_uint64),
    )  # fmt: skip


class Parameters(ctypes.Structure):
    """struct io_uring_params."""

    _fields_ = (
        *_fields("sq_entries", "cq_entries", "flags", "sq_thread_cpu", "sq_thread_idle", "features", "wq_fd"),
        ("resv", ctypes.c_uint32 * 3), ("sq_off", SubmissionOffsets), ("cq_off", CompletionOffsets),
    )  # fmt: skip


class Entry(ctypes.Structure):
    """struct io_uring_sqe with SQE128, as far as a command to a character device uses it."""

    _fields_ = (
        ("opcode", ctypes.c_uint8), ("flags", ctypes.c_uint8), ("ioprio", ctypes.c_uint16), ("fd", ctypes.c_int32),
        ("cmd_op", ctypes.c_uint32), ("pad1", ctypes.c_uint32), ("addr", ctypes.c_uint64), ("len", ctypes.c_uint32),
        ("uring_cmd_flags", ctypes.c_uint32), ("user_data", ctypes.c_uint64), ("unused", ctypes.c_uint8 * 8),
        ("cmd", ctypes.c_uint8 * 80),
    )  # fmt: skip


class Completion(ctypes.Structure):
    """struct io_uring_cqe with CQE32. ``res`` is the 15 status bits, or a negative errno; ``result`` is DW0 and DW1."""

    _fields_ = (
        ("user_data", ctypes.c_uint64), ("res", ctypes.c_int32), ("flags", ctypes.c_uint32),
        ("result", ctypes.c_uint64), ("extra", ctypes.c_uint64),
    )  # fmt: skip


class UringQueue:
    """A submission and a completion ring of ``depth`` entries (a power of two). NotOfferedError where the kernel has none."""

    def __init__(self, depth: int) -> None:
        """Set the rings up and map them."""
        parameters = Parameters(flags=SQE128 | CQE32)
        self._descriptor = LIBC.syscall(SETUP, depth, ctypes.byref(parameters))
        if self._descriptor < 0:
            number = ctypes.get_errno()
            raise NotOfferedError(f"this kernel offers no io_uring with large entries: {os.strerror(number)}")
        self.depth = parameters.sq_entries
        submission, completion = parameters.sq_off, parameters.cq_off
        size = max(
            submission.array + parameters.sq_entries * 4,
            completion.cqes + parameters.cq_entries * ctypes.sizeof(Completion),
        )
        self._rings = self._map(size, OFF_RINGS)
        self._memory = self._map(parameters.sq_entries * ctypes.sizeof(Entry), OFF_ENTRIES)
        self._entries = (Entry * parameters.sq_entries).from_buffer(self._memory)
        self._array = (ctypes.c_uint32 * parameters.sq_entries).from_buffer(self._rings, submission.array)
        self._completions = (Completion * parameters.cq_entries).from_buffer(self._rings, completion.cqes)
        self._tail, self._head = (ctypes.c_uint32.from_buffer(self._rings, at) for at in (submission.tail, completion.head))
        self._completion_tail = ctypes.c_uint32.from_buffer(self._rings, completion.tail)

    def _map(self, size: int, offset: int) -> mmap.mmap:
        return mmap.mmap(self._descriptor, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=offset)

    def submit(self, descriptor: int, command: bytearray, number: Ioctl, tag: int) -> None:
        """Hand one command to the kernel. ``tag`` comes back with its completion.

        The system call returns once the kernel has taken the entry: nothing is left in the ring that could be sent twice.
        """
        slot = self._tail.value % self.depth
        entry = self._entries[slot]
        ctypes.memset(ctypes.byref(entry), 0, ctypes.sizeof(entry))
        entry.opcode, entry.fd, entry.cmd_op, entry.user_data = URING_CMD, descriptor, number, tag
        ctypes.memmove(ctypes.byref(entry, Entry.cmd.offset), bytes(command), len(command))
        self._array[slot] = slot
        self._tail.value = (self._tail.value + 1) & 0xFFFF_FFFF
        taken = self._enter(1, 0, 0)
        if taken != 1:
            self._tail.value = (self._tail.value - 1) & 0xFFFF_FFFF
            raise NotOfferedError("the kernel did not take the command from the io_uring")

    def wait(self) -> list[tuple[int, int, int]]:
        """Wait for at least one completion; return (tag, res, result) of all that are there. A signal does not end the wait."""
        while self._completion_tail.value == self._head.value:
            self._enter(0, 1, GETEVENTS)
        found = []
        while self._head.value != self._completion_tail.value:
            one = self._completions[self._head.value % len(self._completions)]
            found.append((int(one.user_data), int(one.res), int(one.result)))
            self._head.value = (self._head.value + 1) & 0xFFFF_FFFF
        return found

    def _enter(self, submit: int, complete: int, flags: int) -> int:
        """Call io_uring_enter(2) again where a signal interrupted it: what was submitted by then is not submitted again."""
        while True:
            done: int = LIBC.syscall(ENTER, self._descriptor, submit, complete, flags, None, 0)
            if done >= 0:
                return done
            number = ctypes.get_errno()
            if number != errno.EINTR:
                raise from_os(OSError(number, os.strerror(number)), "io_uring_enter")

    def close(self) -> None:
        """Give the ring back. Nothing may be outstanding."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
