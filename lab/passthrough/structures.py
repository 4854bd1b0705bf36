"""The kernel's structures and ioctl numbers: include/uapi/linux/nvme_ioctl.h. Tests prove every offset against the header."""

from __future__ import annotations

import ctypes
import struct
from enum import IntEnum

from lab.nvme.commands import Command
from lab.passthrough.request import Request

_WRITE, _READ = 1, 2
_BUFFERS = struct.Struct("<QQII")


class UserIo(ctypes.Structure):
    """struct nvme_user_io: Read, Write and Compare by NVME_IOCTL_SUBMIT_IO, which carries no dword of the completion."""

    _fields_ = (
        ("opcode", ctypes.c_uint8), ("flags", ctypes.c_uint8), ("control", ctypes.c_uint16), ("nblocks", ctypes.c_uint16),
        ("rsvd", ctypes.c_uint16), ("metadata", ctypes.c_uint64), ("addr", ctypes.c_uint64), ("slba", ctypes.c_uint64),
        ("dsmgmt", ctypes.c_uint32), ("reftag", ctypes.c_uint32), ("apptag", ctypes.c_uint16), ("appmask", ctypes.c_uint16),
    )  # fmt: skip


_HEAD = (
    ("opcode", ctypes.c_uint8), ("flags", ctypes.c_uint8), ("rsvd1", ctypes.c_uint16), ("nsid", ctypes.c_uint32),
    ("cdw2", ctypes.c_uint32), ("cdw3", ctypes.c_uint32), ("metadata", ctypes.c_uint64), ("addr", ctypes.c_uint64),
    ("metadata_len", ctypes.c_uint32), ("data_len", ctypes.c_uint32),
    *((f"cdw{number}", ctypes.c_uint32) for number in range(10, 16)), ("timeout_ms", ctypes.c_uint32),
)  # fmt: skip
"""What the three ways of passing a whole command share."""


class PassthruCmd(ctypes.Structure):
    """struct nvme_passthru_cmd (also nvme_admin_cmd): the answer carries DW0."""

    _fields_ = (*_HEAD, ("result", ctypes.c_uint32))


class PassthruCmd64(ctypes.Structure):
    """struct nvme_passthru_cmd64: the answer carries DW0 and DW1."""

    _fields_ = (*_HEAD, ("rsvd2", ctypes.c_uint32), ("result", ctypes.c_uint64))


class UringCmd(ctypes.Structure):
    """struct nvme_uring_cmd: the answer is in the completion queue of the io_uring."""

    _fields_ = (*_HEAD, ("rsvd2", ctypes.c_uint32))


def _iowr(number: int, structure: type[ctypes.Structure], direction: int = _READ | _WRITE) -> int:
    """Return _IOWR('N', number, structure), or _IOW (include/uapi/asm-generic/ioctl.h)."""
    return direction << 30 | ctypes.sizeof(structure) << 16 | ord("N") << 8 | number


class Ioctl(IntEnum):
    """The ioctl numbers, as they are called after ``NVME_IOCTL_`` or ``NVME_``."""

    ADMIN_CMD = _iowr(0x41, PassthruCmd)
    SUBMIT_IO = _iowr(0x42, UserIo, _WRITE)
    IO_CMD = _iowr(0x43, PassthruCmd)
    ADMIN64_CMD = _iowr(0x47, PassthruCmd64)
    IO64_CMD = _iowr(0x48, PassthruCmd64)
    URING_CMD_IO = _iowr(0x80, UringCmd)
    URING_CMD_ADMIN = _iowr(0x82, UringCmd)


ID = 0x4E40
"""NVME_IOCTL_ID = _IO('N', 0x40): gives the NSID of an opened namespace."""


def whole(kind: type[ctypes.Structure], request: Request, data: int, metadata: int) -> bytearray:
    """Return the bytes of a structure that holds a whole command.

    ``data`` and ``metadata`` are addresses of buffers, 0 for none. All three structures follow the 64 bytes of the command:
    only the buffers and the time-out are placed otherwise.
    """
    raw = request.command
    made = bytearray(ctypes.sizeof(kind))
    made[0:2], made[4:16] = raw[0:2], raw[4:16]
    made[16:40] = _BUFFERS.pack(metadata, data, request.metadata_size, request.data_length)
    made[40:68] = raw[40:64] + request.timeout_ms.to_bytes(4, "little")
    return made


def user_io(request: Request, data: int, metadata: int) -> bytearray:
    """Return the structure for NVME_IOCTL_SUBMIT_IO, which spreads Read, Write or Compare over named fields."""
    command: Command = request.command
    made = UserIo(
        opcode=command.OPC, flags=command[1], control=command.CDW12 >> 16, nblocks=command.CDW12 & 0xFFFF,
        metadata=metadata, addr=data, slba=command.CDW11 << 32 | command.CDW10, dsmgmt=command.CDW13,
        reftag=command.CDW14, apptag=command.CDW15 & 0xFFFF, appmask=command.CDW15 >> 16,
    )  # fmt: skip
    return bytearray(made)
