"""Versions of a driver: their order, ranges of them, and the manifest of one of them.

A version is a label such as ``2022.11`` or ``6.1-rt``: numbers count as numbers, and words come after the version without them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from typing import Any

SEPARATOR = "@"
"""Between a driver's name and a version: ``edk2@2020.11``."""
TO = ".."
"""Between the first and the last version of a range; either may be left out."""
NEWEST = "newest"
"""Stands for the last version of a driver's table."""
_PARTS = re.compile(r"\d+|[a-zA-Z]+")
_RANGE = re.compile(r"(?P<first>[\w+~-]+(?:\.[\w+~-]+)*)?(?P<to>\.\.)?(?P<last>[\w+~-]+(?:\.[\w+~-]+)*)?")

Key = tuple[tuple[int, int, str], ...]


def order(version: str) -> Key:
    """Return a sort key of a version."""
    return tuple((1, int(part), "") if part.isdigit() else (0, 0, part) for part in _PARTS.findall(version))


def split(name: str) -> tuple[str, str]:
    """Return a driver's own name and its version, "" where it has none."""
    driver, _, version = name.partition(SEPARATOR)
    return driver, version


def is_range(text: str) -> bool:
    """Return whether a text is a range or a version (the form that `matches` reads)."""
    found = _RANGE.fullmatch(text)
    return found is not None and any(found.groups())


def matches(version: str, wanted: str) -> bool:
    """Return whether a version is in a range: ``2022.11``, ``2022.11..``, ``..2025.02``, ``1.14..1.16``.

    A bound holds all versions that begin with it: ``..1.16`` holds 1.16.3. An unknown version ("") is in every range.
    """
    if not version or not wanted:
        return True
    first, to, last = wanted.partition(TO)
    at = order(version)
    if not to:
        bound = order(first)
        return at[: len(bound)] == bound
    return (not first or at >= order(first)) and (not last or at[: len(order(last))] <= order(last))


def select(table: Iterable[str], wanted: str) -> list[str]:
    """Return the versions that a user names, in their order: one, a pattern (``*``), a range, or ``newest``."""
    versions = sorted(table, key=order)
    if wanted == NEWEST:
        return versions[-1:]
    if wanted in versions:
        return [wanted]
    if TO in wanted:
        return [version for version in versions if matches(version, wanted)]
    return [version for version in versions if fnmatch(version, wanted)]


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return tables with others over them; tables are merged, all else is replaced."""
    found = dict(base)
    for key, value in over.items():
        before = found.get(key)
        found[key] = merged(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return found
