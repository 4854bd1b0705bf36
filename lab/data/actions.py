"""The arguments of each action, as data: what a scenario file may say, and what it must.

What the actions mean is in docs/drivers.md, "Actions and answers". Arguments in brackets may be left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_BLOCKS = "nsid lba blocks [controller]"

_ARGUMENTS: Mapping[str, str] = {
    # of the driver
    "load": "[until]",
    "info": "",
    "ready": "",
    "identify": "",
    "list": "[until blocks]",
    "queues": "",
    "noop": "nsid [controller]",
    "read": f"{_BLOCKS} [offset polled parts]",
    "write": f"{_BLOCKS} fill [offset fua parts]",
    "write-bytes": "nsid lba at length fill [controller]",
    "flush": "nsid [controller]",
    "zeroes": _BLOCKS,
    "clear": f"{_BLOCKS} fill",
    "trim": _BLOCKS,
    "mount": "nsid file filesystem [controller]",
    "rescan": "",
    "reset": "",
    "raw": "queue opcode [nsid]",
    "shutdown": "[halt]",
    "suspend": "[state]",
    "reset-function": "",
    "reset-subsystem": "",
    "host-memory": "lent",
    "unload": "",
    "load-mix": f"{_BLOCKS} jobs depth operations seed [gathered]",
    "load-polled": "",
    "load-fio": "nsid blocks depth operations [controller]",
    "load-ring": f"{_BLOCKS} operations scheduler [first_ms step_ms]",
    "get-feature": "feature",
    "set-feature": "feature value [save]",
    "smart": "[errors]",
    "format": "nsid format [controller]",
    "passthrough": "steps [unprivileged signal_ms mounted]",
    "file-reads": "nsid count bytes",
    "submit": f"{_BLOCKS} [each fill pairs]",
    "collect": "",
    "save": "[during]",
    "restore": "",
    "hand-over": "",
    "zones": "nsid [controller]",
    "zone": "nsid operation [lba controller]",
    "zone-append": f"{_BLOCKS} fill",
    # of the lab
    "fault": "name armed",
    "attach": "nsid [controller]",
    "detach": "nsid [controller quiet]",
    "warn": "warning [controller]",
    "resize": "nsid blocks [controller]",
    "reformat": "nsid format [controller]",
    "plug": "",
    "unplug": "",
    "cut-power": "",
    "release": "name [count]",
    "bus-error": "kind",
    "inspect": _BLOCKS,
}

_TYPES: Mapping[str, Any] = {
    "until": str | list[int], "controller": str, "file": str, "filesystem": str, "queue": str, "scheduler": str,
    "during": str, "name": str, "operation": str,
    "state": str, "kind": str, "fua": bool, "save": bool, "errors": bool, "unprivileged": bool, "armed": bool, "quiet": bool,
    "halt": bool, "polled": bool, "lent": bool, "steps": list[dict[str, Any]],
}  # fmt: skip
"""Types of arguments; of all others: a number."""


@dataclass(frozen=True)
class Argument:
    """One argument of an action."""

    name: str
    kind: Any
    required: bool


def _parsed(text: str) -> Mapping[str, Argument]:
    found, required = {}, True
    for word in text.split():
        required = required and not word.startswith("[")
        name = word.strip("[]")
        found[name] = Argument(name, _TYPES.get(name, int), required)
        required = required or word.endswith("]")
    return found


ARGUMENTS: Mapping[str, Mapping[str, Argument]] = {action: _parsed(text) for action, text in _ARGUMENTS.items()}
"""Action → name → argument: every action of drivers (`lab.data.manifest.ACTIONS`) and of the lab (`lab.device.changes`)."""
