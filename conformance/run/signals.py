"""Ctrl-C, SIGTERM and SIGHUP end a run in order: the first one interrupts, and cleaning up is not interrupted again."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

PR_SET_PDEATHSIG = 1
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

NONE = 0
"""An interruption that no signal caused, and that decides no exit status."""

_received: list[int] = []


@contextmanager
def interrupting() -> Iterator[list[int]]:
    """Raise KeyboardInterrupt in the main thread at the first signal and note later ones. Yield the received signals.

    A signal that is ignored stays ignored, as SIGHUP is under nohup.
    """
    global _received
    received: list[int] = []
    outer, _received = _received, received

    def handle(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        if len(received) == 1:
            raise KeyboardInterrupt

    caught = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in caught}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _received = outer


def interrupted() -> bool:
    """Return whether a signal has reached the innermost `interrupting`."""
    return bool(_received)


def interrupt(number: int) -> None:
    """End what is under way as if this signal had come; from the main thread."""
    _received.append(number)
    if len(_received) == 1:
        raise KeyboardInterrupt


def status(received: list[int] | None, otherwise: int) -> int:
    """Return the exit status of a command that received these signals."""
    return 128 + received[0] if received and received[0] != NONE else otherwise


def end_with(parent: int) -> None:
    """Receive SIGTERM when process ``parent``, which started this one, ends."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended before
        os.kill(os.getpid(), signal.SIGTERM)
