"""Ctrl-C, SIGTERM and SIGHUP end a run in order: each interrupts once, and cleaning up is not interrupted again."""

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
    """Raise KeyboardInterrupt in the main thread at the first signal and note later ones. Yield the received signals."""
    received: list[int] = []

    def handle(number: int, _frame: FrameType | None) -> None:
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
    """Return the exit status of a command that received these signals."""
    return 128 + received[0] if received else otherwise


def end_with(parent: int) -> None:
    """Receive SIGTERM when process ``parent``, which started this one, ends."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended before
        os.kill(os.getpid(), signal.SIGTERM)
