"""Proof that evidence is what was recorded: sizes and digests of its files in the end marker, and reading that stays inside.

Nothing outside the evidence folder is read, nothing through a symbolic link, and nothing but regular files of a bounded size.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from io import BufferedReader
from pathlib import Path, PurePosixPath

from lab.errors import LabError

SEALED = ("identity.json", "events.jsonl", "coverage.json", "backtrace.json", "device/*.rec", "answers/*", "namespaces/*.img")
"""What a judge looks at."""
BLOCK = 1 << 16
"""Bytes. Blocks without any data are left out of an image's digest: whether they are holes does not matter."""
DOCUMENT_BYTES = 64 << 20
"""Size limit of identity.json, end.json and of a line of events.jsonl."""
ANSWER_BYTES = 256 << 20
"""Size limit of the bytes that a driver returned for one action."""
DAMAGED = "record it again: nvme-lab replay"

Seal = Mapping[str, Mapping[str, int | str]]
"""Name in the folder → ``bytes`` and ``sha256``."""


def seal(folder: Path) -> dict[str, dict[str, int | str]]:
    """Return sizes and digests of all sealed files in a folder."""
    return {name: _digest(folder, name) for name in _names(folder)}


def check_seal(folder: Path, sealed: Seal) -> None:
    """Raise LabError that names the first file that is missing, was added, or is not what was sealed."""
    there = set(_names(folder))
    for name in sorted(there | sealed.keys()):
        if name not in there:
            raise LabError(f"{folder}/{name} is missing: the evidence is not whole", remedy=DAMAGED)
        if name not in sealed:
            raise LabError(f"{folder}/{name} was added after the recording", remedy=DAMAGED)
        found = _digest(folder, name)
        if dict(sealed[name]) != found:
            size = sealed[name].get("bytes")
            what = (
                "its content changed" if size == found["bytes"] else f"{size} bytes were recorded, {found['bytes']} are there"
            )
            raise LabError(f"{folder}/{name} is not what was recorded: {what}", remedy=DAMAGED)


def open_inside(folder: Path, name: str, limit: int | None = None) -> BufferedReader:
    """Open a regular file in the folder for reading; LabError for a name outside, a link, anything else, or above the limit."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts:
        raise LabError(f"{folder}: {name!r} is no name of a file in the evidence", remedy=DAMAGED)
    path = folder
    for part in parts[:-1]:
        path /= part
        if path.is_symlink():
            raise LabError(f"{path} is a symbolic link: the evidence is not what was recorded", remedy=DAMAGED)
    path = folder / name
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise LabError(f"{path} cannot be read: {error.strerror}", remedy=DAMAGED) from error
    state = os.fstat(descriptor)
    if not stat.S_ISREG(state.st_mode) or (limit is not None and state.st_size > limit):
        os.close(descriptor)
        what = "too large" if stat.S_ISREG(state.st_mode) else "no regular file"
        raise LabError(f"{path} is {what}: the evidence is not what was recorded", remedy=DAMAGED)
    return os.fdopen(descriptor, "rb")


def _names(folder: Path) -> Iterator[str]:
    for pattern in SEALED:
        for path in sorted(folder.glob(pattern)):
            yield str(path.relative_to(folder))


def _digest(folder: Path, name: str) -> dict[str, int | str]:
    digest = hashlib.sha256()
    with open_inside(folder, name) as file:
        size = os.fstat(file.fileno()).st_size
        if not name.endswith(".img"):
            while data := file.read(1 << 20):
                digest.update(data)
        else:
            for offset, data in _blocks(file, size):
                digest.update(offset.to_bytes(8, "little") + data)
    return {"bytes": size, "sha256": digest.hexdigest()}


def _blocks(file: BufferedReader, size: int) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, bytes) of each block that holds data, without reading holes."""
    empty = bytes(BLOCK)
    at = 0
    while at < size:
        try:
            at = os.lseek(file.fileno(), at, os.SEEK_DATA) // BLOCK * BLOCK
        except OSError:  # only a hole is left
            return
        data = os.pread(file.fileno(), BLOCK, at)
        if data != empty[: len(data)]:
            yield at, data
        at += BLOCK
