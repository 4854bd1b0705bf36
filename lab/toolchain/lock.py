"""The lock file: which version of each package, by SHA-256, the lab was last tried with.

Mirrors drop old versions. So the lock is what is wanted, not what must be: where the mirror no longer has it the
closure is resolved again with a warning, unless the user asked for ``--locked``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

from images.recipe import RECIPES, Closure
from lab.errors import LabError
from lab.files import write_atomically
from lab.toolchain.apt import NATIVE, Package

LOCK_FILE = RECIPES.parent / "lock.json"
_SCHEMA = 1
_TREE = 2
"""Counts the ways in which trees have been unpacked and proven; those of older labs are not taken for this one's."""


def request(closure: Closure) -> str:
    """Return an identity of the request, so that a lock made for another recipe is not mistaken for this one's."""
    asked: list[object] = [closure.suites, closure.packages, closure.newest, closure.keep, closure.drop]
    if closure.architecture != NATIVE:
        asked.append(closure.architecture)
    return sha256(json.dumps(asked).encode()).hexdigest()[:16]


def content_key(closure: Closure, packages: Iterable[Package]) -> str:
    """Identify the unpacked tree: the packages' bytes, what is left out of them, and what was proven of it."""
    content = [sorted(p.sha256 for p in packages), closure.exclude, closure.files, closure.base, _TREE]
    return sha256(json.dumps(content).encode()).hexdigest()[:32]


def read(file: Path, name: str, closure: Closure) -> tuple[Package, ...] | None:
    """Return the locked packages of a closure; None where the file has none for this request."""
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text())
        if content["schema"] != _SCHEMA:
            raise LabError(f"The lock file {file} has schema {content['schema']}, this lab reads {_SCHEMA}.")
        entry = content["closures"].get(name)
        if entry is None or entry["request"] != request(closure):
            return None
        return tuple(sorted(Package(name=package, **facts) for package, facts in entry["packages"].items()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LabError(f"The lock file {file} cannot be read: {error!r}.", remedy="restore it, or delete it") from error


def write(file: Path, closures: Mapping[str, tuple[Closure, Iterable[Package]]]) -> None:
    """Replace the entries of these closures and leave the others; the file is replaced as a whole or not at all."""
    old = json.loads(file.read_text())["closures"] if file.is_file() else {}
    new = {name: {"request": request(c), "packages": _table(packages)} for name, (c, packages) in closures.items()}
    write_atomically(file, json.dumps({"schema": _SCHEMA, "closures": {**old, **new}}, indent=1, sort_keys=True) + "\n")


def _table(packages: Iterable[Package]) -> dict[str, dict[str, object]]:
    return {p.name: {k: v for k, v in asdict(p).items() if k != "name"} for p in packages}
