"""SHA256SUMS: digests of a result's files, by which a result can be verified and signed.

It lists the results, reports and end markers of recordings; each end marker holds the digests of its recording
(`lab.data.seal`). ``sha256sum -c SHA256SUMS`` reads it, too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from lab.data.evidence import Evidence, evidence_folders
from lab.data.seal import open_inside
from lab.errors import LabError
from lab.files import write_atomically

FILE = "SHA256SUMS"
LISTED = frozenset({"results.json", "junit.xml", "summary.md", "run.json", "journal.jsonl", "end.json"})


def write_manifest(folder: Path) -> Path:
    """Write the digests of a folder of results; return the file."""
    path = folder / FILE
    lines = [f"{_digest(folder, name)}  {name}\n" for name in _names(folder)]
    try:
        write_atomically(path, "".join(lines))
    except OSError as error:
        raise LabError(f"{path} cannot be written: {error.strerror}.", remedy="free some space") from error
    return path


def verify(folder: Path) -> Iterator[str]:
    """Yield what in a folder of results is not as it was written, a sentence each. LabError if it has no manifest."""
    listed = _read(folder)
    there = set(_names(folder))
    for name in sorted(there | listed.keys()):
        if name not in there:
            yield f"{name} is missing"
        elif name not in listed:
            yield f"{name} was added"
        else:
            try:
                if _digest(folder, name) != listed[name]:
                    yield f"{name} is not what was written"
            except LabError as error:
                yield error.what
    for recording in evidence_folders(folder):
        try:
            Evidence(recording).check()
        except LabError as error:
            yield error.what


def _names(folder: Path) -> list[str]:
    found = (path for path in folder.rglob("*") if path.name in LISTED and (path.is_file() or path.is_symlink()))
    return sorted(str(path.relative_to(folder)) for path in found)


def _digest(folder: Path, name: str) -> str:
    with open_inside(folder, name) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(folder: Path) -> dict[str, str]:
    try:
        with open_inside(folder, FILE) as file:
            lines = file.read().decode(errors="replace").splitlines()
    except LabError as error:
        raise LabError(f"{folder} cannot be verified: {error.what}.", remedy="name a finished result of this lab") from error
    entries = (line.partition("  ") for line in lines if line)
    return {name: digest for digest, _, name in entries}
