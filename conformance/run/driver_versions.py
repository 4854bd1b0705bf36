"""What exactly a driver is: its version, and where its manifest stands, so that a result says what has qualified."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from lab.data.manifest import DriverManifest
from lab.drivers import SEEDABLE, shipped
from lab.version import lab_version

GIT_SECONDS = 10
PACKAGE = re.compile(r"\{([^{}]+)\}")
"""In a manifest's version: a package of the toolchain, as ``{linux-kernel/linux-image-*}``, for its version."""


def driver_version(manifest: DriverManifest, versions: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the version of a driver: as its manifest says, the commit of the manifest's repository, or "" if unknown.

    ``versions`` are the toolchain's.
    """
    if manifest.version:
        return PACKAGE.sub(lambda found: _package(found[1], versions), manifest.version).strip()
    if manifest.adapter in SEEDABLE:
        return lab_version()
    return "" if is_shipped(manifest) else _commit(manifest.folder)


def is_shipped(manifest: DriverManifest) -> bool:
    """Return whether the manifest is one of the lab's own."""
    return manifest.path.absolute() in {Path(path).absolute() for path in shipped().values()}


def named(manifest: DriverManifest) -> str:
    """Return what --driver takes for this driver: its name, or its manifest's path relative to the working folder."""
    if is_shipped(manifest):
        return manifest.name
    return str(_relative(manifest.path.absolute(), Path.cwd()))


def source(manifest: DriverManifest) -> str:
    """Return the manifest's path in its repository, or from the working folder; "" for one of the lab's own."""
    if is_shipped(manifest):
        return ""
    path = manifest.path.absolute()
    root = next((folder for folder in path.parents if (folder / ".git").exists()), Path.cwd())
    found = _relative(path, root)
    return "" if found.is_absolute() else str(found)


def lines_of(manifest: DriverManifest) -> Mapping[str, int]:
    """Return where the manifest says what: ``claims``, and each known check's id → line, counted from 1."""
    try:
        text = manifest.path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    found: dict[str, int] = {}
    for number, line in enumerate(text, 1):
        if re.match(r"(stages|name)\s*=", line):
            found["claims"] = number  # the stages stand behind the name
        elif entry := re.match(r"""check\s*=\s*["']([^"']+)["']""", line.strip()):
            found.setdefault(entry[1], number)
    return found


def _package(pattern: str, versions: Mapping[str, Mapping[str, Any]]) -> str:
    found = (str(facts.get("version", "")) for name, facts in versions.items() if fnmatchcase(name, pattern))
    return next(found, "")


def _relative(path: Path, base: Path) -> Path:
    return path.relative_to(base) if path.is_relative_to(base) else path


def _commit(folder: Path) -> str:
    """Return the commit of the repository that a folder belongs to, "-dirty" behind it if it was changed; "" without one."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--tags", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
