"""A guest that does not come to its driver, or cannot be set up for it: after one, no other scenario of it is recorded.

Each would cost its whole time-out, and show the same. Where the machine was too slow for the guest to be run in order, a
second one decides. The workers of a machine know of each other by files in the results: until one guest was reached, there
is one guest at a time, so that a driver that never answers costs one time-out, of a guest that has the machine to itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lab.data.evidence import End
from lab.errors import NO_ACCESS, NOT_SET_UP
from lab.recording.turns import exclusive

FOLDER = ".unready"
REACHED = "reached"
LOCK = "lock"
SLOW = ".slow"
"""How the file of a guest ends that a slow machine may have kept from being ready."""
LIMIT = 2
"""Guests at most, of which each but the last was on a slow machine."""


class UnreadyGuests:
    """Counts the recordings of one driver whose guest was not ready, without any access to a register."""

    def __init__(self, out: Path, driver: str) -> None:
        """Use a folder of results; it need not be there yet."""
        self._folder = out / FOLDER / driver

    @contextmanager
    def turn(self) -> Iterator[Callable[[], None]]:
        """Wait until the driver was reached, or no other worker of this machine is about to.

        Yields what to call as soon as it is reached: others need not wait for the end of the recording.
        """
        with ExitStack() as held:

            def reached() -> None:
                self._reached.touch()
                held.close()

            self._folder.mkdir(parents=True, exist_ok=True)
            if not self._reached.exists():
                held.enter_context(exclusive(self._folder / LOCK))
                if self._reached.exists():
                    held.close()
            yield reached

    @property
    def _reached(self) -> Path:
        return self._folder / REACHED

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
            slow = end.machine is not None and bool(end.machine.trouble or end.machine.starvation)
            name = scenario.replace("/", "+") + (SLOW if slow else "")
            (self._folder / name).write_text(end.reason.splitlines()[0], encoding="utf-8")
        elif end is not None and end.outcome == "complete":
            self._reached.touch()

    def why_not(self) -> str:
        """Return why no more of the driver is to be recorded; "" if it is."""
        if not self._folder.is_dir() or self._reached.exists():
            return ""
        found = (path for path in self._folder.iterdir() if path.name != LOCK)
        unready = sorted(found, key=lambda path: (path.name.endswith(SLOW), path.name))
        if len(unready) < LIMIT and all(path.name.endswith(SLOW) for path in unready):
            return ""
        name = unready[0].name.removesuffix(SLOW).replace("+", "/")
        reason = unready[0].read_text(encoding="utf-8")
        if NOT_SET_UP in reason:
            return f"not recorded, after {name}: {reason}"
        return f"not recorded, for in {name} the guest was not ready and its driver accessed no register"
