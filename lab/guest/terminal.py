"""The user's own terminal on a guest's console, until they leave or the guest is gone."""

from __future__ import annotations

import os
import select
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from lab.errors import GuestError
from lab.guest.console import Console

ESCAPE = b"\x1d"
"""Ctrl-], as telnet and virsh have it."""
LIVENESS_POLL_SECONDS = 0.1
"""Seconds after which a wait for a key looks whether the guest still lives."""
CHUNK = 1024


def talk(console: Console, send: Callable[[bytes], None], alive: Callable[[], bool], keys: int, screen: int) -> None:
    """Send every key from ``keys`` to the guest and its output to ``screen`` (file descriptors)."""

    def show(chunk: bytes) -> None:
        with suppress(OSError):  # the screen is closed; the console's record continues
            while chunk:
                chunk = chunk[os.write(screen, chunk) :]

    with _raw(keys), console.shown(show):
        while alive():
            if not select.select([keys], [], [], LIVENESS_POLL_SECONDS)[0]:
                continue
            typed = os.read(keys, CHUNK)
            before, escape, _ = typed.partition(ESCAPE)
            try:
                send(before)
            except GuestError:  # it died at this moment: the caller will see
                return
            if escape or not typed:
                return


@contextmanager
def _raw(terminal: int) -> Iterator[None]:
    """Switch off line editing and echo within the ``with`` block; the guest gets each key, Ctrl-C included."""
    before = termios.tcgetattr(terminal)
    tty.setraw(terminal)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
