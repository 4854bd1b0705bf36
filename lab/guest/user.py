"""A user of its own for each QEMU, where root runs the lab: what breaks out of a guest then owns nothing on this machine.

QEMUs that run at the same time have different users (`lab.confinement`), so that none can reach into another one or its files.
All of them may read what is shared with READERS.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lab.confinement import FIRST, LAST, READERS, InheritedFolders, can_switch_user, options
from lab.errors import LabError
from lab.guest.folder import default_root, private

__all__ = [
    "FIRST", "LAST", "READERS", "InheritedFolders", "allocate", "can_switch_user", "group_writable", "options", "share",
]  # fmt: skip


@contextmanager
def allocate(root: Path | None = None) -> Iterator[int]:
    """Yield the number of a user that no other QEMU on this machine is while the block lasts.

    The kernel gives the number back when its owner dies (flock(2)). LabError if all are taken.
    """
    folder = private(private(root or default_root()) / "users")
    for number in range(FIRST, LAST):
        descriptor = os.open(folder / str(number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        try:
            yield number
        finally:
            os.close(descriptor)
        return
    raise LabError(f"All user numbers for QEMU, {FIRST} to {LAST - 1}, are in use.", remedy="end some of the runs")


def share(path: Path, group: int, *, writable: bool) -> None:
    """Let a group read the path, and write or search it as its owner may. It stays its owner's."""
    mode = stat.S_IMODE(path.stat().st_mode)
    allowed = (mode & 0o700) >> 3 if writable else stat.S_IRGRP
    os.chown(path, -1, group)
    path.chmod(mode & ~0o070 | allowed)


@contextmanager
def group_writable(folder: Path, group: int) -> Iterator[None]:
    """Let the group write the folder and the files in it while the block lasts. It may add files, and some may go."""
    before = {path: path.stat() for path in (folder, *folder.iterdir())}
    try:
        for path in before:
            share(path, group, writable=True)
        yield
    finally:
        for path, status in before.items():
            with suppress(FileNotFoundError):
                os.chown(path, -1, status.st_gid)
                path.chmod(stat.S_IMODE(status.st_mode))
