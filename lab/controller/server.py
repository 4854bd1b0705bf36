"""The device behind QEMU's vfio-user-pci: a thread that owns it, and a small synchronous face for everybody else."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from lab.controller.controller import ModelController
from lab.controller.device import Device
from lab.controller.dma import HostMemory
from lab.controller.session import Session
from lab.controller.vfio_user import Connection, ConnectionClosedError, ProtocolError
from lab.data.plan import DeviceSpec, Fault
from lab.errors import LabError

LOG = logging.getLogger(__name__)

T = TypeVar("T")

START_SECONDS = 10.0
STOP_SECONDS = 10.0


class Port:
    """One controller's socket and the client on it. A second client waits until the first has gone."""

    def __init__(self, id: str, controller: ModelController, listener: socket.socket) -> None:
        """Listen for a controller's client."""
        self.id, self.controller, self.listener = id, controller, listener
        self.session: Session | None = None

    def accept(self) -> Session | None:
        """Return the session of a client that has come; None if it has gone already."""
        try:
            sock, _ = self.listener.accept()
        except (BlockingIOError, ConnectionError):
            return None
        self.session = Session(self.controller, Connection(sock))
        return self.session

    def hang_up(self, why: str) -> None:
        """End the session; ``why`` is remarked unless the client simply left."""
        if self.session is None:
            return
        if why:
            self.controller.remark("vfio-user-closed", why=why)
        session, self.session = self.session, None
        session.end()


