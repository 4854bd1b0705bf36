"""The driver for asyncio: a future for each operation, and completions that are polled for without blocking.

::

    async with AsyncDriver(controller) as driver:
        blocks = await asyncio.gather(*(driver.read(namespace, lba, 1) for lba in range(1000)))

One task polls while operations are outstanding and gives way to all others between two polls. Operations that are started in
the same turn of the event loop share a doorbell.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

from lab.nvme.commands import Flush, LbaCommand, Read, Write
from lab.reference.controller import Controller
from lab.reference.errors import DriverError, Refused
from lab.reference.io_ring import IoRing
from lab.reference.namespace import Namespace
from lab.reference.operation import Operation
from lab.reference.statistics import Statistics


class AsyncDriver:
    """Reads, writes and flushes that can be awaited. Use it from one event loop."""

    def __init__(self, controller: Controller, entries: int | None = None) -> None:
        """Open a ring of ``entries`` operations on a controller that was started."""
        self._controller = controller
        self._ring = IoRing(controller) if entries is None else IoRing(controller, entries)
        self._room = asyncio.Semaphore(self._ring.entries)
        self._poller: asyncio.Task[None] | None = None

    @property
    def statistics(self) -> Statistics:
        """The statistics of all operations so far."""
        return self._ring.statistics

    async def __aenter__(self) -> AsyncDriver:
        """Return the driver itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait until all operations have ended, and close the ring."""
        if self._poller is not None:
            await self._poller
        self._ring.close()

    async def read(self, namespace: Namespace, lba: int, blocks: int) -> bytes:
        """Read blocks; as many as one command may move."""
        buffer = bytearray(blocks * namespace.block_size)
        await self._run(Read, namespace, lba, blocks, buffer)
        return bytes(buffer)

    async def write(self, namespace: Namespace, lba: int, data: bytes) -> None:
        """Write whole blocks; as many as one command may move."""
        blocks, rest = divmod(len(data), namespace.block_size)
        if rest:
            raise Refused(f"{len(data)} bytes are not a whole number of blocks of {namespace.block_size} bytes")
        await self._run(Write, namespace, lba, blocks, bytearray(data))

    async def flush(self, namespace: Namespace) -> None:
        """Put what was written on the medium."""
        await self._run(Flush, namespace, 0, 0, bytearray())

    async def _run(
        self, kind: type[LbaCommand] | type[Flush], namespace: Namespace, lba: int, blocks: int, buffer: bytearray
    ) -> None:
        """Start an operation and wait for its future, which the poller sets."""
        await self._room.acquire()
        address = self._ring.register(buffer)
        future = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda done: self._release(done, address))
        try:
            self._ring.prepare(Operation(kind, namespace, lba, blocks, address, user_data=future))
        except DriverError:
            future.cancel()
            raise
        if self._poller is None:
            self._poller = asyncio.create_task(self._poll())
        await asyncio.shield(future)  # a caller that is cancelled leaves its buffer to the device until the end

    def _release(self, done: asyncio.Future[None], address: int) -> None:
        self._ring.unregister(address)
        self._room.release()
        if not done.cancelled():
            done.exception()  # retrieved here too, for a caller that was cancelled

    async def _poll(self) -> None:
        """Submit what was prepared, and set the futures of what has ended, until nothing is outstanding."""
        try:
            while self._ring.outstanding:
                for result in self._ring.wait(1, self._controller.settings.poll_interval):
                    if result.error is None:
                        result.user_data.set_result(None)
                    else:
                        result.user_data.set_exception(result.error)
                await asyncio.sleep(0)
        finally:
            self._poller = None
