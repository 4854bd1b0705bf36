"""Why a check matters, and pseudo-code of the wrong and the right way: the table of `guidance.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from conformance.suite.check import Check

FILE = Path(__file__).with_name("guidance.toml")
KINDS = {
    "shall": "The specification obliges hosts to it: a controller may rely on it, and what it does otherwise is undefined.",
    "should": "The specification recommends it to hosts: controllers are tested with hosts that do so.",
    "integrity": "A driver that breaks this rule reads or writes other data than its caller asked for.",
    "safety": "A driver that breaks this rule may hang, crash, or let a device into memory that is not the driver's.",
    "practice": "No section obliges hosts to it: it is what well-kept drivers do.",
}
"""Why a check is what it is (`Check.why`), where nothing more special is known."""


@dataclass(frozen=True)
class Guidance:
    """What a driver's author is told beside the rule; "" where there is no pseudo-code."""

    matters: str
    wrong: str = ""
    right: str = ""


def guidance(check: Check) -> Guidance:
    """Return the guidance of a check: its own, or that of its kind."""
    own = table().get(check.id)
    return own or Guidance(KINDS.get(check.why, KINDS["practice"]))


@cache
def table() -> Mapping[str, Guidance]:
    """Return check → guidance, as the file has it."""
    found = tomllib.loads(FILE.read_text(encoding="utf-8"))
    return {check: Guidance(**{key: text.strip("\n") for key, text in entry.items()}) for check, entry in found.items()}
