"""Standard output that is closed, or that cannot be written, ends a command in order."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EPIPE
from signal import SIGPIPE
from typing import Any, TextIO, TypeVar, cast

from conformance.run import signals
from lab.errors import LabError

T = TypeVar("T")


class GuardedStream:
    """A text stream whose failed writes end the command: a closed pipe quietly, anything else with its reason.

    After a failure everything goes to /dev/null. It is used like the stream that it stands for.
    """

    def __init__(self, stream: TextIO) -> None:
        """Guard a stream; `failure` is what its first failed write said."""
        self._stream = stream
        self.failure: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text; return its length."""
        return self._guarded(lambda: self._stream.write(text), len(text))

    def flush(self) -> None:
        """Flush what was written."""
        self._guarded(self._stream.flush, None)

    def _guarded(self, act: Callable[[], T], otherwise: T) -> T:
        try:
            return act()
        except OSError as error:
            first, self.failure = self.failure is None, self.failure or error
            _discard(self._stream)
            if first and threading.current_thread() is threading.main_thread():
                signals.interrupt(SIGPIPE if error.errno == EPIPE else signals.NONE)
            return otherwise


@contextmanager
def guarded_stdout() -> Iterator[None]:
    """Guard standard output (`guarding`)."""
    stream = sys.stdout
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="replace")  # an output that is not Unicode shows ? instead of ending the command
    with guarding(stream) as guard:
        sys.stdout = guard
        try:
            yield
        finally:
            sys.stdout = stream


@contextmanager
def guarding(stream: TextIO) -> Iterator[TextIO]:
    """Yield the guarded stream, and flush it; LabError where it could not be written for another reason than a closed pipe."""
    guard = GuardedStream(stream)
    try:
        yield cast(TextIO, guard)
        guard.flush()
    except BaseException:
        _check(guard)
        raise
    _check(guard)


def _check(guard: GuardedStream) -> None:
    if guard.failure and guard.failure.errno != EPIPE:
        raise LabError(f"The output cannot be written: {guard.failure.strerror}.") from guard.failure


def open_standard_descriptors() -> None:
    """Open /dev/null on standard descriptors that are closed: a file of ours would take their numbers, and streams be None."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8", closefd=False))


def _discard(stream: TextIO) -> None:
    """Send the rest of a stream to /dev/null."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
    except (OSError, ValueError):  # it has no descriptor
        pass
