"""One opened device node: send a request, wait, get the answer. What must not be sent is refused before the kernel sees it."""

from __future__ import annotations

import fcntl
import os
import threading
from contextlib import suppress
from types import TracebackType

from lab.nvme.commands import BROADCAST_NSID
from lab.nvme.identify import IdentifyNamespace
from lab.passthrough import commands, consent, interfaces, lengths, structures
from lab.passthrough.availability import in_use
from lab.passthrough.errors import ClosedError, MountedError, NotOfferedError, WrongNamespaceError, from_os
from lab.passthrough.host import Host
from lab.passthrough.interfaces import Interface
from lab.passthrough.lengths import Format
from lab.passthrough.paths import parse
from lab.passthrough.request import Answer, Request


class Device:
    """A controller, a namespace or its character device; use it in a ``with`` block. Threads may share it.

    A namespace from which a file system is mounted is refused (`MountedError`), unless ``mounted_too`` says that this is meant.
    A node stands for its namespace only: commands for others are refused (`WrongNamespaceError`). Partitions are no namespaces.
    """

    def __init__(self, path: str, *, mounted_too: bool = False, host: Host | None = None) -> None:
        """Open the node; PassthroughError where that is refused, ValueError for a path that is no NVMe device."""
        self.path = path
        self.node = parse(path)
        self._host = host or Host()
        self._mounted_too = mounted_too
        if self.node.kind == "partition":
            raise NotOfferedError(
                f"{path} is a partition; passthrough addresses the whole namespace /dev/{self.node.block_name}"
            )
        self._descriptor = -1
        self._active = 0
        self._idle = threading.Condition()
        self.nsid = 0
        self.format: Format | None = None
        if self.node.kind != "controller":
            self._require_unused()
        self._open()

    def _open(self) -> None:
        try:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise from_os(error, f"opening {self.path}") from error
        if self.node.kind == "controller":
            return
        try:
            self.nsid = fcntl.ioctl(self._descriptor, structures.ID)
            self.format = self._identified()
        except OSError as error:
            self.close()
            raise from_os(error, f"identifying {self.path}") from error
        except BaseException:
            self.close()
            raise

    def _identified(self) -> Format | None:
        """Return the format of the opened namespace (NVM Command Set 1.0, 4.1.5.1); None where the controller does not say."""
        answer = interfaces.call(self._descriptor, Interface.ADMIN64, commands.identify(0, self.nsid))
        if not answer.completion.ok:
            return None
        found = IdentifyNamespace(answer.data)
        chosen = found.format
        return Format(chosen.block_size, chosen.MS, bool(found.FLBAS.EXTENDED))

    def submit(self, request: Request, *, yes: bool = False, interface: Interface | None = None) -> Answer:
        """Send a request and wait for its answer, whatever its status. ``yes`` is meant for destructive commands."""
        self.check(request, yes=yes)
        with self.descriptor() as descriptor:
            return interfaces.call(descriptor, interface or interfaces.DEFAULT[request.queue], request)

    def prepare(self, request: Request, *, yes: bool = False, interface: Interface | None = None) -> Prepared:
        """Check and marshal a request once, to send it often."""
        self.check(request, yes=yes)
        return Prepared(self, interfaces.Call(interface or interfaces.DEFAULT[request.queue], request))

    def check(self, request: Request, *, yes: bool = False) -> None:
        """Raise the PassthroughError for which a request is not sent; nothing if it may be."""
        if self.closed:
            raise ClosedError(f"{self.path} was closed")
        consent.require_yes(request, self.path, yes=yes)
        self._check_namespace(request)
        lengths.check(request, self.format)
        changes = request.to_controller if request.queue == "io" else bool(consent.loss(request.command, request.queue))
        if changes:
            self._require_unused()

    def _check_namespace(self, request: Request) -> None:
        nsid = request.command.NSID
        if self.node.kind == "controller":
            if request.queue == "io":
                raise NotOfferedError(f"{request.name} is for a namespace; open /dev/nvme{self.node.instance}n1 or the like")
            return
        harmless = (0, BROADCAST_NSID) if request.queue == "admin" and not consent.loss(request.command, "admin") else ()
        if nsid not in (self.nsid, *harmless):
            raise WrongNamespaceError(f"{request.name} names namespace {nsid}, and {self.path} is namespace {self.nsid}")

    def _require_unused(self) -> None:
        used = "" if self._mounted_too else in_use(self.node, self._host)
        if used:
            raise MountedError(f"{self.path} is refused: {used}")

    # -- the descriptor -------------------------------------------------------------------------------------------------

    def descriptor(self) -> Lent:
        """Lend the file descriptor for a ``with`` block; it is not closed before that ends."""
        return Lent(self)

    def lend(self) -> int:
        """Return the descriptor, which must be given back."""
        with self._idle:
            if self.closed:
                raise ClosedError(f"{self.path} was closed")
            self._active += 1
            return self._descriptor

    def take_back(self) -> None:
        """Take a lent descriptor back."""
        with self._idle:
            self._active -= 1
            if not self._active:
                self._idle.notify_all()

    @property
    def closed(self) -> bool:
        """Return whether the device was closed."""
        return self._descriptor < 0

    def close(self) -> None:
        """Close the device once its commands have ended. The number of the descriptor is never used again by this object."""
        with self._idle:
            descriptor, self._descriptor = self._descriptor, -1
            self._idle.wait_for(lambda: self._active == 0)
        if descriptor >= 0:
            with suppress(OSError):
                os.close(descriptor)

    def __enter__(self) -> Device:
        """Return the opened device."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the device."""
        self.close()


class Lent:
    """A device's descriptor while it is in use."""

    def __init__(self, device: Device) -> None:
        """Borrow from ``device`` once the block is entered."""
        self._device = device

    def __enter__(self) -> int:
        """Return the descriptor; ClosedError if there is none any more."""
        return self._device.lend()

    def __exit__(self, *_: object) -> None:
        """Give the descriptor back to the device."""
        self._device.take_back()


class Prepared:
    """A request that was checked and marshalled once: `Device.prepare`. Its buffers are the same each time."""

    def __init__(self, device: Device, call: interfaces.Call) -> None:
        """Send ``call`` on ``device`` when asked."""
        self._device, self._call = device, call

    def status(self) -> int:
        """Send it, wait, and return the 15 status bits alone."""
        with self._device.descriptor() as descriptor:
            return self._call.status(descriptor)

    def send(self) -> Answer:
        """Send it and return the whole answer."""
        with self._device.descriptor() as descriptor:
            return self._call.send(descriptor)
