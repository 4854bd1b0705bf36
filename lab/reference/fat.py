"""Reading a file of a FAT16 file system, block by block: what makes a driver that can read useful. Nothing is ever written.

Microsoft Extensible Firmware Initiative FAT32 File System Specification 1.03. Names are those of 8.3.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from lab.reference.errors import Refused
from lab.reference.namespace import Namespace

BOOT = struct.Struct("<11xHBHBHHBH10x")
"""Sector size, sectors per cluster, reserved sectors, FATs, root entries, sectors (ignored if 0), media, sectors per FAT."""
ENTRY = struct.Struct("<11sB14xHI")
"""Name, attributes, first cluster, bytes."""
SIGNATURE, LAST = b"\x55\xaa", 0xFFF8
DIRECTORY, LABEL = 0x10, 0x08
FREE, END = 0xE5, 0
FIRST_CLUSTER = 2


@dataclass(frozen=True)
class Entry:
    """A file or folder; ``cluster`` 0 is the root folder, or a file without bytes."""

    cluster: int
    size: int
    is_folder: bool


class FatVolume:
    """The file system on a namespace, without a partition table."""

    def __init__(self, namespace: Namespace) -> None:
        """Read the boot sector. Refused if it is none of FAT16."""
        self._namespace = namespace
        boot = namespace.read(0, 1)
        self._sector, self._cluster, reserved, fats, entries, _, _, self._table_sectors = BOOT.unpack_from(boot)
        if boot[510:512] != SIGNATURE or self._sector != namespace.block_size or not self._cluster or not self._table_sectors:
            raise Refused(f"namespace {namespace.nsid} holds no FAT16 file system in sectors of {namespace.block_size} bytes")
        self._table = reserved
        self._root = reserved + fats * self._table_sectors
        self._root_sectors = -(-entries * ENTRY.size // self._sector)
        self._data = self._root + self._root_sectors
        self._next = memoryview(namespace.read(self._table, self._table_sectors)).cast("H")

    def read(self, path: str) -> bytes:
        """Return a file's bytes. Refused if there is no such file."""
        found = Entry(0, 0, True)
        for name in path.split("/"):
            found = self._entry(found, name, path)
        if found.is_folder:
            raise Refused(f"{path} is a folder")
        return self.read_chain(found.cluster, of_file=True)[: found.size] if found.size else b""

    def _entry(self, folder: Entry, name: str, path: str) -> Entry:
        if not folder.is_folder:
            raise Refused(f"there is no {path}: the part before {name} is a file")
        for listed, entry in self._listed(folder):
            if listed == name.upper():
                return entry
        raise Refused(f"there is no {name} of {path}")

    def _listed(self, folder: Entry) -> Iterator[tuple[str, Entry]]:
        held = self.read_chain(folder.cluster) if folder.cluster else self._namespace.read(self._root, self._root_sectors)
        for name, attributes, cluster, size in ENTRY.iter_unpack(held):
            if name[0] == END:
                return
            if name[0] != FREE and not attributes & LABEL:  # of long names too
                base, suffix = name[:8].decode("ascii", "replace").rstrip(), name[8:].decode("ascii", "replace").rstrip()
                yield f"{base}.{suffix}".rstrip("."), Entry(cluster, size, bool(attributes & DIRECTORY))

    def read_chain(self, cluster: int, *, of_file: bool = False) -> bytes:
        """Return the bytes of a chain of clusters, of a file or a folder; neighbours are read at once."""
        del of_file  # both are chains
        found = list[bytes]()
        left = len(self._next)  # a chain in a circle ends
        while FIRST_CLUSTER <= cluster < LAST and left > 0:
            count = 1
            while self._next[cluster + count - 1] == cluster + count and count < left:
                count += 1
            found.append(self._namespace.read(self._data + (cluster - FIRST_CLUSTER) * self._cluster, count * self._cluster))
            left -= count
            cluster = self._next[cluster + count - 1]
        return b"".join(found)
