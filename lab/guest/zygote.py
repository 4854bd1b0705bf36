"""Guests that are prepared before anybody asks for one, so that whoever does waits for no more than the hand-over."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import TracebackType
from typing import Generic, TypeAlias, TypeVar

from lab.deadline import Deadline
from lab.errors import Timeout

T = TypeVar("T")
Prepared: TypeAlias = tuple[T, ExitStack]


class Zygotes(Generic[T]):
    """So many guests at most, ready or in use. One that has ended is followed by the preparation of another one.

    Whatever was prepared ends with the ``with`` block, taken or not.
    """

    def __init__(self, prepare: Callable[[], AbstractContextManager[T]], number: int = 1) -> None:
        """``prepare`` is entered in a thread of the pool and left by whoever has taken its guest, or by the pool."""
        self._prepare = prepare
        self._places = threading.Semaphore(number)
        self._ready: queue.SimpleQueue[Prepared[T] | BaseException] = queue.SimpleQueue()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name="zygotes", daemon=True)

    def __enter__(self) -> Zygotes[T]:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._ending.set()
        self._places.release()
        self._thread.join()
        with ExitStack() as unused:
            while not self._ready.empty():
                found = self._ready.get()
                if not isinstance(found, BaseException):
                    unused.push(found[1])

    @contextmanager
    def take(self, deadline: Deadline) -> Iterator[T]:
        """The guest that has been ready for the longest time. Raises what its preparation has raised, and Timeout."""
        try:
            found = self._ready.get(timeout=deadline.remaining())
        except queue.Empty:
            raise Timeout(f"Waited {deadline.seconds:g} s in vain for a guest to be prepared.") from None
        try:
            if isinstance(found, BaseException):
                raise found
            guest, ends = found
            with ends:
                yield guest
        finally:
            self._places.release()

    def _work(self) -> None:
        while True:
            self._places.acquire()
            if self._ending.is_set():
                return
            with ExitStack() as ends:
                try:
                    guest = ends.enter_context(self._prepare())
                except BaseException as failure:  # whoever wants to take it shall hear of it
                    self._ready.put(failure)
                else:
                    self._ready.put((guest, ends.pop_all()))
