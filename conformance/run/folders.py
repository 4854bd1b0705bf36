"""Folders of results: ``nvme-lab-results/<UTC time>`` with a ``latest`` link beside it, or the folder that the user names.

results.json   junit.xml   summary.md
journal.jsonl   run.json            what was judged so far, and what was selected, to resume an unfinished run
evidence/DRIVER/DEVICE/SCENARIO/
failed/DRIVER/DEVICE/SCENARIO/     what was recorded before the lab failed, where the second attempt is judged
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

from conformance.judging.models import FILE
from lab.errors import LabError, UsageError

RESULTS = "nvme-lab-results"
LATEST = "latest"
EVIDENCE, FAILED = "evidence", "failed"
JOURNAL = "journal.jsonl"
LOCK = ".lock"
NEWEST_KEPT = 10
"""Results under `RESULTS` that outlive the next run, unless all are kept."""
_STAMP = re.compile(r"\d{8}T\d{6}Z(-\d+)?")


def default_folder(parent: Path) -> Path:
    """Return a new name under ``parent``/nvme-lab-results."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    return next(folder for folder in _numbered(parent / RESULTS / stamp) if not folder.exists())


def shell_folder(parent: Path) -> Path:
    """Return a new name beside the results for a recording of ``nvme-lab shell``: it is no result and is never pruned."""
    folder = default_folder(parent)
    return next(place for place in _numbered(folder.with_name(f"shell-{folder.name}")) if not place.exists())


def shown(path: Path) -> Path:
    """Return the path relative to the working folder if it is below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def prepare_folder(folder: Path) -> Path:
    """Make the folder and lock it; UsageError if it holds results already. A default folder becomes the ``latest``."""
    folder = folder.absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"The folder {folder} cannot be made: {error.strerror}.", remedy="choose another with --out"
        ) from error
    lock_folder(folder)
    if (folder / FILE).exists() or (folder / EVIDENCE).exists() or (folder / JOURNAL).exists():
        raise UsageError(
            f"{folder} holds results already.",
            remedy="remove it, choose another folder with --out, or go on with an unfinished run: nvme-lab run --resume FOLDER",
        )
    if folder.parent.name == RESULTS and _STAMP.fullmatch(folder.name):
        link, fresh = folder.parent / LATEST, folder.parent / f".{folder.name}"
        with suppress(OSError):  # a file system without links has no latest
            fresh.symlink_to(folder.name)
            fresh.replace(link)
    return folder


def lock_folder(folder: Path) -> None:
    """Lock a folder of results until this process ends; UsageError if another run writes to it."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UsageError(
            f"Another nvme-lab run writes to {folder}.", remedy="wait for its end, or choose another folder with --out"
        ) from None
    except OSError as error:
        raise UsageError(
            f"The folder {folder} cannot be used: {error.strerror}.", remedy="choose another with --out"
        ) from error


def _in_use(folder: Path) -> bool:
    """Return whether a run writes to the folder."""
    try:
        with (folder / LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def prune(folder: Path, newest: int = NEWEST_KEPT) -> list[Path]:
    """Remove all but the newest results beside ``folder``, if it is a default folder; return the removed ones."""
    if folder.parent.name != RESULTS or not _STAMP.fullmatch(folder.name):
        return []
    finished = [old for old in folder.parent.iterdir() if _STAMP.fullmatch(old.name) and old != folder and not _in_use(old)]
    gone = sorted(finished, key=lambda old: old.name, reverse=True)[newest:]
    for old in gone:
        shutil.rmtree(old, ignore_errors=True)
    return gone


CONFIRMATION = "confirmation"
"""In the folder of results: the fresh recordings of scenarios with new failures."""


def evidence_folder(out: Path, name: str) -> Path:
    """Return the folder for the evidence of a recording. Remains of a failed attempt move to ``failed``."""
    folder = out / EVIDENCE / name
    if folder.exists():
        aside = next(place for place in _numbered(out / FAILED / name) if not place.exists())
        aside.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(aside)
    return folder


def _numbered(folder: Path) -> Iterator[Path]:
    yield folder
    for number in count(2):
        yield folder.with_name(f"{folder.name}-{number}")


def check_free(folder: Path, need: int) -> None:
    """Raise LabError when less than ``need`` bytes are free where ``folder`` is."""
    free = shutil.disk_usage(folder).free
    if free < need:
        raise LabError(
            f"The disk that holds {folder} has {free >> 20} MiB free, and evidence needs some {need >> 20} MiB.",
            remedy="free some space, or choose another folder with --out",
        )
