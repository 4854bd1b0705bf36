"""Trials on several processes: as many at once as asked for, handed out one by one, ended in order.

A worker that is interrupted ends its recording first, so that no guest is left; one that waits for work ends at once.
"""

from __future__ import annotations

import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from multiprocessing import active_children, get_context
from types import FrameType
from typing import Any, Generic, TypeVar

from conformance.discovery.trial import Bench
from conformance.run import signals
from lab import drivers, log
from lab.data.manifest import DriverManifest
from lab.errors import LabError

T = TypeVar("T")
R = TypeVar("R")

WAITING_GUESTS = 2
"""Workers beside one per processor where drivers run in guests: some always wait for a driver's time-out."""
AHEAD = 2
"""Pieces of work beside those that are being done, so that no worker waits."""

_busy = False


def default_jobs(bench: Bench) -> int:
    """Return how many trials run at once."""
    processors = len(os.sched_getaffinity(0))
    return processors if bench.in_process else processors + WAITING_GUESTS


class Workers(ABC, Generic[T, R]):
    """What does pieces of work."""

    @abstractmethod
    def running(self) -> AbstractContextManager[Any]:
        """Start it, and end it."""

    @abstractmethod
    def each(self, take: Callable[[], T | None]) -> Iterator[tuple[T, R]]:
        """Yield each piece of work with what came of it; ``take`` returns the next one, None where there is none now."""


def workers(do: Callable[[T], R], jobs: int, bench: Bench, prepare: Callable[..., None], *given: Any) -> Workers[T, R]:
    """Return processes that do one thing with pieces of work, or this process, where one job needs no guest.

    ``do`` and ``prepare``, which each process calls first with what is ``given``, are functions of a module.
    """
    if jobs == 1 and bench.in_process:
        return Inline(do, prepare, given)
    return Pool(do, jobs, bench, prepare, given)


class Inline(Workers[T, R]):
    """Work in this process, a piece after the other."""

    def __init__(self, do: Callable[[T], R], prepare: Callable[..., None], given: tuple[Any, ...]) -> None:
        """Take what `workers` takes."""
        self._do, self._prepare, self._given = do, prepare, given

    @contextmanager
    def running(self) -> Iterator[None]:
        """Prepare this process."""
        self._prepare(*self._given)
        yield

    def each(self, take: Callable[[], T | None]) -> Iterator[tuple[T, R]]:
        """Yield each piece of work with what came of it."""
        while (piece := take()) is not None:
            yield piece, self._do(piece)


class Pool(Workers[T, R]):
    """Processes that do one thing with pieces of work; use it in a ``with`` block."""

    def __init__(
        self, do: Callable[[T], R], jobs: int, bench: Bench, prepare: Callable[..., None], given: tuple[Any, ...]
    ) -> None:
        """Take what `workers` takes."""
        self._do, self._jobs, self._bench = do, jobs, bench
        self._prepare, self._given = prepare, given
        self._executor: ProcessPoolExecutor

    @contextmanager
    def running(self) -> Iterator[Pool[T, R]]:
        """Start the processes, and end them."""
        self._executor = ProcessPoolExecutor(
            self._jobs,
            mp_context=get_context("spawn"),
            initializer=_begin,
            initargs=(self._bench.driver, os.getpid(), self._prepare, self._given),
        )
        try:
            yield self
        except BaseException:
            self._executor.shutdown(wait=False, cancel_futures=True)
            for child in active_children():
                child.terminate()
            raise
        finally:
            self._executor.shutdown(cancel_futures=True)

    def each(self, take: Callable[[], T | None]) -> Iterator[tuple[T, R]]:
        """Yield each piece of work with what came of it, as they end. LabError where a process dies.

        ``take`` returns the next piece, and None where there is none at the moment.
        """
        pending = dict[Future[R], T]()
        while True:
            while len(pending) < self._jobs + AHEAD and (piece := take()) is not None:
                pending[self._executor.submit(_done, self._do, piece)] = piece
            if not pending:
                return
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                piece = pending.pop(future)
                try:
                    yield piece, future.result()
                except BrokenProcessPool as error:
                    raise LabError(
                        "A process that records has died.", remedy="go on with --resume, with fewer --jobs"
                    ) from error


def _begin(driver: DriverManifest, parent: int, prepare: Callable[..., None], given: tuple[Any, ...]) -> None:
    """Prepare a process: what other packages bring, and an end in order."""
    log.show()
    drivers.import_python(driver)
    prepare(*given)
    for number in signals.SIGNALS:
        signal.signal(number, _interrupted)
    signals.end_with(parent)


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    """End the recording that is under way, or the process."""
    for number in signals.SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if not _busy:
        os._exit(0)
    raise KeyboardInterrupt


def _done(do: Callable[[Any], R], piece: Any) -> R:
    global _busy
    _busy = True
    try:
        return do(piece)
    except KeyboardInterrupt:
        os._exit(1)
    finally:
        _busy = False
