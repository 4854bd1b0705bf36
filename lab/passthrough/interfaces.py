"""The ways in which Linux carries a command, each a row: which queue, which structure, what of the completion comes back."""

from __future__ import annotations

import ctypes
import fcntl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from lab.nvme import commands as nvme
from lab.nvme.commands import Queue
from lab.passthrough import structures
from lab.passthrough.buffers import Buffers
from lab.passthrough.errors import NotOfferedError, from_os
from lab.passthrough.request import Answer, Request, completion
from lab.passthrough.structures import Ioctl

Marshal = Callable[[Request, int, int], bytearray]
"""Makes the bytes of the structure of a request and the addresses of its data and metadata."""


class Interface(StrEnum):
    """How a command gets into the kernel."""

    ADMIN_CMD = "admin-cmd"
    IO_CMD = "io-cmd"
    ADMIN64 = "admin64"
    IO64 = "io64"
    SUBMIT_IO = "submit-io"
    URING = "uring"


@dataclass(frozen=True)
class Ioctls:
    """One ioctl. ``dwords`` of the completion's command specific two come back."""

    number: Ioctl
    queue: Queue
    marshal: Marshal
    dwords: int
    opcodes: frozenset[int] = frozenset()  # which it carries; none: all


def _whole(kind: type[ctypes.Structure]) -> Marshal:
    return lambda request, data, metadata: structures.whole(kind, request, data, metadata)


_RANGES = frozenset(kind.OPCODE for kind in (nvme.Read, nvme.Write, nvme.Compare) if kind.OPCODE is not None)

TABLE: Mapping[Interface, Ioctls] = {
    Interface.ADMIN_CMD: Ioctls(Ioctl.ADMIN_CMD, "admin", _whole(structures.PassthruCmd), 1),
    Interface.IO_CMD: Ioctls(Ioctl.IO_CMD, "io", _whole(structures.PassthruCmd), 1),
    Interface.ADMIN64: Ioctls(Ioctl.ADMIN64_CMD, "admin", _whole(structures.PassthruCmd64), 2),
    Interface.IO64: Ioctls(Ioctl.IO64_CMD, "io", _whole(structures.PassthruCmd64), 2),
    Interface.SUBMIT_IO: Ioctls(Ioctl.SUBMIT_IO, "io", structures.user_io, 0, _RANGES),
}
"""All but io_uring (`lab.passthrough.uring`)."""
DEFAULT: Mapping[Queue, Interface] = {"admin": Interface.ADMIN64, "io": Interface.IO64}
"""What carries most of the answer."""


def call(descriptor: int, interface: Interface, request: Request) -> Answer:
    """Send a request by an ioctl and wait for the answer. PassthroughError where the kernel refuses it."""
    return Call(interface, request).send(descriptor)


class Call:
    """A request, marshalled for one interface with buffers of its own, which can be sent again and again."""

    def __init__(self, interface: Interface, request: Request) -> None:
        """Marshal it; NotOfferedError where the interface does not carry it."""
        self._row = TABLE[interface]
        _check_carries(interface, self._row, request)
        self._name = f"{request.name} by {interface}"
        self._buffers = Buffers(request)
        self._raw = self._row.marshal(request, self._buffers.data.address, self._buffers.metadata.address)

    def status(self, descriptor: int) -> int:
        """Send it, wait, and return the 15 status bits alone. PassthroughError where the kernel refuses it."""
        try:
            status: int = fcntl.ioctl(descriptor, self._row.number, self._raw)
        except OSError as error:
            raise from_os(error, self._name) from error
        return status

    def send(self, descriptor: int) -> Answer:
        """Send it and return the whole answer."""
        return _answer(self._row, self.status(descriptor), self._raw, self._buffers)


def _check_carries(interface: Interface, row: Ioctls, request: Request) -> None:
    if row.queue != request.queue:
        raise NotOfferedError(f"{interface} carries {row.queue} commands, and {request.name} is for an {request.queue} queue")
    if row.opcodes and request.command.OPC not in row.opcodes:
        raise NotOfferedError(f"{interface} carries Read, Write and Compare only, not {request.name}")
    if row.number is Ioctl.SUBMIT_IO and request.timeout_ms:
        raise NotOfferedError(f"{interface} has no time-out; use {Interface.IO64}")


def _answer(row: Ioctls, status: int, raw: bytearray, buffers: Buffers) -> Answer:
    at = {1: structures.PassthruCmd.result, 2: structures.PassthruCmd64.result}.get(row.dwords)
    result = int.from_bytes(raw[at.offset : at.offset + at.size], "little") if at else 0
    data, metadata = buffers.received()
    done = completion(status, result & 0xFFFF_FFFF, result >> 32)
    return Answer(done, data, metadata, dw0_known=row.dwords > 0, dw1_known=row.dwords > 1)
