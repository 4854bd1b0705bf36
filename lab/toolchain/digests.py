"""Digests of what the cache holds: taken when an entry is built, compared when its content is in doubt.

They stand beside the entries, in ``digests/KIND.KEY.json``: a damaged entry must not vouch for itself.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from lab.files import write_atomically

FOLDER = "digests"
CHUNK = 1 << 20

_sound: dict[Path, tuple[int, ...]] = {}
"""What this process has found to be as it was built, and when it had been changed last by then."""


def note(root: Path, kind: str, key: str, content: Path) -> None:
    """Store the digests of all that is in the folder ``content``, which becomes the entry ``kind/key``."""
    names = sorted(path for path in content.rglob("*") if path.is_symlink() or path.is_file())
    file = _file(root, kind, key)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps({str(path.relative_to(content)): digest(path) for path in names}))


def damaged(root: Path, paths: Iterable[Path], *, trust_times: bool = False) -> dict[Path, str]:
    """Return the entries in the cache ``root`` that hold one of these files with other content than was built, and why.

    A path that is a folder stands for all files of its entry. What is not in the cache, or was built before there were digests,
    cannot be doubted here. With ``trust_times`` a file that this process has found sound is read again only if its size or its
    time of change is another one.
    """
    found: dict[Path, str] = {}
    for path in paths:
        if not path.is_relative_to(root) or len(parts := path.relative_to(root).parts) < 2:
            continue
        entry = root / parts[0] / parts[1]
        noted = _noted(root, parts[0], parts[1])
        names = [str(path.relative_to(entry))] if path != entry else list(noted)
        for name in names:
            if name not in noted or (trust_times and _is_unchanged(entry / name)):
                continue
            if why := _difference(entry / name, noted[name]):
                found.setdefault(entry, f"{entry / name} {why}")
    return found


def forget(root: Path, kind: str, key: str) -> None:
    """Remove the digests of an entry that is removed."""
    _file(root, kind, key).unlink(missing_ok=True)


def digest(path: Path) -> str:
    """Return the SHA-256 over a file's chunks that are not zero, with their offsets; or the target of a symbolic link."""
    if path.is_symlink():
        return f"-> {path.readlink()}"
    found = sha256()
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        at = 0
        while at < size:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA) & -CHUNK  # holes are skipped by whole chunks
            except OSError:  # nothing but a hole is left
                break
            data = os.pread(file.fileno(), CHUNK, at)
            if data.count(0) < len(data):  # zeros that are stored are the same as a hole
                found.update(at.to_bytes(8, "little") + data)
            at += CHUNK
        found.update(size.to_bytes(8, "little"))
    return found.hexdigest()


def _difference(path: Path, noted: str) -> str:
    try:
        before = _times(path)
        if digest(path) != noted:
            return "has other content than was built"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    _sound[path] = before
    return ""


def _is_unchanged(path: Path) -> bool:
    try:
        return path in _sound and _sound[path] == _times(path)
    except OSError:
        return False


def _times(path: Path) -> tuple[int, ...]:
    status = path.lstat()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _noted(root: Path, kind: str, key: str) -> dict[str, str]:
    try:
        noted: dict[str, str] = json.loads(_file(root, kind, key).read_text())
    except (OSError, ValueError):
        return {}
    return noted


def _file(root: Path, kind: str, key: str) -> Path:
    return root / FOLDER / f"{kind}.{key}.json"
