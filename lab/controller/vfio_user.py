"""The vfio-user wire: messages as the "vfio-user Protocol Specification" (docs/interop/vfio-user.rst of QEMU) lays them out.

Here are the layouts and the framing; what a message means is `lab.controller.session`'s.
"""

from __future__ import annotations

import array
import json
import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from lab.nvme.fields import U16, U32, U64, Bits, Structure

MAX_DATA = 1 << 20
"""Bytes that one access to a region may move (max_data_xfer_size)."""
MAX_MESSAGE = MAX_DATA + 4096
MAX_FDS = 16
"""File descriptors that one message may carry (max_msg_fds)."""
READ = 1 << 16
"""Bytes that are read at a time."""
_CTRUNC = int(socket.MSG_CTRUNC)  # as an enumeration it would cost more than reading a message
_ANCILLARY = socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize)


class Command(IntEnum):
    """The Commands table."""

    VERSION = 1
    DMA_MAP = 2
    DMA_UNMAP = 3
    DEVICE_GET_INFO = 4
    DEVICE_GET_REGION_INFO = 5
    DEVICE_GET_REGION_IO_FDS = 6
    DEVICE_GET_IRQ_INFO = 7
    DEVICE_SET_IRQS = 8
    REGION_READ = 9
    REGION_WRITE = 10
    DMA_READ = 11
    DMA_WRITE = 12
    DEVICE_RESET = 13
    REGION_WRITE_MULTI = 15


class Region(IntEnum):
    """VFIO's region indexes of a PCI device (linux/vfio.h)."""

    BAR0 = 0
    BAR2 = 2
    BAR4 = 4
    CONFIG = 7


REGIONS = 9


class Irq(IntEnum):
    """VFIO's interrupt indexes of a PCI device (linux/vfio.h)."""

    INTX = 0
    MSI = 1
    MSIX = 2


IRQS = 5


HEADER = struct.Struct("<HHIII")
"""Header: message id, command, size of the whole message, flags, errno."""
TYPE, REPLY, NO_REPLY, ERROR = 0xF, 0x1, 0x10, 0x20
"""Header flags: a type (0 is a command), and bits."""


class Version(Structure, size=4):
    """VFIO_USER_VERSION; a JSON object and a zero byte may follow."""

    MAJOR = U16(0)
    MINOR = U16(2)


class DmaMap(Structure, size=32):
    """VFIO_USER_DMA_MAP."""

    ARGSZ = U32(0)
    READABLE = Bits(0, at=4)
    WRITEABLE = Bits(1, at=4)
    OFFSET = U64(8)  # in the file whose descriptor comes with the message
    ADDRESS = U64(16)
    LENGTH = U64(24)


class DmaUnmap(Structure, size=24):
    """VFIO_USER_DMA_UNMAP, and its reply."""

    ARGSZ = U32(0)
    ALL = Bits(1, at=4)  # VFIO_DMA_UNMAP_FLAG_ALL of linux/vfio.h
    ADDRESS = U64(8)
    LENGTH = U64(16)


class DeviceInfo(Structure, size=16):
    """VFIO_USER_DEVICE_GET_INFO, and its reply."""

    ARGSZ = U32(0)
    RESET = Bits(0, at=4)
    PCI = Bits(1, at=4)
    NUM_REGIONS = U32(8)
    NUM_IRQS = U32(12)


class RegionInfo(Structure, size=32):
    """VFIO_USER_DEVICE_GET_REGION_INFO, and its reply."""

    ARGSZ = U32(0)
    READ = Bits(0, at=4)
    WRITE = Bits(1, at=4)
    INDEX = U32(8)
    CAP_OFFSET = U32(12)
    LENGTH = U64(16)
    OFFSET = U64(24)


class IrqInfo(Structure, size=16):
    """VFIO_USER_DEVICE_GET_IRQ_INFO, and its reply; flags as in linux/vfio.h."""

    ARGSZ = U32(0)
    EVENTFD = Bits(0, at=4)
    MASKABLE = Bits(1, at=4)
    AUTOMASKED = Bits(2, at=4)
    NORESIZE = Bits(3, at=4)
    INDEX = U32(8)
    COUNT = U32(12)


class IrqSet(Structure, size=20):
    """VFIO_USER_DEVICE_SET_IRQS; flags as in linux/vfio.h. Descriptors of eventfds come with it."""

    ARGSZ = U32(0)
    NONE = Bits(0, at=4)
    BOOL = Bits(1, at=4)
    EVENTFD = Bits(2, at=4)
    MASK = Bits(3, at=4)
    UNMASK = Bits(4, at=4)
    TRIGGER = Bits(5, at=4)
    INDEX = U32(8)
    START = U32(12)
    COUNT = U32(16)


