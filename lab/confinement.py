"""How programs that the lab does not trust are started: without any of its powers, where root runs the lab as another user.

Such a user could not walk to root's files, below a home folder that is closed to others. So the program inherits a descriptor
of the folder behind the closed one, and each path in its arguments goes through there: /proc/self/fd/7/trees/… The user
has no name; its number is from the range of transient users (systemd.exec(5), DynamicUser=).
"""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from lab.errors import LabError

READERS = 65_100
"""The group of all QEMUs, for templates and other files of the cache."""
FIRST, LAST = 61_184, 65_000
"""The numbers of users. A user's own group has the same number, and is what the files of one guest are shared with."""
NEEDED = {"CHOWN": 0, "KILL": 5, "SETGID": 6, "SETUID": 7, "SYS_PTRACE": 19}
"""Powers that root may lack in a container, and with which it shares things with another user, ends it and reads its memory."""
KVM = Path("/dev/kvm")
POWERLESS = ("--bounding-set=-all", "--inh-caps=-all")
"""setpriv(1)'s options: of a root that runs the lab a program has none of the powers, also where it must keep the name."""
CAP_SETPCAP = 8
MISSING = "setpriv (package util-linux) and sh must be on the PATH"
"""The remedy where a program cannot be started."""

_PATH = re.compile(r"(?<![\w./-])/[^\s\"',:;=]+")


@cache
def can_switch_user() -> bool:
    """Return whether this process may hand QEMU to another user."""
    held = capabilities()
    return all(held >> number & 1 for number in NEEDED.values()) and all(map(_mapped, ("uid_map", "gid_map")))


def options(number: int) -> tuple[str, ...]:
    """Return setpriv(1)'s options for the user. It may open /dev/kvm where the group of that device may."""
    groups = [READERS]
    if KVM.exists() and (status := KVM.stat()).st_mode & stat.S_IRGRP and status.st_gid:
        groups.append(status.st_gid)
    return f"--reuid={number}", f"--regid={number}", f"--groups={','.join(map(str, groups))}"


def capabilities() -> int:
    """Return the bits of CapEff, which say what this process may do: proc_pid_status(5)."""
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["CapEff"], 16)


def relinquished() -> tuple[str, ...]:
    """Return setpriv(1)'s options that drop all capabilities; none for a process that may not drop any."""
    return POWERLESS if capabilities() >> CAP_SETPCAP & 1 else ()


def run(command: Sequence[str], env: Mapping[str, str], seconds: float) -> subprocess.CompletedProcess[str]:
    """Run a short program that needs nothing but to read its own files, and return what it said.

    ``env`` is added to our own environment. Raises LabError when it cannot be started or does not end in ``seconds``.
    """
    switch = can_switch_user()
    folders = InheritedFolders()
    try:
        if switch:
            for argument in (*command, *env.values()):
                folders.add_paths_in(argument)
        return subprocess.run(
            ["setpriv", "--pdeathsig", "KILL", "--no-new-privs", *(options(LAST) if switch else ()), *relinquished(), "--",
             *folders.translate(command)],
            env={**os.environ, **folders.translate(env)}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=seconds, check=False, pass_fds=folders.descriptors,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{command[0]} has not ended after {seconds:g} s.") from error
    except OSError as error:
        raise LabError(f"{command[0]} cannot be started: {error}.", remedy=MISSING) from error
    finally:
        folders.close()


def _mapped(table: str) -> bool:
    """Return whether the numbers exist in this user namespace (user_namespaces(7))."""
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

    def add_link(self, link: Path) -> None:
        """Inherit what a symbolic link leads to, wherever that is."""
        self._open[link] = os.open(link, os.O_PATH)

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
            for folder, descriptor in sorted(self._open.items(), reverse=True):  # what is deeper comes first
                value = _leads_to(folder).sub(f"/proc/self/fd/{descriptor}", value)
        return value

    def close(self) -> None:
        """Close this process's descriptors; the child keeps its own."""
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
