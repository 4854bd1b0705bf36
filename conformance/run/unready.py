"""Guests that do not come to their driver, or cannot be set up for it: after two the rest of its scenarios are not recorded.

Each would cost its whole time-out, and tell the same. The workers of a machine know of each other by files in the results.
"""

from __future__ import annotations

from pathlib import Path

from lab.data.evidence import End
from lab.errors import NO_ACCESS, NOT_SET_UP

FOLDER = ".unready"
REACHED = "reached"
LIMIT = 2


class UnreadyGuests:
    """Counts the recordings of one driver whose guest was not ready, without any access to a register."""

    def __init__(self, out: Path, driver: str) -> None:
        """Use a folder of results; it need not be there yet."""
        self._folder = out / FOLDER / driver

    @staticmethod
    def is_unready(end: End | None) -> bool:
        """Return whether a recording ended so. It is not repeated: a second attempt ends like the first."""
        marks = (NO_ACCESS, NOT_SET_UP)
        return end is not None and end.outcome == "lab-error" and any(mark in end.reason for mark in marks)

    def note(self, scenario: str, end: End | None) -> None:
        """Take note of how a recording has ended. Once a driver was reached, it is not given up any more."""
        self._folder.mkdir(parents=True, exist_ok=True)
        if self.is_unready(end):
            assert end is not None
            (self._folder / scenario.replace("/", "+")).write_text(end.reason.splitlines()[0], encoding="utf-8")
        elif end is not None and end.outcome == "complete":
            (self._folder / REACHED).touch()

    def why_not(self) -> str:
        """Return why no more of the driver is to be recorded; "" if it is."""
        if not self._folder.is_dir() or (self._folder / REACHED).exists():
            return ""
        unready = sorted(self._folder.iterdir())
        if len(unready) < LIMIT:
            return ""
        names = " and ".join(path.name.replace("+", "/") for path in unready[:LIMIT])
        reason = unready[0].read_text(encoding="utf-8")
        if NOT_SET_UP in reason:
            return f"not recorded, after {names}: {reason}"
        return f"not recorded, for in {names} the guest was not ready and its driver accessed no register: {reason}"
