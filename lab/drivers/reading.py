"""From a driver's output to the contract's fields, as a manifest says it. Pure, and faithful: nothing is corrected here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from lab.data import patterns
from lab.data.manifest import ActionSyntax, Listing, Reading
from lab.data.patterns import Match
from lab.data.plan import Status

TEXT = frozenset({
    "serial", "model", "firmware", "address", "version", "uuid", "nguid", "eui64", "controller", "name", "refused",
    "first_error", "log",
})  # fmt: skip
"""Fields that stay text even when they look like numbers."""

MOST_DIGITS = 130
"""Of a number in an answer: more than 128 bits need in any base."""

_BYTES = re.compile(r"(?:[0-9a-fA-F]{2})+")
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|\d+")
_DUMPED = re.compile(r"^[ \t]*(?:0x)?[0-9a-fA-F]+:[ \t]+(.*?)(?:  |$)", re.MULTILINE)


def fields(reading: Reading, output: str) -> dict[str, Any]:
    """Return all fields that the output holds."""
    found: dict[str, Any] = {}
    for pattern in filter(None, (reading.pattern, *reading.patterns)):
        if match := patterns.search(pattern, output):
            found |= _groups(reading, match)
    for field, pattern in reading.truths.items():
        found[field] = patterns.search(pattern, output) is not None
    for field, names in reading.flags.items():
        shown = {name: match for name, pattern in names.items() if (match := patterns.search(pattern, output))}
        if shown:  # else the driver says nothing of them, which is not a no
            found[field] = [name for name, match in shown.items() if not match.groups() or match[1] is not None]
            found[f"{field}_shown"] = list(shown)
    for field, listing in reading.lists.items():
        elements = _elements(listing, output)
        if elements or not isinstance(reading, Listing):  # a command that lists nothing says so; an element need not
            found[field] = elements
    return found


def status(words: ActionSyntax, output: str) -> Status:
    """Return what the output says of success: what is unsupported wins, then an error that matched, then no success."""
    if words.unsupported and patterns.search(words.unsupported, output):
        return "unsupported"
    if words.error and (match := patterns.search(words.error, output)):
        said = _groups(words, match)
        if isinstance(said.get("status"), int):  # without the phase tag: SC in bits 7:0, SCT in 10:8
            return {"sct": said["status"] >> 8 & 7, "sc": said["status"] & 0xFF}
        if isinstance(said.get("sc"), int) and isinstance(said.get("sct", 0), int):
            return {"sct": said.get("sct", 0), "sc": said["sc"]}
        return {"words": _line_at(output, match.start())}
    if words.success and not patterns.search(words.success, output):
        lines = output.strip().splitlines()
        return {"words": lines[-1] if lines else "(nothing)"}
    return "success"


def printed_object(output: str) -> dict[str, Any] | None:
    """Return the JSON object that is printed, with whatever before and behind it; None if there is none."""
    try:
        found = json.loads(output[output.index("{") : output.rindex("}") + 1])
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def dumped(form: str, output: str) -> bytes:
    """Return the bytes of a hex dump: u-boot's ``md`` (units of 1 to 8 bytes, little-endian) or ``xxd`` (bytes in order)."""
    little = form == "u-boot"
    units = [bytes.fromhex(unit) for match in _DUMPED.finditer(output) for unit in match[1].split() if _BYTES.fullmatch(unit)]
    return b"".join(unit[::-1] if little else unit for unit in units)


def without_echo(output: str, command: str) -> str:
    """Return the output without the command that the guest echoed, however its terminal has wrapped it."""
    position = 0
    for character in filter(lambda c: not c.isspace(), command):
        while output[position : position + 1].isspace():
            position += 1
        if output[position : position + 1] != character:
            return output
        position += 1
    return output[position:].lstrip(" ").removeprefix("\n")


def lost_part(shown: str, typed: str) -> bool:
    """Return whether a line that the guest shows is what was typed with some characters missing, and most of them there."""
    left = iter(typed)
    return len(typed) / 2 < len(shown) < len(typed) and all(character in left for character in shown)


def _elements(listing: Listing, output: str) -> list[dict[str, Any]]:
    starts = patterns.pattern(listing.each).find_all(output)
    ends = [*(start.start() for start in starts[1:]), len(output)]
    elements = [
        {**_groups(listing, start), **fields(listing, output[start.start() : end])}
        for start, end in zip(starts, ends, strict=False)
    ]
    for pattern in listing.beside:
        matches = patterns.pattern(pattern).find_all(output)
        if len(matches) == len(elements):  # else it is unknown what belongs to what
            for element, match in zip(elements, matches, strict=True):
                element |= _groups(listing, match)
    return elements


def _groups(reading: Reading, match: Match) -> dict[str, Any]:
    return dict(_converted(reading, match))


def _converted(reading: Reading, match: Match) -> Iterator[tuple[str, Any]]:
    for field, text in match.groupdict().items():
        if text is None:
            continue
        if field in reading.tables:
            yield field, reading.tables[field].get(text, text)
        elif field in reading.bases:
            yield field, _number(text, reading.bases[field])
        elif field not in TEXT and _NUMBER.fullmatch(text):
            yield field, _number(text, 16 if text[:2] in ("0x", "0X") else 10)
        else:
            yield field, text


def _number(text: str, base: int) -> int | str:
    """Return the number, or the text if it is none or has more digits than any field."""
    try:
        return int(text, base) if len(text) <= MOST_DIGITS else text
    except ValueError:
        return text


def _line_at(output: str, position: int) -> str:
    start = output.rfind("\n", 0, position) + 1
    return output[start:].partition("\n")[0].strip()
