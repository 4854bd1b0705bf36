"""QMP with a synchronous face. The event loop of `qemu.qmp` lives in a thread of its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import socket
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from qemu.qmp import EventListener, ExecuteError, QMPClient, QMPError
from qemu.qmp.message import Message

from lab.deadline import Deadline
from lab.errors import GuestError, GuestTimeoutError, QmpError

T = TypeVar("T")
Event = Mapping[str, Any]


def any_event(event: Event) -> bool:
    """Accept every event."""
    del event  # part of the protocol
    return True


def names_device(device: str) -> Callable[[Event], bool]:
    """Return a filter of events that are about a device of QEMU."""
    return lambda event: event["data"].get("device") == device


class Monitor:
    """Commands to one QEMU and the events it sends, over a connected socket."""

    def __init__(self, connection: socket.socket, died: Callable[[str], GuestError]) -> None:
        """Create the monitor; ``died`` makes the error for a wait after QEMU's end, from what was waited for."""
        self._died = died
        self._client = QMPClient("nvme-lab")
        self._client.register_listener(_Listener(self._record))
        self._events: list[Event] = []
        self._closed = False
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="qmp", daemon=True)
        self._thread.start()
        self._connection = connection

    def connect(self, deadline: Deadline) -> None:
        """Exchange greeting and capabilities; commands work afterwards."""
        self._call(self._client.connect(self._connection), "QEMU's QMP greeting", deadline)
        asyncio.run_coroutine_threadsafe(self._watch(), self._loop)

    def execute(self, command: str, arguments: Mapping[str, object] | None, deadline: Deadline) -> Any:
        """Run a command and return its value. Raises QmpError when QEMU refuses, GuestDiedError, GuestTimeoutError."""
        answer = self._client.execute(command, dict(arguments or {}))
        try:
            return self._call(answer, f"QEMU's answer to the QMP command {command}", deadline)
        except ExecuteError as refused:
            raise QmpError(f"QEMU refused the QMP command {command}: {refused}.", refused.error_class) from refused

    def event(self, name: str, deadline: Deadline, where: Callable[[Event], bool] = any_event) -> Event:
        """Return the first event of that name for which ``where`` holds, whether it came before or comes now.

        Each event is returned once.
        """

        def found() -> Event | None:
            return next((event for event in self._events if event["event"] == name and where(event)), None)

        with self._changed:
            self._changed.wait_for(lambda: self._closed or found(), deadline.remaining())
            event = found()
            if event is not None:
                self._events.remove(event)
                return event
            last = self._events[-1]["event"] if self._events else "none"
        if self._closed:
            raise self._died(f"the QMP event {name}")
        raise GuestTimeoutError(
            f"Timed out after {deadline.seconds:g} s waiting for the QMP event {name}; the last other one: {last}."
        )

    def last(self, name: str, deadline: Deadline) -> list[Event]:
        """Return the events of that name that were not taken, once QEMU has hung up (or the deadline has passed)."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed, deadline.remaining())
            return [event for event in self._events if event["event"] == name]

    def close(self) -> None:
        """End the connection and the thread."""
        with contextlib.suppress(QMPError, EOFError, OSError):  # QEMU hung up first: the connection is gone either way
            asyncio.run_coroutine_threadsafe(self._client.disconnect(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, T], waiting_for: str, deadline: Deadline) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(deadline.remaining())
        except ExecuteError:
            raise
        except concurrent.futures.TimeoutError:
            future.cancel()
            raise GuestTimeoutError(f"Timed out after {deadline.seconds:g} s waiting for {waiting_for}.") from None
        except (QMPError, EOFError, OSError) as hung_up:
            raise self._died(waiting_for) from hung_up

    def _record(self, event: Event) -> None:
        with self._changed:
            self._events.append(event)
            self._changed.notify_all()

    async def _watch(self) -> None:
        """Wake all waits for events when QEMU hangs up."""
        await self._client.runstate_changed()
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class _Listener(EventListener):
    """Hands each event on as it is read, so that none can come after the end of the connection."""

    def __init__(self, record: Callable[[Event], None]) -> None:
        super().__init__()
        self._take = record

    async def put(self, event: Message) -> None:
        self._take(event)
