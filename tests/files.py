"""Files that tests make and unpack."""

from __future__ import annotations

import shlex
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path


def python_program(path: Path, *arguments: str) -> None:
    """Write a program that runs Python with these arguments and its own. No ``#!`` line takes a path of Python with spaces."""
    path.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, *arguments])} "$@"\n')
    path.chmod(0o755)


def extract(archive: Path, folder: Path, wanted: Iterable[str] = ("",)) -> None:
    """Extract the members of a tar archive whose names contain one of ``wanted``, with the safe filter if Python has it."""
    with tarfile.open(archive) as tar:
        tar.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.4 and newer
        tar.extractall(folder, (member for member in tar if any(part in member.name for part in wanted)))
