"""Recordings of one machine side by side, or one of them alone: where its verdict must not depend on the others' load."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lab.guest.folder import default_root, private


@contextmanager
def turn(*, alone: bool, root: Path | None = None) -> Iterator[None]:
    """Wait until this user's recordings on this machine allow one more, or until there is none and stays none meanwhile.

    A recording that must run alone holds the gate while it waits, so that no new recording starts before it. The kernel
    releases both locks when their owner dies (flock(2)).
    """
    root = private(root or default_root())
    with ExitStack() as held:
        with _locked(root / "gate.lock", fcntl.LOCK_EX):
            held.enter_context(_locked(root / "turn.lock", fcntl.LOCK_EX if alone else fcntl.LOCK_SH))
        yield


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Wait until no other process holds the lock of this file, and hold it."""
    with _locked(path, fcntl.LOCK_EX):
        yield


@contextmanager
def _locked(path: Path, kind: int) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, kind)
        yield
    finally:
        os.close(descriptor)
