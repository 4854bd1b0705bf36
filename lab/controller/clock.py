"""The device's time and its timers. In process the time can be advanced, so that no time is spent waiting."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable


class Timer:
    """A call that is due at a time, until it is cancelled."""

    def __init__(self, due: float, action: Callable[[], None]) -> None:
        """Create a timer; ``due`` is in seconds since the epoch."""
        self.due = due
        self._action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Make sure that the call is not made; nothing happens if it was."""
        self._action = None

    def fire(self) -> None:
        """Make the call, once."""
        action, self._action = self._action, None
        if action is not None:
            action()

    @property
    def live(self) -> bool:
        """Whether the call is still due."""
        return self._action is not None


class Clock:
    """Seconds since the epoch that never go back, and the timers that wait for them."""

    def __init__(self) -> None:
        """Begin at the machine's time."""
        self._offset = time.time() - time.perf_counter()
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()

    def now(self) -> float:
        """Return the seconds since the epoch."""
        return time.perf_counter() + self._offset

    def after(self, seconds: float, action: Callable[[], None]) -> Timer:
        """Call ``action`` in so many seconds, out of `run`, `wait` or `advance`."""
        timer = Timer(self.now() + seconds, action)
        heapq.heappush(self._timers, (timer.due, next(self._numbers), timer))
        return timer

    def next_due(self) -> float | None:
        """Return the seconds until the next timer, 0 if it is overdue; None if there is none."""
        timer = self._next()
        return max(0.0, timer.due - self.now()) if timer else None

    def run(self) -> bool:
        """Fire all timers that are due; return whether there was one."""
        return self._fire(self.now())

    def wait(self, seconds: float) -> bool:
        """Advance the time to the next timer, by ``seconds`` at most; return whether a timer was due."""
        timer, end = self._next(), self.now() + seconds
        self._move(timer.due if timer and timer.due <= end else end)
        return timer is not None and not timer.live

    def advance(self, seconds: float) -> None:
        """Advance the time by so much and fire each timer at its own moment."""
        end = self.now() + seconds
        while (timer := self._next()) and timer.due <= end:
            self._move(timer.due)
        self._move(end)

    def _next(self) -> Timer | None:
        while self._timers and not self._timers[0][2].live:
            heapq.heappop(self._timers)
        return self._timers[0][2] if self._timers else None

    def _move(self, to: float) -> None:
        """Advance to that moment and fire what is due, also where floating point is too coarse to reach it exactly."""
        self._offset += max(0.0, to - self.now())
        self._fire(to)

    def _fire(self, until: float) -> bool:
        fired = False
        while (timer := self._next()) and timer.due <= max(until, self.now()):
            heapq.heappop(self._timers)
            timer.fire()
            fired = True
        return fired
