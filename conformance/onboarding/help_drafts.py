"""Actions drafted from what a guest prints about its own commands."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

ACTIONS: Mapping[str, str] = {
    "load": r"load|start|scan|probe|init", "info": r"info|version|caps?", "ready": r"ready|status",
    "identify": r"identify|id|detail", "list": r"list|ls|disks?|namespaces", "rescan": r"rescan",
    "queues": r"queues?", "read": r"read", "write": r"write", "flush": r"flush|sync", "trim": r"trim|discard",
    "zeroes": r"zeroes|write-zeroes", "smart": r"smart|health|log", "reset": r"reset", "shutdown": r"shutdown",
    "unload": r"unload|stop|remove", "noop": r"noop|nop",
}  # fmt: skip
"""Actions, and the words by which commands like them are called."""
PREFIX = "nvme"
"""Of the commands of a driver among others."""
ARGUMENTS: Mapping[str, str] = {
    "nsid": "nsid", "ns": "nsid", "namespace": "nsid", "device": "index", "disk": "index", "dev": "index", "lba": "lba",
    "block": "lba", "blk": "lba", "sector": "lba", "slba": "lba", "blocks": "blocks", "count": "blocks", "cnt": "blocks",
    "sectors": "blocks", "n": "blocks", "address": "address", "addr": "address", "buffer": "address",
}  # fmt: skip
"""What arguments are called, and the lab's names for them."""
MOST = 200
"""Lines of help that are looked at."""
_LINE = re.compile(rf"^\s*(?P<command>(?:{PREFIX}[ -]?)?[a-z][a-z-]*)\b(?P<rest>.*)$", re.IGNORECASE)


def drafts(said: str) -> Iterator[tuple[str, str]]:
    """Yield actions and the commands for them, each action once, in the order of the lab's list."""
    found: dict[str, str] = {}
    for line in said.splitlines()[:MOST]:
        match = _LINE.match(line)
        if match is None:
            continue
        word = re.sub(rf"^{PREFIX}[ -]?", "", match["command"].lower()) or match["command"].lower()
        action = next((name for name, words in ACTIONS.items() if re.fullmatch(words, word)), None)
        if action is not None:
            found.setdefault(action, match["command"] + _arguments(match["rest"]))
    for action in ACTIONS:
        if action in found:
            yield action, found[action]


def _arguments(rest: str) -> str:
    """Return the placeholders for the arguments that a line of help names, before its description."""
    shown = re.split(r"\s+[-:–]\s+|\s{2,}\S+\s\S+\s|\t", rest, maxsplit=1)[0]
    words = re.findall(r"[<\[{]?([A-Za-z_]+)[>\]}]?", shown)
    names = [ARGUMENTS.get(word.lower()) for word in words]
    return "".join(f" {{{name}}}" for name in names if name)
