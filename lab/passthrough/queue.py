"""Many outstanding commands on one device: ``submit`` returns at once, with a future of the answer.

::

    with Device("/dev/ng0n1") as device, Queue(device, depth=32) as queue:
        answers = [queue.submit(commands.read(device.nsid, lba, 1, 512)) for lba in range(100)]
        data = [answer.result().check().data for answer in answers]

In a coroutine: ``await asyncio.wrap_future(queue.submit(request))``. Commands go through an io_uring where the node and the
kernel have it, otherwise by threads that wait in ioctls; the answers are the same.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from types import TracebackType
from typing import Protocol

from lab.passthrough import structures
from lab.passthrough.buffers import Buffers
from lab.passthrough.device import Device
from lab.passthrough.errors import ClosedError, NotOfferedError, PassthroughError, from_os
from lab.passthrough.request import Answer, Request, completion
from lab.passthrough.structures import Ioctl, UringCmd
from lab.passthrough.uring import UringQueue


class Engine(Protocol):
    """An interface that carries commands to the device and their answers back."""

    def send(self, request: Request, promise: Future[Answer]) -> None:
        """Send a request; its answer, or PassthroughError, ends the promise."""

    def close(self) -> None:
        """Return when nothing is outstanding any more."""


class Queue:
    """Up to ``depth`` commands outstanding; a further `submit` waits for a free place. Use it in a ``with`` block."""

    def __init__(self, device: Device, depth: int = 32, *, uring: bool | None = None) -> None:
        """``uring`` demands or forbids io_uring; None takes what there is. NotOfferedError where it must be and is not."""
        if depth < 1:
            raise ValueError(f"a queue of depth {depth} carries nothing")
        self._device = device
        self._places = threading.BoundedSemaphore(depth)
        self._closed = False
        self._engine = _engine(device, depth, uring)

    @property
    def by_uring(self) -> bool:
        """Return whether commands go through an io_uring."""
        return isinstance(self._engine, UringEngine)

    def submit(self, request: Request, *, yes: bool = False) -> Future[Answer]:
        """Send a request; what must not be sent raises here, as in `Device.submit`."""
        if self._closed:
            raise ClosedError(f"the queue on {self._device.path} was closed")
        self._device.check(request, yes=yes)
        promise: Future[Answer] = Future()
        self._places.acquire()
        promise.add_done_callback(lambda _: self._places.release())
        try:
            self._engine.send(request, promise)
        except PassthroughError as error:
            promise.set_exception(error)
        return promise

    def close(self) -> None:
        """Wait for what is outstanding, then give everything back."""
        if not self._closed:
            self._closed = True
            self._engine.close()

    def __enter__(self) -> Queue:
        """Return the queue."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Wait for the commands in flight, and close the queue."""
        self.close()


def _engine(device: Device, depth: int, uring: bool | None) -> Engine:
    if uring is False or (uring is None and device.node.kind != "generic"):
        return ThreadEngine(device, depth)
    if device.node.kind != "generic":
        raise NotOfferedError(f"io_uring passthrough goes through a character device such as /dev/ng0n1, not {device.path}")
    try:
        return UringEngine(device, depth)
    except NotOfferedError:
        if uring:
            raise
        return ThreadEngine(device, depth)


class ThreadEngine:
    """A thread an outstanding command: it waits in the ioctl."""

    def __init__(self, device: Device, depth: int) -> None:
        """Make up to ``depth`` threads, as they are needed."""
        self._device = device
        self._threads = ThreadPoolExecutor(depth, "passthrough")

    def send(self, request: Request, promise: Future[Answer]) -> None:
        """Send the request by ioctl in a thread that waits for its answer."""
        self._threads.submit(self._wait, request, promise)

    def _wait(self, request: Request, promise: Future[Answer]) -> None:
        try:
            promise.set_result(self._device.submit(request, yes=True))  # `Queue.submit` has checked it
        except Exception as error:
            promise.set_exception(error)

    def close(self) -> None:
        """Wait for the threads to end."""
        self._threads.shutdown()


class UringEngine:
    """Commands by io_uring. Callers submit; one thread reaps."""

    def __init__(self, device: Device, depth: int) -> None:
        """Make a ring of at least ``depth`` entries; NotOfferedError where the kernel has none."""
        self._device = device
        self._ring = UringQueue(1 << (depth - 1).bit_length())
        self._tags = count(1)
        self._submitting = threading.Lock()
        self._changed = threading.Condition()  # guards what follows
        self._pending: dict[int, tuple[Request, Buffers, Future[Answer]]] = {}
        self._outstanding = 0
        self._closing = False
        self._reaper = threading.Thread(target=self._reap, name="passthrough-reaper", daemon=True)
        self._reaper.start()

    def send(self, request: Request, promise: Future[Answer]) -> None:
        """Submit the request to the ring; its promise is kept by the reaping thread."""
        number = Ioctl.URING_CMD_IO if request.queue == "io" else Ioctl.URING_CMD_ADMIN
        buffers = Buffers(request)
        command = structures.whole(UringCmd, request, buffers.data.address, buffers.metadata.address)
        with self._submitting, self._device.descriptor() as descriptor:
            tag = next(self._tags)
            with self._changed:
                self._pending[tag] = request, buffers, promise
            try:
                self._ring.submit(descriptor, command, number, tag)
            except PassthroughError:
                with self._changed:
                    del self._pending[tag]
                raise
            with self._changed:
                self._outstanding += 1
                self._changed.notify()

    def _reap(self) -> None:
        while self._wait_for_work():
            for tag, res, result in self._ring.wait():
                with self._changed:
                    self._outstanding -= 1
                    request, buffers, promise = self._pending.pop(tag)
                _finish(request, buffers, promise, res, result)

    def _wait_for_work(self) -> bool:
        """Return true once something is outstanding, false once nothing is and nothing will be."""
        with self._changed:
            self._changed.wait_for(lambda: self._outstanding > 0 or self._closing)
            return self._outstanding > 0

    def close(self) -> None:
        """Wait for the commands in flight, and close the ring."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._reaper.join()
        self._ring.close()


def _finish(request: Request, buffers: Buffers, promise: Future[Answer], res: int, result: int) -> None:
    """End a promise with the result of the io_uring: the 15 status bits, or a negative errno."""
    if res < 0:
        promise.set_exception(from_os(OSError(-res, os.strerror(-res)), f"{request.name} by io_uring"))
        return
    data, metadata = buffers.received()
    promise.set_result(Answer(completion(res, result & 0xFFFF_FFFF, result >> 32), data, metadata, dw1_known=True))
