"""One vfio-user client on one controller: what its messages do. Everything of it ends with the connection."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable

from lab.controller import pci
from lab.controller.controller import ACCESS_WIDTHS, ModelController
from lab.controller.vfio_user import (
    ACCESS,
    HEADER,
    IRQS,
    MAX_DATA,
    REGIONS,
    WRITE_COUNT,
    WRITE_ONE,
    Command,
    Connection,
    DeviceInfo,
    DmaMap,
    DmaUnmap,
    Irq,
    IrqInfo,
    IrqSet,
    Message,
    ProtocolError,
    Region,
    RegionInfo,
    Version,
    version_reply,
)

_IRQ_OF = {"intx": Irq.INTX, "msi": Irq.MSI, "msix": Irq.MSIX}


class MessageRefusedError(Exception):
    """The message is answered with an errno."""

    def __init__(self, code: int, why: str) -> None:
        """Answer ``code``, an errno."""
        super().__init__(f"{why} ({errno.errorcode[code]})")
        self.errno = code


class Session:
    """Takes messages until the connection ends. What a client does wrong is remarked and answered with an errno."""

    def __init__(self, controller: ModelController, connection: Connection) -> None:
        """Serve one client of a controller on a connected socket."""
        self._c, self.connection = controller, connection
        self._eventfds: dict[tuple[int, int], int] = {}
        self._undelivered_irqs: set[tuple[int, int]] = set()  # signalled while the host had masked them, or not set up
        self._intx_masked = False
        self._negotiated = False
        self._table = bytearray(controller.config.msix_table_size)  # BAR4 as written; QEMU keeps its own
        self._handlers: dict[int, Callable[[Message], bytes]] = {
            Command.VERSION: self._version,
            Command.DMA_MAP: self._dma_map,
            Command.DMA_UNMAP: self._dma_unmap,
            Command.DEVICE_GET_INFO: self._device_info,
            Command.DEVICE_GET_REGION_INFO: self._region_info,
            Command.DEVICE_GET_IRQ_INFO: self._irq_info,
            Command.DEVICE_SET_IRQS: self._set_irqs,
            Command.REGION_READ: self._read,
            Command.REGION_WRITE: self._write,
            Command.REGION_WRITE_MULTI: self._write_multi,
            Command.DEVICE_RESET: self._reset,
        }

    def work(self) -> None:
        """Handle what has come, or a part of it; ConnectionClosedError or ProtocolError where that was the last of it."""
        messages = self.connection.receive()
        try:
            for message in messages:
                self._answer(message)
        finally:
            for message in messages:
                if message.fds:
                    message.close()
        if self._c.memory.lost:
            raise ProtocolError("memory that the client has mapped is cut off")

    def _answer(self, message: Message) -> None:
        reply, error = b"", 0
        try:
            reply = self._handle(message)
        except MessageRefusedError as refused:
            self._c.remark("vfio-user", command=message.command, why=str(refused))
            error = refused.errno
        finally:
            if message.fds:
                message.close()
        self.connection.send(message, reply, error)

    def signal(self, how: str, vector: int) -> None:
        """Interrupt by the eventfd that the client has given for the vector, if it has."""
        index = _IRQ_OF[how]
        if index == Irq.INTX:
            if self._intx_masked:
                return
            self._intx_masked = True
        fd = self._eventfds.get((index, vector))
        if fd is not None:
            _notify(fd)
        else:
            if index != Irq.INTX:  # a pin is asserted for as long as there is a reason, and needs no memory
                self._undelivered_irqs.add((index, vector))
            self._c.remark("interrupt-unhandled", how=how, vector=vector)

    def end(self) -> None:
        """Close the client's memory and interrupts, and reset the device as if it were pulled out."""
        self._drop_eventfds(lambda _: True)
        self._c.reset("unplug")
        self._unmap(0, 1 << 64)
        self._c.memory.clear()
        self.connection.close()

    def _handle(self, message: Message) -> bytes:
        handler = self._handlers.get(message.command)
        if handler is None:
            raise MessageRefusedError(errno.ENOTSUP, f"command {message.command}")
        if not self._negotiated and message.command != Command.VERSION:
            raise MessageRefusedError(errno.EINVAL, f"command {message.command} before the version")
        return handler(message)

    # -- messages ---------------------------------------------------------------------------------------------------

    def _version(self, message: Message) -> bytes:
        if len(message.payload) < Version.SIZE:
            raise MessageRefusedError(errno.EINVAL, "a version that is cut off")
        if self._negotiated:
            raise MessageRefusedError(errno.EINVAL, "a second version")
        if Version(message.payload).MAJOR != 0:
            raise ProtocolError(f"protocol version {Version(message.payload).MAJOR}, and this is 0")
        self._negotiated = True
        return version_reply()

    def _dma_map(self, message: Message) -> bytes:
        asked = DmaMap(_sized(message, DmaMap.SIZE))
        if len(message.fds) > 1:
            raise MessageRefusedError(errno.EINVAL, f"{len(message.fds)} descriptors for one range")
        try:
            if message.fds and asked.READABLE:
                self._c.memory.map_file(asked.ADDRESS, asked.LENGTH, message.fds[0], asked.OFFSET, bool(asked.WRITEABLE))
            else:
                self._c.memory.map(asked.ADDRESS, None, asked.LENGTH, writable=False)
        except ValueError as error:
            raise MessageRefusedError(errno.EEXIST if "overlaps" in str(error) else errno.EINVAL, str(error)) from error
        except OSError as error:
            raise MessageRefusedError(
                error.errno or errno.EINVAL, f"a range that cannot be mapped: {error.strerror}"
            ) from error
        self._c.record.dma_map(asked.ADDRESS, asked.LENGTH, True)
        return b""

    def _dma_unmap(self, message: Message) -> bytes:
        asked = DmaUnmap(_sized(message, DmaUnmap.SIZE))
        if asked.ALL:
            self._unmap(0, 1 << 64)
        else:
            self._unmap(asked.ADDRESS, asked.LENGTH)
        return message.payload[: DmaUnmap.SIZE]

    def _device_info(self, message: Message) -> bytes:
        _sized(message, DeviceInfo.SIZE)
        return DeviceInfo.of(ARGSZ=DeviceInfo.SIZE, RESET=1, PCI=1, NUM_REGIONS=REGIONS, NUM_IRQS=IRQS)

    def _region_info(self, message: Message) -> bytes:
        asked = RegionInfo(_sized(message, RegionInfo.SIZE))
        if asked.INDEX >= REGIONS:
            raise MessageRefusedError(errno.EINVAL, f"region {asked.INDEX}")
        length = self._region_size(asked.INDEX)
        there = bool(length)
        return RegionInfo.of(ARGSZ=RegionInfo.SIZE, READ=there, WRITE=there, INDEX=asked.INDEX, LENGTH=length)

    def _irq_info(self, message: Message) -> bytes:
        asked = IrqInfo(_sized(message, IrqInfo.SIZE))
        if asked.INDEX >= IRQS:
            raise MessageRefusedError(errno.EINVAL, f"interrupt kind {asked.INDEX}")
        pin = asked.INDEX == Irq.INTX
        count = self._irq_count(asked.INDEX)
        return IrqInfo.of(
            ARGSZ=IrqInfo.SIZE, EVENTFD=1, MASKABLE=pin, AUTOMASKED=pin, NORESIZE=not pin, INDEX=asked.INDEX, COUNT=count
        )

    def _set_irqs(self, message: Message) -> bytes:
        asked = IrqSet(_sized(message, IrqSet.SIZE))
        first, count = asked.START, asked.COUNT
        if asked.INDEX >= IRQS or first + count > self._irq_count(asked.INDEX):
            raise MessageRefusedError(errno.EINVAL, f"interrupts {first} to {first + count} of kind {asked.INDEX}")
        if asked.TRIGGER and asked.EVENTFD:
            if len(message.fds) not in (0, count):
                raise MessageRefusedError(errno.EINVAL, f"{len(message.fds)} eventfds for {count} interrupts")
            for fd in message.fds:
                _prepare_eventfd(fd)
            self._drop_eventfds(lambda key: key[0] == asked.INDEX and first <= key[1] < first + count)
            taken, message.fds = message.fds, []
            for vector, fd in enumerate(taken, first):
                self._eventfds[asked.INDEX, vector] = fd
                if (asked.INDEX, vector) in self._undelivered_irqs:
                    self._undelivered_irqs.remove((asked.INDEX, vector))
                    _notify(fd)
                    self._c.remark("interrupt-late", vector=vector)
            if asked.INDEX == Irq.INTX:
                self._intx_masked = False
                self._c.interrupts.resignal()
        elif asked.TRIGGER and asked.NONE and not count:
            self._drop_eventfds(lambda key: key[0] == asked.INDEX)
            self._undelivered_irqs = {key for key in self._undelivered_irqs if key[0] != asked.INDEX}
        elif asked.TRIGGER and asked.NONE:
            for key in [key for key in self._eventfds if key[0] == asked.INDEX and first <= key[1] < first + count]:
                _notify(self._eventfds[key])
        elif asked.NONE and asked.INDEX == Irq.INTX and (asked.MASK or asked.UNMASK):
            self._intx_masked = bool(asked.MASK)
            self._c.interrupts.resignal()
        else:
            raise MessageRefusedError(errno.ENOTSUP, f"interrupt settings {asked}")
        return b""

    def _reset(self, _message: Message) -> bytes:
        self._c.reset("bus")
        self._undelivered_irqs.clear()
        return b""

    # -- regions ----------------------------------------------------------------------------------------------------

    def _read(self, message: Message) -> bytes:
        offset, region, count = ACCESS.unpack_from(_sized(message, ACCESS.size))
        self._check(offset, region, count)
        head = message.payload[: ACCESS.size]
        if region == Region.BAR0:
            return head + self._c.read(offset, count).to_bytes(count, "little")
        if region == Region.CONFIG:
            return head + self._c.config_read(offset, count)
        if region == Region.BAR2:
            return head + self._c.own_memory[offset : offset + count]
        return head + self._table[offset : offset + count]

    def _write(self, message: Message) -> bytes:
        payload = message.payload
        offset, region, count = ACCESS.unpack_from(_sized(message, ACCESS.size))
        if len(payload) - ACCESS.size != count:
            raise MessageRefusedError(errno.EINVAL, f"a write of {count} bytes that carries {len(payload) - ACCESS.size}")
        self._write_one(offset, region, count, payload[ACCESS.size :])
        return payload[: ACCESS.size]

    def _write_multi(self, message: Message) -> bytes:
        (count,) = WRITE_COUNT.unpack_from(_sized(message, WRITE_COUNT.size))
        if len(message.payload) < WRITE_COUNT.size + count * WRITE_ONE.size:
            raise MessageRefusedError(errno.EINVAL, f"{count} writes in {len(message.payload)} bytes")
        for at in range(WRITE_COUNT.size, WRITE_COUNT.size + count * WRITE_ONE.size, WRITE_ONE.size):
            offset, region, length, data = WRITE_ONE.unpack_from(message.payload, at)
            if length > len(data):
                raise MessageRefusedError(errno.EINVAL, f"one write of {length} bytes among several")
            self._write_one(offset, region, length, data[:length])
        return message.payload[: WRITE_COUNT.size]

    def _write_one(self, offset: int, region: int, count: int, data: bytes) -> None:
        self._check(offset, region, count)
        if region == Region.BAR0:
            self._c.write(offset, count, int.from_bytes(data, "little"))
        elif region == Region.CONFIG:
            self._c.config_write(offset, data)
        elif region == Region.BAR2:
            self._c.own_memory[offset : offset + count] = data
        else:
            self._table[offset : offset + count] = data
            self._c.table_write(offset, count, int.from_bytes(data, "little"))

    def _check(self, offset: int, region: int, count: int) -> None:
        """Raise MessageRefusedError for an access that no host can make."""
        size = self._region_size(region)
        if not 0 < count <= MAX_DATA or offset + count > size:
            raise MessageRefusedError(errno.EINVAL, f"{count} bytes at {offset:#x} of region {region}, which has {size:#x}")
        if region == Region.BAR0 and count not in ACCESS_WIDTHS:
            raise MessageRefusedError(errno.EINVAL, f"an access of {count} bytes to BAR0")

    def _region_size(self, region: int) -> int:
        if region == Region.BAR0:
            return self._c.bar_size
        if region == Region.CONFIG:
            return pci.SIZE
        if region == Region.BAR2:
            return len(self._c.own_memory)
        return self._c.config.msix_table_size if region == Region.BAR4 else 0

    def _irq_count(self, index: int) -> int:
        if index == Irq.INTX:
            return 1
        if index == Irq.MSIX:
            return self._c.config.msix_vectors
        return self._c.config.msi_limit if index == Irq.MSI else 0

    # -- what the client has given ----------------------------------------------------------------------------------

    def _unmap(self, address: int, length: int) -> None:
        for start, size in self._c.memory.unmap(address, length):
            self._c.record.dma_map(start, size, False)

    def _drop_eventfds(self, which: Callable[[tuple[int, int]], bool]) -> None:
        for key in [key for key in self._eventfds if which(key)]:
            os.close(self._eventfds.pop(key))


def _notify(fd: int) -> None:
    with contextlib.suppress(OSError):  # its counter is full, so it is signalled anyway; or the client gave no eventfd
        os.eventfd_write(fd, 1)


def _prepare_eventfd(fd: int) -> None:
    """Make a client's descriptor non-blocking; MessageRefusedError for one that cannot be signalled (O_PATH)."""
    try:
        os.set_blocking(fd, False)
        os.write(fd, b"")  # of an eventfd it is EINVAL, and of what cannot be written EBADF
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise MessageRefusedError(errno.EINVAL, f"a descriptor that is no eventfd: {error.strerror}") from error


def _sized(message: Message, size: int) -> bytes:
    """Return the payload, if it has at least so many bytes."""
    if len(message.payload) < size:
        raise MessageRefusedError(errno.EINVAL, f"a message of {HEADER.size + len(message.payload)} bytes is cut off")
    return message.payload
