"""The initramfs format "newc" (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).

The same entries give the same bytes: owner root, no times, numbered and sorted by path.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

_BLOCK = 512


@dataclass(frozen=True)
class Entry:
    """An entry of an archive."""

    mode: int
    """Type and permissions, as in stat(2)."""
    content: bytes = b""
    """Of a file; of a symbolic link its target."""
    device: tuple[int, int] = (0, 0)


class Archive:
    """Paths without a leading slash; folders above an entry come by themselves. An entry replaces an earlier one."""

    def __init__(self) -> None:
        """Begin with no entries."""
        self._entries: dict[str, Entry] = {}

    def __contains__(self, path: str) -> bool:
        return _name(path) in self._entries

    def directory(self, path: str, mode: int = 0o755) -> None:
        """Add a folder."""
        self._add(path, Entry(stat.S_IFDIR | mode))

    def file(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """Add a regular file."""
        self._add(path, Entry(stat.S_IFREG | mode, content))

    def link(self, path: str, target: str) -> None:
        """Add a symbolic link; ``target`` is stored as it is."""
        self._add(path, Entry(stat.S_IFLNK | 0o777, target.encode()))

    def character_device(self, path: str, major: int, minor: int, mode: int = 0o600) -> None:
        """Add a character device node; ``mode`` are its permissions."""
        self._add(path, Entry(stat.S_IFCHR | mode, device=(major, minor)))

    def to_bytes(self) -> bytes:
        """Return the archive in the "newc" format, its entries in order of their paths."""
        return b"".join(self._records())

    def _add(self, path: str, entry: Entry) -> None:
        for parent in PurePosixPath(_name(path)).parents:
            if parent.name:
                self._entries.setdefault(str(parent), Entry(stat.S_IFDIR | 0o755))
        self._entries[_name(path)] = entry

    def _records(self) -> Iterator[bytes]:
        total = 0
        numbered = [*sorted(self._entries.items()), ("TRAILER!!!", Entry(0))]
        for inode, (name, entry) in enumerate(numbered, start=1):
            record = _record(inode, name, entry)
            total += len(record)
            yield record
        yield bytes(-total % _BLOCK)


def _record(inode: int, name: str, entry: Entry) -> bytes:
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    path = name.encode() + b"\0"
    # inode, mode, uid, gid, links, time, size, device (2), device of a node (2), length of the name, checksum (unused)
    numbers = (inode, entry.mode, 0, 0, links, 0, len(entry.content), 0, 0, *entry.device, len(path), 0)
    header = b"070701" + b"".join(b"%08X" % number for number in numbers)
    return _padded(header + path) + _padded(entry.content)


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 4)


def _name(path: str) -> str:
    return path.strip("/")
