"""Many controllers by PCI address: concurrent across devices, one request after the other on each.

Each controller has a worker of its own, so that one which never answers delays nobody but its own callers. Life cycle of a
device: ``added``, ``up``, then ``failed``, ``gone`` (removed by surprise) or ``removed``. Namespaces are found by the names
that they keep when they are renumbered or move to another controller: NGUID, EUI64 or UUID.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TypeVar

from lab.reference.controller import Controller
from lab.reference.errors import ControllerGone, DriverError, Refused
from lab.reference.settings import Settings
from lab.reference.transport import Transport

T = TypeVar("T")
ADDED, UP, FAILED, GONE, REMOVED = "added", "up", "failed", "gone", "removed"
CLOSE_SECONDS = 30.0
"""How long `DeviceManager.close` waits for a device."""


@dataclass(frozen=True)
class Location:
    """Where a namespace is now."""

    address: str
    nsid: int


class Device:
    """One controller and its worker. All of its work is done there, in the order in which it was asked for."""

    def __init__(self, address: str, open: Callable[[str], Transport], make: Callable[[Transport], Controller]) -> None:
        """Start the worker; the function is opened there too."""
        self.address = address
        self.state = ADDED
        self.names: Mapping[str, int] = {}
        """The namespaces by their names, as of the last work."""
        self._open, self._make = open, make
        self._controller: Controller | None = None
        self._work = SimpleQueue[Callable[[], None] | None]()
        self._thread = threading.Thread(target=self._run, name=f"nvme-{address}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()

    def ask(self, do: Callable[[Controller], T]) -> Future[T]:
        """Queue work; the future has its result or its error."""
        future: Future[T] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = do(self._opened())
            except BaseException as error:  # the caller gets it, whatever it is
                self._note(error)
                future.set_exception(error)
            else:
                self._note(None)
                future.set_result(result)

        if self.state == REMOVED:
            raise Refused(f"{self.address} was removed")
        self._work.put(work)
        return future

    def bring_up(self, controller: Controller) -> None:
        """Start the driver."""
        controller.start()
        self.state = UP

    def shut_down(self, controller: Controller) -> None:
        """Shut the controller down, unless it is gone, and release the function."""
        controller.close()

    def end(self) -> None:
        """Let the worker end after its work."""
        self.state = REMOVED
        self._work.put(None)

    def _opened(self) -> Controller:
        if self._controller is None:
            self._controller = self._make(self._open(self.address))
        return self._controller

    def _note(self, error: BaseException | None) -> None:
        """Note what the work has left: the state, and which namespaces there are."""
        controller = self._controller
        if isinstance(error, ControllerGone):
            self.state = GONE
        elif controller is not None and controller.failed is not None and self.state == UP:
            self.state = GONE if isinstance(controller.failed, ControllerGone) else FAILED
        if controller is not None and self.state == UP:
            self.names = {
                _plain(name): nsid
                for nsid, one in controller.namespaces.items()
                for name in (one.names.uuid, one.names.nguid, one.names.eui64)
                if name
            }
        elif self.state != ADDED:
            self.names = {}


class DeviceManager:
    """The controllers of a computer. Its methods return at once; their futures end when the device has answered."""

    def __init__(
        self, open: Callable[[str], Transport], settings: Settings | None = None, driver: type[Controller] = Controller
    ) -> None:
        """Manage no device yet; ``open`` returns the transport of a PCI address."""
        self._open, self._make = open, lambda transport: driver(transport, settings or Settings())
        self._devices: dict[str, Device] = {}

    def add(self, address: str) -> Future[None]:
        """Bring a controller up. Refused for one that is managed already."""
        if address in self._devices:
            raise Refused(f"{address} is managed already")
        device = self._devices[address] = Device(address, self._open, self._make)
        return device.ask(device.bring_up)

    def run(self, address: str, do: Callable[[Controller], T]) -> Future[T]:
        """Do something with a controller, after all that was asked of it before."""
        return self._device(address).ask(do)

    def remove(self, address: str) -> Future[None]:
        """Shut a controller down after all that was asked of it, and forget it."""
        device = self._device(address)
        done = device.ask(device.shut_down)
        device.end()
        del self._devices[address]
        return done

    def states(self) -> Mapping[str, str]:
        """Return the state of each device by its address."""
        return {address: device.state for address, device in sorted(self._devices.items())}

    def find(self, name: str) -> Location:
        """Return where the namespace with an NGUID, EUI64 or UUID is now. Refused if no device that is up has it."""
        wanted = _plain(name)
        for address, device in sorted(self._devices.items()):
            if (nsid := device.names.get(wanted)) is not None:
                return Location(address, nsid)
        raise Refused(f"no namespace is named {name}")

    def close(self, seconds: float = CLOSE_SECONDS) -> list[str]:
        """Shut all controllers down, at the same time; return the addresses of those that did not answer in time."""
        futures = {address: self.remove(address) for address in list(self._devices)}
        late = wait(futures.values(), seconds).not_done
        for future in futures.values():
            if future.done():
                with suppress(DriverError):
                    future.result()
        return sorted(address for address, future in futures.items() if future in late)

    def _device(self, address: str) -> Device:
        if address not in self._devices:
            known = ", ".join(sorted(self._devices)) or "none"
            raise Refused(f"{address} is not managed; devices: {known}")
        return self._devices[address]


def _plain(name: str) -> str:
    """Return a name as it is compared: lower case, without hyphens."""
    return name.replace("-", "").lower()
