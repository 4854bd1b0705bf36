"""What can go wrong, as the people who must act on it will read it.

Every error is one sentence about what happened and, where there is one, a second about what to do. The class decides
the exit status of ``nvme-lab``; nothing else is read from it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

LISTED_NAMES = 40
"""Names that an error lists at most."""

REMEDY = "\n  remedy: "
"""Between what happened and what to do, in the text of an error."""


class LabError(Exception):
    """The lab itself failed (exit status 2): never the fault of the driver under test."""

    exit_status = 2

    def __init__(self, what: str, *, remedy: str = "") -> None:
        """Say what happened, and what to do about it."""
        super().__init__(what)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        """Return what happened and, in a second line, the remedy."""
        return f"{self.what}{REMEDY}{self.remedy}" if self.remedy else self.what


class UsageError(LabError):
    """What the user gave cannot be used (exit status 4): a manifest, an option, a name."""

    exit_status = 4


class GuestError(LabError):
    """The guest or its QEMU did not do what was waited for; carries the last output as ``last``."""

    def __init__(self, what: str, *, last: str = "", remedy: str = "") -> None:
        """Say what happened; ``last`` is the last output."""
        super().__init__(what, remedy=remedy)
        self.last = last


class GuestDiedError(GuestError):
    """QEMU exited, or the guest panicked, while something else was waited for."""


class GuestPanicError(GuestDiedError):
    """The guest's own words say that it has died (kernel panic, firmware exception)."""


class GuestTimeoutError(GuestError):
    """The deadline passed; the message says what was waited for and what came last."""


NO_ACCESS = "Its driver has accessed no register."
"""In the words of a GuestNotReadyError: the driver may not have been reached at all."""
NOT_SET_UP = "The guest cannot be set up for its driver:"
"""In the words of a GuestNotReadyError: a second guest would be none either."""


class GuestNotReadyError(GuestError):
    """The guest did not show that it is ready, and nothing says that its driver is to blame."""


class QmpError(LabError):
    """QEMU refused a QMP command; ``error_class`` is QMP's own (``GenericError``, ``DeviceNotFound``, …)."""

    def __init__(self, what: str, error_class: str) -> None:
        """Say what was refused; ``error_class`` is QMP's."""
        super().__init__(what)
        self.error_class = error_class


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return the end of a sentence about an unknown name: `; did you mean 'x'?` and the choice, if that is short."""
    valid = sorted(valid)
    by_lower = {one.lower(): one for one in valid}
    close = [by_lower[one] for one in difflib.get_close_matches(name.lower(), by_lower, 1)]
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return hint if len(valid) > LISTED_NAMES else f"{hint} (there are: {', '.join(valid)})"


def describe_invalid(error: Mapping[str, Any], keys_at: Callable[[Sequence[str]], Iterable[str]] | None = None) -> str:
    """Turn one of pydantic's errors into a sentence about a key; ``keys_at`` returns the valid keys of a table."""
    where = [str(part) for part in error["loc"]]
    key = ".".join(where)
    if error["type"] == "extra_forbidden":
        return f"{key}: unknown key" + (nearest(where[-1], keys_at(where[:-1])) if keys_at else "")
    if error["type"] == "missing":
        return f"{key}: this key is required"
    value = repr(error.get("input"))
    return f"{key}: {error['msg'].removeprefix('Value error, ')}, but it is {value if len(value) <= 200 else value[:200] + '…'}"
