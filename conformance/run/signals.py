"""Ctrl-C and SIGTERM end a run in order: both interrupt once, and what cleans up is not interrupted again."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

PR_SET_PDEATHSIG = 1
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interrupting() -> Iterator[list[int]]:
    """The first signal raises KeyboardInterrupt in the main thread, later ones are only noted. Yields the signals."""
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) == 1:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def status(received: list[int] | None, otherwise: int) -> int:
    """The exit status of a command that these signals have reached."""
    return 128 + received[0] if received else otherwise


def end_with(parent: int) -> None:
    """From now on the end of process ``parent``, which must be the one that started this one, is a SIGTERM."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended before
        os.kill(os.getpid(), signal.SIGTERM)
