"""Files that tests make and unpack."""

from __future__ import annotations

import os
import shlex
import sys
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

OURS = Path(__file__).parents[1] / ".pytest_cache"


@contextmanager
def executable_folder(temporary: Path) -> Iterator[Path]:
    """Yield ``temporary``, or a folder of the project where that is mounted noexec, where no program and no library runs."""
    probe = temporary / "probe"
    probe.touch(0o755)
    executable = os.access(probe, os.X_OK)
    probe.unlink()
    if executable:
        yield temporary
        return
    OURS.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=OURS) as folder:
        yield Path(folder)


def python_program(path: Path, *arguments: str) -> None:
    """Write a program that runs Python with these arguments and its own. No ``#!`` line takes a path of Python with spaces."""
    path.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, *arguments])} "$@"\n')
    path.chmod(0o755)


def extract(archive: Path, folder: Path, wanted: Iterable[str] = ("",)) -> None:
    """Extract the members of a tar archive whose names contain one of ``wanted``, with the safe filter if Python has it."""
    with tarfile.open(archive) as tar:
        tar.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.4 and newer
        tar.extractall(folder, (member for member in tar if any(part in member.name for part in wanted)))
