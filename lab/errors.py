"""What can go wrong, as the people who must act on it will read it.

Every error is one sentence about what happened and, where there is one, a second about what to do. The class decides
the exit status of ``nvme-lab``; nothing else is read from it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LabError(Exception):
    """The lab itself failed (exit status 2): never the fault of the driver under test."""

    exit_status = 2

    def __init__(self, what: str, *, remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what}\n  remedy: {self.remedy}" if self.remedy else self.what


class UsageError(LabError):
    """What the user gave cannot be used (exit status 4): a manifest, an option, a name."""

    exit_status = 4


class GuestError(LabError):
    """The guest or its QEMU did not do what was waited for; carries the last output as ``last``."""

    def __init__(self, what: str, *, last: str = "", remedy: str = "") -> None:
        super().__init__(what, remedy=remedy)
        self.last = last


class GuestDiedError(GuestError):
    """QEMU exited, or the guest panicked, while something else was waited for."""


class GuestPanicError(GuestDiedError):
    """The guest's own words say that it has died (kernel panic, firmware exception)."""


class GuestTimeoutError(GuestError):
    """The deadline passed; the message says what was waited for and what came last."""


class QmpError(LabError):
    """QEMU refused a QMP command; ``error_class`` is QMP's own (``GenericError``, ``DeviceNotFound``, …)."""

    def __init__(self, what: str, error_class: str) -> None:
        super().__init__(what)
        self.error_class = error_class


LISTED_NAMES = 40
"""The most names that an error lists."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return the end of an error's sentence: "; did you mean 'x'?", and the valid names if there are few of them."""
    valid = sorted(valid)
    close = difflib.get_close_matches(name, valid, 1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    if len(valid) > LISTED_NAMES:
        return hint
    return f"{hint} (there are: {', '.join(valid)})"
