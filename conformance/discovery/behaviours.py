"""How a sweep uses each behaviour of the programmable controller: where it can strike, and what may be judged afterwards.

A mandatory failure must be the driver's fault. So every behaviour says how far the device is still one that the specification
allows, and only that is judged (`Effect`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

PlaceKind = Literal["command", "read", "write", "enable", "disable", "shutdown", "start"]
"""What a fault strikes: a command, a read or write of BAR0, CC.EN=1, CC.EN=0, CC.SHN, or the device from the start."""

NOT_ABORTED: Mapping[str, Any] = {"sc": 0, "dw0": 1}
"""The answer to an Abort that aborted nothing. Base 2.0, 5.1."""
SLOW_MS = 50
"""How late a slow device is: far less than any time-out."""


RECOVERY = ("unload", "load", "read")
"""What a driver is asked at the end, where it can be: on a device that is in order again it must work."""


class Effect(Enum):
    """What a fault makes of the device, and so what of the driver is judged."""

    LEGAL = "a conformant device: everything is judged as without the fault"
    FAILURE = "a device that fails: the driver may report errors, and everything else is judged"
    WIRE_LIE = "completions that cannot be: panics, missing answers, and the data that a successful answer stands for"
    DATA_LIE = "wrong data or registers that no driver can detect: panics and missing answers"
    # Never used: what makes the device write to memory that the driver did not give it, such as another doorbell or queue.


@dataclass(frozen=True)
class Use:
    """One behaviour in a sweep: ``arguments`` are tried one after the other."""

    at: tuple[PlaceKind, ...]
    effect: Effect
    arguments: tuple[Mapping[str, Any], ...] = ({},)
    with_data: bool = False  # only commands that return data
    moving: bool = False  # only commands that move data in either direction
    lasts: bool = False  # the device stays like that: nothing can recover
    special: Mapping[str, tuple[Mapping[str, Any], ...]] = field(default_factory=dict)  # further arguments at one command

    def arguments_at(self, command: str) -> tuple[Mapping[str, Any], ...]:
        """Return what is tried at a command of this name."""
        return (*self.arguments, *self.special.get(command, ()))


_COMMAND: tuple[PlaceKind, ...] = ("command",)
_ANYWHERE: tuple[PlaceKind, ...] = ("command", "read", "write")

USES: Mapping[str, Use] = {
    # commands
    "delay": Use(_COMMAND, Effect.LEGAL, ({"ms": SLOW_MS},)),
    "out-of-order": Use(_COMMAND, Effect.LEGAL),
    "drop": Use(_COMMAND, Effect.FAILURE),
    "status": Use(_COMMAND, Effect.FAILURE, ({"sc": 6}, {"sc": 6, "dnr": 1}), special={"Abort": (NOT_ABORTED,)}),
    "completion-status": Use(_COMMAND, Effect.FAILURE, ({"sc": 6, "dnr": 1},)),
    "no-interrupt": Use(_COMMAND, Effect.FAILURE),
    "dma-refused": Use(_COMMAND, Effect.FAILURE, moving=True),
    "wrong-phase": Use(_COMMAND, Effect.WIRE_LIE),
    "wrong-cid": Use(_COMMAND, Effect.WIRE_LIE),
    "wrong-sqid": Use(_COMMAND, Effect.WIRE_LIE),
    "wrong-sqhd": Use(_COMMAND, Effect.WIRE_LIE),
    "duplicate": Use(_COMMAND, Effect.WIRE_LIE),
    "corrupt": Use(_COMMAND, Effect.DATA_LIE, ({"length": 1}, {"length": 4096}), with_data=True),
    "replace": Use(_COMMAND, Effect.DATA_LIE, ({"hex": "00" * 4096}, {"hex": "ff" * 4096}), with_data=True),
    # the controller, at a command or an access
    "fatal": Use(_ANYWHERE, Effect.FAILURE),
    "ready-drops": Use(_ANYWHERE, Effect.FAILURE),
    "bus-master-off": Use(_ANYWHERE, Effect.FAILURE),
    "removed": Use(_ANYWHERE, Effect.FAILURE, ({"config": False},), lasts=True),
    "spurious-interrupt": Use(_ANYWHERE, Effect.FAILURE, ({"vector": 0}, {"vector": 1})),
    "register-value": Use(("read",), Effect.DATA_LIE, ({}, {"value": 0})),
    # enabling, disabling, shutdown
    "never-ready": Use(("enable",), Effect.FAILURE),
    "slow-ready": Use(("enable",), Effect.LEGAL, ({"ms": SLOW_MS},)),
    "late-ready": Use(("enable",), Effect.LEGAL),
    "fatal-at-enable": Use(("enable",), Effect.FAILURE),
    "slow-disable": Use(("disable",), Effect.LEGAL, ({"ms": SLOW_MS},)),
    "ones-after-disable": Use(("disable",), Effect.FAILURE),
    "new-firmware": Use(("disable",), Effect.LEGAL, ({"identify": {"MDTS": 1}}, {"cap": {}, "identify": {"MDTS": 1}})),
    "slow-shutdown": Use(("shutdown",), Effect.LEGAL, ({"ms": SLOW_MS},)),
    # from the start
    "stuck-ready": Use(("start",), Effect.FAILURE, lasts=True),
    "unchanged-doorbell": Use(("start",), Effect.LEGAL),
    "msix-reserved": Use(("start",), Effect.LEGAL),
    "enable-ignored": Use(("start",), Effect.LEGAL),
    "dword-only": Use(("start",), Effect.LEGAL),
    "earlier-owner": Use(("start",), Effect.FAILURE, ({}, {"state": "shutting-down"}, {"state": "shut-down"})),
}
"""Behaviour → its use."""

FUZZED: Mapping[str, Use] = {**USES, "edit-completion": Use(_COMMAND, Effect.DATA_LIE)}
"""What fuzzing uses: it also edits results and statuses of completions, but never says which command they end."""

LEFT_OUT: Mapping[str, str] = {
    "hold": "without a release it is drop",
    "gather": "a delay of the last command",
    "paused": "a delay with a bit in CSTS that means something only after the event of a firmware activation",
    "aer-refused": "status strikes Asynchronous Event Requests too",
    "late-abort": "delay strikes Abort too, and pairs strike it after a lost command",
    "log-delayed": "delay strikes Get Log Page too",
    "queue-count-zero": "replace and status strike the command that it is about",
    "must-never-come": "a trap for the checks of one scenario",
    "verify": "a trap for the checks of one scenario",
    "edit-submission": "it executes another command than the driver sent: whatever follows is not the driver's doing",
    "edit-completion": "it needs fields of one command; fuzzing edits completions",
}
"""Behaviours that a sweep does not use, and why not."""