ACCESS = struct.Struct("<QII")
"""VFIO_USER_REGION_READ and _WRITE, and their replies: offset, region, count; the data follow."""
WRITE_COUNT = struct.Struct("<Q")
"""VFIO_USER_REGION_WRITE_MULTI: how many `WRITE_ONE` follow."""
WRITE_ONE = struct.Struct("<QII8s")
"""One of its writes: offset, region, count, and 8 bytes of which count are written."""


def version_reply() -> bytes:
    """Return the server's answer to VFIO_USER_VERSION: 0.0, for QEMU refuses higher minor versions."""
    capabilities = {
        "max_msg_fds": MAX_FDS,
        "max_data_xfer_size": MAX_DATA,
        "migration": {"pgsize": 4096},
        "write_multiple": True,
    }
    return Version.of(MAJOR=0, MINOR=0) + json.dumps({"capabilities": capabilities}).encode() + b"\0"


class ProtocolError(Exception):
    """The peer's bytes are no messages: the connection cannot go on."""


class ConnectionClosedError(Exception):
    """The peer has gone."""


@dataclass(slots=True)
class Message:
    """One whole message. Its descriptors are closed by `close` unless they are taken out of ``fds``."""

    command: int
    id: int
    wants_reply: bool
    payload: bytes
    fds: list[int]

    def close(self) -> None:
        """Close the file descriptors that came with the message."""
        _close(self.fds)


class Connection:
    """Messages over a unix socket, as they come; no call blocks.

    Several messages may be read at once. Descriptors are a barrier to that: no bytes are read beyond the message that carries
    them (unix(7), SCM_RIGHTS), so they belong to the last message that begins in what was read.
    """

    def __init__(self, sock: socket.socket) -> None:
        """Talk over ``sock``, which is closed by `close`."""
        sock.setblocking(False)
        self._sock = sock
        self._bytes = b""  # of a message that is not complete
        self._fds: list[int] = []  # its descriptors

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._sock.fileno()

    def receive(self) -> list[Message]:
        """Return what has come, up to `READ` bytes of it; only whole messages. Raise ConnectionClosedError or ProtocolError."""
        try:
            data, ancillary, flags, _ = self._sock.recvmsg(READ, _ANCILLARY)
        except BlockingIOError:
            return []
        except OSError as error:
            raise ConnectionClosedError(error.strerror) from error
        if not data:
            raise ConnectionClosedError("in the middle of a message" if self._bytes else "")
        fds = _descriptors(ancillary) if ancillary else []
        try:
            if flags & _CTRUNC:
                raise ProtocolError(f"more than {MAX_FDS} file descriptors came with one message")
            return self._messages(self._bytes + data, fds)
        finally:
            _close(fds)

    def _messages(self, data: bytes, fds: list[int]) -> list[Message]:
        """Cut messages off; what is left, and its descriptors, wait for more. Takes ``fds`` over."""
        found: list[Message] = []
        at, end = 0, len(data)
        while end - at >= HEADER.size:
            id, command, size, flags, _ = HEADER.unpack_from(data, at)
            if flags & TYPE or not HEADER.size <= size <= MAX_MESSAGE:
                _close([fd for message in found for fd in message.fds])
                raise ProtocolError(f"a message of type {flags & TYPE} and {size} bytes")
            if size > end - at:
                break
            found.append(Message(command, id, not flags & NO_REPLY, data[at + HEADER.size : at + size], []))
            at += size
        self._bytes = data[at:]
        if self._fds and found:
            found[0].fds, self._fds = self._fds, []
        if fds:
            (self._fds if self._bytes else found[-1].fds).extend(fds)
            fds.clear()
        return found

    def send(self, message: Message, payload: bytes = b"", error: int = 0) -> None:
        """Reply to a message, if it wants that; with ``error``, an errno, by the header alone."""
        if not message.wants_reply:
            return
        if error:
            data = HEADER.pack(message.id, message.command, HEADER.size, REPLY | ERROR, error)
        else:
            data = HEADER.pack(message.id, message.command, HEADER.size + len(payload), REPLY, 0) + payload
        try:
            sent = self._sock.send(data)
        except BlockingIOError as full:
            raise ProtocolError("the peer does not read its replies") from full
        except OSError as gone:
            raise ConnectionClosedError(gone.strerror) from gone
        if sent != len(data):
            raise ProtocolError("the peer does not read its replies")

    def close(self) -> None:
        """Close the socket, and descriptors that belong to no message."""
        _close(self._fds)
        self._sock.close()


def _descriptors(ancillary: Sequence[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return found.tolist()


def _close(fds: list[int]) -> None:
    while fds:
        os.close(fds.pop())
