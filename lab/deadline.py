"""One deadline for a whole wait, however many steps it has."""

from __future__ import annotations

import time
from collections.abc import Callable

MOST_GIVEN_BACK = 2
"""How many times its seconds a deadline is moved on at most, so that a wait ends on any machine."""


class Deadline:
    """A moment ``seconds`` from now on the monotonic clock, moved on by time that does not count."""

    def __init__(self, seconds: float, lost: Callable[[], float] | None = None) -> None:
        """``lost`` returns the seconds, in all, in which what is waited for did not get the processor."""
        self.seconds = seconds
        self._lost = lost or (lambda: 0.0)
        self._lost_before = self._lost()
        self._end = time.monotonic() + seconds

    def remaining(self) -> float:
        """Return the seconds that are left, never below 0; more may come while time is lost."""
        given_back = min(self._lost() - self._lost_before, MOST_GIVEN_BACK * self.seconds)
        return max(0.0, self._end + given_back - time.monotonic())

    @property
    def expired(self) -> bool:
        """Return whether no time is left."""
        return self.remaining() == 0.0
