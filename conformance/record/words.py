"""How findings speak: values of the record in plain words, never as Python prints them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from lab.nvme.status import Status

NOTHING = "nothing"
NONE_OF_THEM = "none"
MOST_SHOWN = 8
"""Of a long list, how many a finding names."""
PYTHON = re.compile(
    r"\b(None|True|False)\b|[{}\[\]]|\b(frozenset|dict|set|tuple|deque|Counter|range)\(|<[a-zA-Z_.]+ object"
    r"|\bb['\"]|<[A-Z]\w*\.\w+: |\b(Outcome|Psdt|Cns|Fid|Lid|Status|Select|Transfer|PrpProblem)\.[A-Z]"
)
"""What no finding may hold: constants, displays, calls, objects, bytes and members of enumerations, as Python prints them."""


def words(value: Any) -> str:
    """Return a value in words: of nothing, yes and no, lists, statuses and tables too."""
    if value is None or value == "":
        return NOTHING if value is None else ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return status_words(value)
    if isinstance(value, list | tuple | set | frozenset | range):
        return listed(value)
    return str(value)


def listed(values: Iterable[Any], most: int = sys.maxsize) -> str:
    """Return values one after the other, "none" if there are none; of more than ``most`` the first, and how many more."""
    shown = list(values)
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return (", ".join(words(value) for value in shown[:most]) or NONE_OF_THEM) + more


def status_words(value: Mapping[str, Any]) -> str:
    """Return a driver's answer status, or any other table, in words."""
    if "words" in value:
        return f"an error: {value['words']}"
    if "sc" in value:
        code = int(value.get("sct") or 0) << 8 | int(value["sc"])
        known = code in Status._value2member_map_
        return f"status {code:#05x}" + (f", {Status(code).text}" if known else "")
    return ", ".join(f"{name} {words(held)}" for name, held in value.items()) or NONE_OF_THEM
