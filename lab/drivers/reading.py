"""From a driver's output to the contract's fields, as a manifest says it. Pure, and faithful: nothing is corrected here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from difflib import SequenceMatcher
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

LEAST_ECHO = 3
"""Characters of a line that is told from others by its echo."""
ALIKE = 0.8
"""How alike (0 to 1) two lines are of which one is taken for the other's echo with an error in it."""
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


def holds_in_order(text: str, wanted: str) -> bool:
    """Return whether all characters of a line come in a text, in their order, with whatever between them."""
    left = iter(text)
    return all(character in left for character in _letters(wanted))


def lost_part(shown: str, typed: str) -> bool:
    """Return whether a line that the guest shows is what was typed with some characters missing: its beginning, or most."""
    one, other = _letters(shown), _letters(typed)
    most = len(one) > len(other) / 2 or (len(one) > 1 and other.startswith(one))
    return most and len(one) < len(other) and holds_in_order(other, one)


def has_doubles(shown: str, typed: str) -> bool:
    """Return whether a line that the guest shows is what was typed with some characters shown more than once."""
    one, other = _letters(shown), _letters(typed)
    return len(one) > len(other) and _squeezed(one) == _squeezed(other)


def misheard(shown: str, typed: str, *, has_echoed: bool) -> bool:
    """Return whether the first line of an answer is the echo of another line than was typed.

    ``has_echoed``: the guest is known to echo, so that any line much like it is one. Something printed in between is no error.
    """
    one, other = _letters(shown), _letters(typed)
    if one == other or len(other) < LEAST_ECHO:
        return False
    if has_doubles(shown, typed) or (lost_part(shown, typed) and (has_echoed or len(one) > len(other) / 2)):
        return True
    return has_echoed and not holds_in_order(one, other) and SequenceMatcher(None, one, other, autojunk=False).ratio() >= ALIKE


def _letters(text: str) -> str:
    return "".join(text.split())


def _squeezed(text: str) -> str:
    return re.sub(r"(.)\1+", r"\1", text)


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
