"""Parsers of trace lines, compiled from the declarations that QEMU ships as ``trace-events-all``.

A declaration is one line, in the language of QEMU's tracetool::

    pci_nvme_map_addr(uint64_t addr, uint64_t len) "addr 0x%"PRIx64" len %"PRIu64""

The argument list names the values, the format string says how the log backend prints them. Names and formats drift from
version to version; nothing here is written by hand, so any version's file gives that version's parsers.
"""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lab.errors import LabError

Value = int | str

_DECLARATION = re.compile(r"(?:disable |vcpu )*(?P<name>\w+)\((?P<parameters>[^)]*)\)\s+(?P<format>\".*)")
_LITERAL_OR_MACRO = re.compile(r'"((?:[^"\\]|\\.)*)"|PRI([diuxX])\w+')
_CONVERSION = re.compile(r"%[-#0 +]*\d*(?:\.\d+)?(?:hh|ll|[hlzjt])?([diuxXpsc%])")
_VALUES = {
    **dict.fromkeys("diu", r"(-?\d+)"),
    **dict.fromkeys("xX", r"([0-9a-fA-F]+)"),
    "p": r"(0x[0-9a-f]+|\(nil\))",
    "s": r"(.*?)",
    "c": r"(.)",
}
_HEXADECIMAL = "xXp"
_TEXT = "sc"


@dataclass(frozen=True)
class TraceLine:
    """One line of the trace: when (seconds, host clock), which event, and its values by their declared names."""

    t: float
    name: str
    args: Mapping[str, Value]


@dataclass(frozen=True)
class Declaration:
    """One trace event: its name, its parameters' names, and the format its values are printed with (macros resolved)."""

    name: str
    parameters: tuple[str, ...]
    format: str

    @classmethod
    def of(cls, line: str) -> Declaration | None:
        """Return the declaration on a line of ``trace-events-all``; None if there is none on it."""
        match = _DECLARATION.match(line)
        if match is None:
            return None
        pieces = _LITERAL_OR_MACRO.findall(match["format"])
        text = "".join(re.sub(r"\\(.)", r"\1", literal) + macro for literal, macro in pieces)
        declared = match["parameters"].strip()
        names = () if declared in ("", "void") else tuple(re.split(r"[\s*]+", part)[-1] for part in declared.split(","))
        return cls(match["name"], names, text)

    def values(self, text: str) -> dict[str, Value] | None:
        """Return the values in what follows the event's name on a line; None if it does not fit the format."""
        match = self._pattern.fullmatch(text)
        if match is None:
            return None
        return {
            name: value if kind in _TEXT else _number(value, kind)
            for name, kind, value in zip(self.parameters, self._kinds, match.groups(), strict=True)
        }

    @cached_property
    def _kinds(self) -> str:
        return "".join(kind for kind in _CONVERSION.findall(self.format) if kind != "%")

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        if len(self._kinds) != len(self.parameters):
            raise LabError(f"The trace event {self.name} declares {len(self.parameters)} values and prints {len(self._kinds)}.")
        parts, end = [], 0
        for conversion in _CONVERSION.finditer(self.format):
            parts.append(re.escape(self.format[end : conversion.start()]))
            parts.append(_VALUES.get(conversion[1], "%"))
            end = conversion.end()
        parts.append(re.escape(self.format[end:]))
        return re.compile("".join(parts), re.DOTALL)


class Declarations:
    """The parsers for the trace events of one QEMU."""

    def __init__(self, declarations: Iterable[Declaration]) -> None:
        """Take the declarations of one QEMU."""
        self.by_name = {declaration.name: declaration for declaration in declarations}
        self._second, self._epoch = "", 0

    @classmethod
    def load(cls, path: Path, wanted: Iterable[str]) -> Declarations:
        """Load the events whose names match a pattern of ``wanted`` (``pci_nvme_*``) from QEMU's ``trace-events-all``."""
        names = re.compile("|".join(re.escape(pattern).replace(r"\*", r"\w*") for pattern in wanted))
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise LabError(
                f"QEMU's trace declarations {path} cannot be read: {error.strerror}",
                remedy="install the package with QEMU's data (qemu-system-common or qemu-system-data)",
            ) from error
        found = [d for line in lines if (d := Declaration.of(line)) is not None and names.fullmatch(d.name)]
        if not found:
            raise LabError(f"{path} declares none of the trace events {', '.join(wanted)}.")
        return cls(found)

    def parse(self, line: str) -> TraceLine | None:
        """Return a line of the log backend under ``-msg timestamp=on``; None if no declaration explains it.

        The stamp is the host's wall clock in µs: ``2026-11-20T09:24:32.615902Z NAME TEXT`` as 11.1 prints it (UTC), or
        ``PID@SECONDS.MICROSECONDS:NAME TEXT`` as 7.2 does.
        """
        if line[4:5] == "-":
            stamp, _, rest = line.partition(" ")
        else:
            stamp, _, rest = line.partition(":")
        name, _, text = rest.partition(" ")
        declaration = self.by_name.get(name)
        if declaration is None:
            return None
        t = self._time(stamp)
        args = declaration.values(text)
        return None if t is None or args is None else TraceLine(t, name, args)

    def _time(self, stamp: str) -> float | None:
        try:
            if "@" in stamp:
                return float(stamp.partition("@")[2])
            second = stamp[:19]
            if second != self._second:  # thousands of lines share one
                self._epoch = calendar.timegm(time.strptime(second, "%Y-%m-%dT%H:%M:%S"))
                self._second = second
            return self._epoch + float(stamp[19:].rstrip("Z") or 0)  # a whole second has no fraction
        except ValueError:
            return None


def _number(text: str, kind: str) -> int:
    return 0 if text == "(nil)" else int(text, 16 if kind in _HEXADECIMAL else 10)
