"""From a driver's output to the contract's fields, as a manifest says it. Pure, and faithful: nothing is corrected here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from lab.data.manifest import ActionSyntax, Listing, Reading
from lab.data.plan import Status

TEXT = frozenset({
    "serial", "model", "firmware", "address", "version", "uuid", "nguid", "eui64", "controller", "name", "refused",
    "first_error", "log",
})  # fmt: skip
"""Fields that stay text even when they look like numbers."""

_NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|\d+")
_DUMPED = re.compile(r"^[ \t]*(?:0x)?[0-9a-fA-F]+:[ \t]+(.*?)(?:  |$)", re.MULTILINE)


def fields(reading: Reading, output: str) -> dict[str, Any]:
    """Return all fields that the output holds."""
    found: dict[str, Any] = {}
    for pattern in filter(None, (reading.pattern, *reading.patterns)):
        if match := re.search(pattern, output, re.MULTILINE):
            found |= _groups(reading, match)
    for field, pattern in reading.truths.items():
        found[field] = re.search(pattern, output, re.MULTILINE) is not None
    for field, names in reading.flags.items():
        shown = {name: match for name, pattern in names.items() if (match := re.search(pattern, output, re.MULTILINE))}
        if shown:  # else the driver says nothing of them, which is not a no
            found[field] = [name for name, match in shown.items() if not match.re.groups or match[1] is not None]
            found[f"{field}_shown"] = list(shown)
    for field, listing in reading.lists.items():
        elements = _elements(listing, output)
        if elements or not isinstance(reading, Listing):  # a command that lists nothing says so; an element need not
            found[field] = elements
    return found


def status(words: ActionSyntax, output: str) -> Status:
    """Return what the output says of success: an error that matched wins, then a success that did not."""
    if words.error and (match := re.search(words.error, output, re.MULTILINE)):
        said = _groups(words, match)
        if "status" in said:  # the completion's status field without the phase tag: SC in bits 7:0, SCT in 10:8
            return {"sct": said["status"] >> 8 & 7, "sc": said["status"] & 0xFF}
        if "sc" in said:
            return {"sct": said.get("sct", 0), "sc": said["sc"]}
        return {"words": _line_at(output, match.start())}
    if words.success and not re.search(words.success, output, re.MULTILINE):
        lines = output.strip().splitlines()
        return {"words": lines[-1] if lines else "(nothing)"}
    return "success"


def printed_object(output: str) -> dict[str, Any] | None:
    """Return the JSON object that is printed, with whatever before and behind it; None if there is none."""
    try:
        found = json.loads(output[output.index("{") : output.rindex("}") + 1])
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def dumped(form: str, output: str) -> bytes:
    """Return the bytes of a hex dump: u-boot's ``md`` (units of 1 to 8 bytes, little-endian) or ``xxd`` (bytes in order)."""
    little = form == "u-boot"
    units = [bytes.fromhex(unit) for match in _DUMPED.finditer(output) for unit in match[1].split()]
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


def _elements(listing: Listing, output: str) -> list[dict[str, Any]]:
    starts = list(re.finditer(listing.each, output, re.MULTILINE))
    ends = [*(start.start() for start in starts[1:]), len(output)]
    elements = [
        {**_groups(listing, start), **fields(listing, output[start.start() : end])}
        for start, end in zip(starts, ends, strict=False)
    ]
    for pattern in listing.beside:
        matches = list(re.finditer(pattern, output, re.MULTILINE))
        if len(matches) == len(elements):  # else it is unknown what belongs to what
            for element, match in zip(elements, matches, strict=True):
                element |= _groups(listing, match)
    return elements


def _groups(reading: Reading, match: re.Match[str]) -> dict[str, Any]:
    return dict(_converted(reading, match))


def _converted(reading: Reading, match: re.Match[str]) -> Iterator[tuple[str, Any]]:
    for field, text in match.groupdict().items():
        if text is None:
            continue
        if field in reading.tables:
            yield field, reading.tables[field].get(text, text)
        elif field in reading.bases:
            yield field, int(text, reading.bases[field])
        elif field not in TEXT and _NUMBER.fullmatch(text):
            yield field, int(text, 16) if text[:2] in ("0x", "0X") else int(text)
        else:
            yield field, text


def _line_at(output: str, position: int) -> str:
    start = output.rfind("\n", 0, position) + 1
    return output[start:].partition("\n")[0].strip()
