"""What other packages bring, by entry points (docs/packages.md). A package is imported only when something of it is used.

nvme_lab.adapters     name = factory of an adapter            (`lab.drivers.registry`)
nvme_lab.drivers      name = path of a manifest               (`lab.drivers.registry`)
nvme_lab.behaviours   name = subclass of Behaviour            (`lab.controller.behaviour`)
nvme_lab.defects      any name = module that declares seeded defects or legal variants when it is imported (`lab.defects`)
nvme_lab.checks       any name = module that declares checks and scenarios when it is imported (`conformance.suite.selection`)
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from functools import cache
from hashlib import sha256
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from lab.errors import LabError, UsageError

ADAPTERS, DRIVERS = "nvme_lab.adapters", "nvme_lab.drivers"
BEHAVIOURS, CHECKS, DEFECTS = "nvme_lab.behaviours", "nvme_lab.checks", "nvme_lab.defects"
GROUPS = (ADAPTERS, DRIVERS, BEHAVIOURS, CHECKS, DEFECTS)


def names(group: str) -> list[str]:
    """Return what other packages provide of a kind, without importing them."""
    return list(_names(group, tuple(sys.path)))


@cache
def _names(group: str, _path: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of a kind where Python looks for packages: it reads files of all of them, and that takes time."""
    return tuple(sorted({point.name for point in entry_points(group=group)}))


def points(*groups: str) -> Iterator[EntryPoint]:
    """Return the entry points of these kinds, by name."""
    for group in groups:
        yield from sorted(entry_points(group=group), key=lambda point: point.name)


def load(group: str, name: str, what: str, fits: Callable[[Any], bool]) -> Any:
    """Return what stands behind a name, which must fit and is ``what`` in words.

    LabError that names the package where it cannot be imported or is something else, or where two have that name.
    """
    found = list(entry_points(group=group, name=name))
    if len(found) > 1:
        both = " and ".join(map(package, found))
        raise LabError(f"{both} both bring {name!r} in {group}.", remedy="uninstall one of them")
    loaded = imported(found[0])
    if not fits(loaded):
        raise broken(found[0], f"is not {what}, but {loaded!r}")
    return loaded


def imported(point: EntryPoint) -> Any:
    """Return what an entry point leads to; LabError that names the package if it leads nowhere."""
    try:
        return point.load()
    except Exception as error:  # anything can go wrong in another package's import, and the user must hear in which
        raise broken(point, f"cannot be imported: {error!r}") from error


def import_file(path: Path, where: str) -> ModuleType:
    """Import a Python file, once in this process however often it is named. ``where`` is the place that names it.

    UsageError that names file, place and reason where it cannot be imported.
    """
    name = f"nvme_lab_file_{sha256(str(path.resolve()).encode()).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    found = importlib.util.spec_from_file_location(name, path)
    if found is None or found.loader is None or not path.is_file():
        raise UsageError(f"{where}: there is no Python file {path}", remedy="write it, or correct the path")
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    try:
        found.loader.exec_module(module)
    except Exception as error:  # anything can go wrong in another one's file, and the user must hear in which
        del sys.modules[name]
        raise UsageError(f"{where}: {path} cannot be imported: {error!r}", remedy="correct that file") from error
    return module


def broken(point: EntryPoint, why: str) -> LabError:
    """Return the error for an unusable entry point."""
    return LabError(
        f"{package(point)}: {point.name!r} in {point.group} ({point.value}) {why}",
        remedy="repair that package, or uninstall it",
    )


def package(point: EntryPoint) -> str:
    """Return the distribution that an entry point belongs to, with its version."""
    return f"the package {point.dist.name} {point.dist.version}" if point.dist else "an unknown package"
