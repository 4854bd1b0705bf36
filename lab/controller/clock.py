"""The device's time: what is due when. In process it can be moved on, so that nobody has to wait for it."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable


class Timer:
    """Something that is due, until it is cancelled."""

    def __init__(self, due: float, action: Callable[[], None]) -> None:
        self.due = due
        self._action: Callable[[], None] | None = action

    def cancel(self) -> None:
        self._action = None

    def fire(self) -> None:
        action, self._action = self._action, None
        if action is not None:
            action()

    @property
    def live(self) -> bool:
        return self._action is not None


class Clock:
    """Seconds since the epoch that never go back, and the timers that wait for them."""

    def __init__(self) -> None:
        self._offset = time.time() - time.perf_counter()
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()

    def now(self) -> float:
        return time.perf_counter() + self._offset

    def after(self, seconds: float, action: Callable[[], None]) -> Timer:
        """Calls ``action`` in so many seconds, out of `run`."""
        timer = Timer(self.now() + seconds, action)
        heapq.heappush(self._timers, (timer.due, next(self._numbers), timer))
        return timer

    def next_due(self) -> float | None:
        """Seconds until the next timer, 0 if it is overdue; None if there is none."""
        while self._timers and not self._timers[0][2].live:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0][0] - self.now()) if self._timers else None

    def run(self) -> bool:
        """Fires all that is due; whether there was anything."""
        fired = False
        while self.next_due() == 0.0:
            heapq.heappop(self._timers)[2].fire()
            fired = True
        return fired

    def advance(self, seconds: float) -> None:
        """Moves time on by so much, firing what becomes due at its own moment."""
        end = self.now() + seconds
        while (due := self.next_due()) is not None and (due == 0.0 or self.now() + due <= end):
            self._offset += due
            self.run()
        self._offset += max(0.0, end - self.now())