class DeviceServer:
    """A device whose controllers QEMU plugs by their sockets: ``sockets[id]``. Use it in a ``with`` block.

    The device lives in a thread of its own; `call` runs a function there. LabError when the device itself has failed, or
    does not answer.
    """

    def __init__(
        self,
        spec: DeviceSpec,
        images: Path,
        folder: Path,
        *,
        records: Path | None = None,
        faults: Iterable[Fault] = (),
    ) -> None:
        """Prepare the server; ``folder`` is for the sockets, with a short path; ``images`` and ``records`` as for `Device`."""
        self.spec = spec
        self.sockets = {controller.id: folder / f"{controller.id}.sock" for controller in spec.controllers}
        self.connected: set[str] = set()  # the controllers that have a client; changed by the device's thread only
        self._images, self._records, self._faults = images, records, tuple(faults)
        self._calls: deque[Callable[[Device], None]] = deque()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._stopping = False
        self._failure: BaseException | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nvme-device", daemon=True)

    def start(self) -> None:
        """Listen; when this returns QEMU can connect. Raise what is wrong with the spec, the images or the sockets."""
        self._thread.start()
        if not self._started.wait(START_SECONDS):
            raise LabError(f"the programmable controller did not start within {START_SECONDS:g} s")
        self._raise_failure()

    def stop(self) -> None:
        """End the device and its records; may be called again. Raise the failure that ended it before, if one did."""
        self._stopping = True
        if self._thread.ident is None or self._wake < 0:
            return
        os.eventfd_write(self._wake, 1)
        self._thread.join(STOP_SECONDS)
        if self._thread.is_alive():
            raise LabError(f"the programmable controller did not stop within {STOP_SECONDS:g} s")
        os.close(self._wake)
        self._wake = -1
        self._raise_failure()

    def call(self, function: Callable[[Device], T], seconds: float = START_SECONDS) -> T:
        """Run ``function`` on the device in its own thread; return or raise what it does."""
        done = threading.Event()
        result: list[T] = []
        error: list[BaseException] = []

        def run(device: Device) -> None:
            try:
                result.append(function(device))
            except BaseException as raised:  # it is the caller's, wherever it comes from
                error.append(raised)
            done.set()

        self._raise_failure()
        if not self._thread.is_alive():
            raise LabError("the programmable controller is not running")
        self._calls.append(run)
        os.eventfd_write(self._wake, 1)
        if not done.wait(seconds):
            self._raise_failure()
            raise LabError(f"the programmable controller did not answer within {seconds:g} s")
        if error:
            raise error[0]
        return result[0]

    def arm(self, fault: str, armed: bool = True) -> None:
        """Flip the switch of a fault."""
        self.call(lambda device: device.arm(fault, armed))

    def __enter__(self) -> DeviceServer:
        """Start the server."""
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Stop the server."""
        self.stop()

    def _raise_failure(self) -> None:
        failure = self._failure
        if isinstance(failure, LabError):
            raise failure
        if failure is not None:
            raise LabError(f"the programmable controller failed: {type(failure).__name__}: {failure}") from failure

    # -- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            with contextlib.ExitStack() as cleanup:
                loop = _Loop(self, cleanup)
                self._started.set()
                loop.run()
        except BaseException as failure:  # it would be lost otherwise
            self._failure = failure
        finally:
            self._started.set()
            for path in self.sockets.values():
                path.unlink(missing_ok=True)


class _Loop:
    """What the thread does: sockets, calls from other threads, and whatever is due."""

    def __init__(self, server: DeviceServer, cleanup: contextlib.ExitStack) -> None:
        self._server = server
        self._poll = select.epoll()
        cleanup.callback(self._poll.close)
        self._poll.register(server._wake, select.EPOLLIN)
        self._ports: dict[str, Port] = {}
        self._device = Device(
            server.spec,
            server._images,
            memory=lambda _: HostMemory(),
            signal=lambda id: lambda how, vector: self._signal(id, how, vector),
            records=server._records,
            faults=server._faults,
        )
        cleanup.callback(self._device.close)
        cleanup.callback(self._hang_up)
        self._listeners: dict[int, Port] = {}
        self._sessions: dict[int, tuple[Port, Session]] = {}
        for id, controller in self._device.controllers.items():
            listener = _listen(server.sockets[id])
            cleanup.callback(listener.close)
            port = self._ports[id] = Port(id, controller, listener)
            self._listeners[listener.fileno()] = port
            self._poll.register(listener, select.EPOLLIN)

    def run(self) -> None:
        clock, sessions = self._device.clock, self._sessions
        while not self._server._stopping:
            due = clock.next_due()
            for fd, _ in self._poll.poll(due):
                if fd in sessions:
                    self._work(fd)
                elif fd in self._listeners:
                    self._accept(self._listeners[fd])
                else:
                    self._answer_calls()
            if due is not None:
                self._run_timers()

    def _run_timers(self) -> None:
        try:
            self._device.clock.run()
        except Exception as error:  # it is not known whose timer it was
            self._fail(error, "at a timer")
            for fd, (port, _) in list(self._sessions.items()):
                self._close(fd, port, f"an error of the lab itself: {type(error).__name__}: {error}")

    def _work(self, fd: int) -> None:
        port, session = self._sessions[fd]
        try:
            session.work()
        except ConnectionClosedError as closed:
            self._close(fd, port, str(closed))
        except ProtocolError as broken:
            self._close(fd, port, str(broken))
        except Exception as error:  # whatever a client sends, the other controllers go on
            self._fail(error, f"controller {port.id}, at a message")
            self._close(fd, port, f"an error of the lab itself: {type(error).__name__}: {error}")

    def _fail(self, error: Exception, where: str) -> None:
        """Keep an error of the lab itself until the server is stopped; the thread keeps running."""
        LOG.error("%s: an error of the lab itself", where, exc_info=error)
        self._server._failure = self._server._failure or error

    def _accept(self, port: Port) -> None:
        session = port.accept()
        if session is None:
            return
        fd = session.connection.fileno()
        self._server.connected.add(port.id)
        self._sessions[fd] = port, session
        self._poll.register(fd, select.EPOLLIN)
        self._poll.unregister(port.listener)

    def _close(self, fd: int, port: Port, why: str) -> None:
        self._poll.unregister(fd)
        del self._sessions[fd]
        self._server.connected.discard(port.id)
        port.hang_up(why)
        self._poll.register(port.listener, select.EPOLLIN)

    def _answer_calls(self) -> None:
        os.eventfd_read(self._server._wake)
        while self._server._calls:
            self._server._calls.popleft()(self._device)

    def _signal(self, id: str, how: str, vector: int) -> None:
        port = self._ports.get(id)
        if port is not None and port.session is not None:
            port.session.signal(how, vector)

    def _hang_up(self) -> None:
        for port in self._ports.values():
            port.hang_up("")


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.bind(str(path))
        path.chmod(0o666)  # QEMU may be another user; who comes here at all is up to the folder
        listener.listen(1)
    except OSError as error:
        listener.close()
        raise LabError(f"the socket {path} cannot be made: {error.strerror}") from error
    listener.setblocking(False)
    return listener
