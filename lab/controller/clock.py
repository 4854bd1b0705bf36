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
        timer = self._next()
        return max(0.0, timer.due - self.now()) if timer else None

    def run(self) -> bool:
        """Fires all that is due; whether there was anything."""
        return self._fire(self.now())

    def wait(self, seconds: float) -> bool:
        """Moves time on to what is due next, at most by ``seconds``; whether anything was due."""
        timer, end = self._next(), self.now() + seconds
        self._move(timer.due if timer and timer.due <= end else end)
        return timer is not None and not timer.live

    def advance(self, seconds: float) -> None:
        """Moves time on by so much, firing what becomes due at its own moment."""
        end = self.now() + seconds
        while (timer := self._next()) and timer.due <= end:
            self._move(timer.due)
        self._move(end)

    def _next(self) -> Timer | None:
        while self._timers and not self._timers[0][2].live:
            heapq.heappop(self._timers)
        return self._timers[0][2] if self._timers else None

    def _move(self, to: float) -> None:
        """Fires what is due at that moment, also where seconds since the epoch are too coarse to reach it exactly."""
        self._offset += max(0.0, to - self.now())
        self._fire(to)

    def _fire(self, until: float) -> bool:
        fired = False
        while (timer := self._next()) and timer.due <= max(until, self.now()):
            heapq.heappop(self._timers)
            timer.fire()
            fired = True
        return fired
