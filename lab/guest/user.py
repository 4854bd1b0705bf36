"""A user of its own for each QEMU, where root runs the lab: what breaks out of a guest then owns nothing on this machine.

It could not walk to root's files, below a home folder that is closed to others. So QEMU inherits a descriptor of the folder
behind the closed one, and each path in its arguments goes through there: /proc/self/fd/7/trees/… The user has no name; its
number is from the range of transient users (systemd.exec(5), DynamicUser=). QEMUs that run at the same time have
different users, so that none can reach into another one or its files. All of them may read what is shared with READERS.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.guest.folder import default_root, private

READERS = 65_100
"""The group of all QEMUs, for templates and other files of the cache."""
FIRST, LAST = 61_184, 65_000
"""The numbers of users. A user's own group has the same number, and is what the files of one guest are shared with."""
NEEDED = {"CHOWN": 0, "KILL": 5, "SETGID": 6, "SETUID": 7, "SYS_PTRACE": 19}
"""Powers that root may lack in a container, and with which it shares things with another user, ends it and reads its memory."""

_PATH = re.compile(r"(?<![\w./-])/[^\s\"',:;=]+")


@cache
def can_switch_user() -> bool:
    """Tell whether this process may hand QEMU to another user."""
    held = capabilities()
    return all(held >> number & 1 for number in NEEDED.values()) and all(map(_mapped, ("uid_map", "gid_map")))


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


def options(number: int) -> tuple[str, ...]:
    """Return setpriv(1)'s options for the user."""
    return f"--reuid={number}", f"--regid={number}", f"--groups={READERS}"


def capabilities() -> int:
    """Return the bits of CapEff, which say what this process may do: proc_pid_status(5)."""
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["CapEff"], 16)


def _mapped(table: str) -> bool:
    """Tell whether the numbers exist in this user namespace (user_namespaces(7))."""
    rows = (tuple(map(int, line.split())) for line in Path("/proc/self", table).read_text().splitlines())
    return any(first <= FIRST and READERS < first + count for first, _, count in rows)


class InheritedFolders:
    """Descriptors of folders that the child inherits, and paths through them, which it can use when ours are closed."""

    def __init__(self, groups: Collection[int] = ()) -> None:
        """Inherit nothing yet. ``groups`` are those of the child."""
        self._groups = groups
        self._open: dict[Path, int] = {}

    @property
    def descriptors(self) -> list[int]:
        """Return the descriptors that the child inherits."""
        return list(self._open.values())

    def add(self, path: Path) -> None:
        """Inherit the folder that leads to this path and to what is beside it, if one on the way is closed."""
        door = _behind_the_last_closed(path, self._groups)
        if door is not None and door not in self._open:
            self._open[door] = os.open(door, os.O_PATH)

    def add_paths_in(self, text: str) -> None:
        """Inherit what leads to every path in an argument."""
        for found in map(Path, _PATH.findall(text)):
            if found.exists() and not found.is_relative_to("/dev/fd"):
                self.add(found)

    def translate(self, value: Any) -> Any:
        """Return the value, a text or data of JSON, with each path that leads through an inherited folder."""
        if isinstance(value, dict):
            return {key: self.translate(part) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return [self.translate(part) for part in value]
        if isinstance(value, str):
            for folder, descriptor in self._open.items():
                value = _leads_to(folder).sub(f"/proc/self/fd/{descriptor}", value)
        return value

    def close(self) -> None:
        """Close our copies."""
        for descriptor in self._open.values():
            os.close(descriptor)


def _leads_to(folder: Path) -> re.Pattern[str]:
    """Return the pattern of the folder at the beginning of a path, also as JSON has it."""
    names = {re.escape(name) for name in (str(folder), json.dumps(str(folder)).strip('"'))}
    return re.compile(rf"(?<![\w./-])(?:{'|'.join(names)})(?=[/\s\"',:;=]|$)")


def _behind_the_last_closed(path: Path, groups: Collection[int]) -> Path | None:
    """Return the uppermost folder on the way to the path behind which nothing is closed to the user.

    None where nothing is closed.
    """
    way = [*reversed(path.parents), path]
    closed = [place for place, folder in enumerate(way[:-1]) if not _searchable(folder, groups)]
    return way[closed[-1] + 1] if closed else None


def _searchable(folder: Path, groups: Collection[int]) -> bool:
    status = folder.stat()
    return bool(status.st_mode & (stat.S_IXGRP if status.st_gid in groups else stat.S_IXOTH))


def share(path: Path, group: int, *, writable: bool) -> None:
    """Let a group read the path, and write or search it as its owner may. It stays its owner's."""
    mode = stat.S_IMODE(path.stat().st_mode)
    allowed = (mode & 0o700) >> 3 if writable else stat.S_IRGRP
    os.chown(path, -1, group)
    path.chmod(mode & ~0o070 | allowed)


@contextmanager
def group_writable(folder: Path, group: int) -> Iterator[None]:
    """Let the group write the folder and the files in it while the block lasts."""
    before = {path: path.stat() for path in (folder, *folder.iterdir())}
    try:
        for path in before:
            share(path, group, writable=True)
        yield
    finally:
        for path, status in before.items():
            os.chown(path, -1, status.st_gid)
            path.chmod(stat.S_IMODE(status.st_mode))
