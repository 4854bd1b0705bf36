"""Guests that do not come to their driver: after two of a driver the rest of its scenarios are not recorded.

Each would cost its whole time-out, and tell the same. The workers of a machine know of each other by files in the results.
"""

from __future__ import annotations

from pathlib import Path

from lab.data.evidence import End
from lab.errors import NO_ACCESS

FOLDER = ".unready"
REACHED = "reached"
LIMIT = 2


class UnreadyGuests:
    """Counts the recordings of one driver whose guest was not ready and whose driver accessed no register."""

    def __init__(self, out: Path, driver: str) -> None:
        """Use a folder of results; it need not be there yet."""
        self._folder = out / FOLDER / driver

    @staticmethod
    def is_unready(end: End | None) -> bool:
        """Return whether a recording ended so. It is not repeated: a second attempt ends like the first."""
        return end is not None and end.outcome == "lab-error" and NO_ACCESS in end.reason

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
        return (
            f"not recorded, for in {names} the guest was not ready and its driver accessed no register: "
            f"{unready[0].read_text(encoding='utf-8')}"
        )
