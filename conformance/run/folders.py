"""Folders of results: ``nvme-lab-results/<UTC time>`` with a ``latest`` link beside it, or the folder that the user names.

results.json   junit.xml   summary.md
evidence/DRIVER/DEVICE/SCENARIO/
failed/DRIVER/DEVICE/SCENARIO/     what was recorded before the lab failed, where the second attempt is judged
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from conformance.judging.models import FILE
from lab.errors import LabError, UsageError

RESULTS = "nvme-lab-results"
LATEST = "latest"
EVIDENCE, FAILED = "evidence", "failed"
NEWEST_KEPT = 10
"""Results under `RESULTS` that outlive the next run, unless it is told to keep all."""
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
    """Make the folder; UsageError if it holds results already. A default folder becomes the ``latest``."""
    folder = folder.absolute()
    if (folder / FILE).exists() or (folder / EVIDENCE).exists():
        raise UsageError(f"{folder} holds results already.", remedy="remove it, or choose another folder with --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if folder.parent.name == RESULTS and _STAMP.fullmatch(folder.name):
            link, fresh = folder.parent / LATEST, folder.parent / f".{folder.name}"
            fresh.symlink_to(folder.name)
            fresh.replace(link)
    except OSError as error:
        raise UsageError(
            f"The folder {folder} cannot be made: {error.strerror}.", remedy="choose another with --out"
        ) from error
    return folder


def prune(folder: Path, newest: int = NEWEST_KEPT) -> list[Path]:
    """Remove all but the newest results beside ``folder``, if it is a default folder; return the removed ones."""
    if folder.parent.name != RESULTS or not _STAMP.fullmatch(folder.name):
        return []
    finished = [old for old in folder.parent.iterdir() if _STAMP.fullmatch(old.name) and old != folder]
    gone = sorted(finished, key=lambda old: old.name, reverse=True)[newest:]
    for old in gone:
        shutil.rmtree(old, ignore_errors=True)
    return gone


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
