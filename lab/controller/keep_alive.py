"""The Keep Alive Timer. Base 2.0, 3.9 "Keep Alive", 5.27.1.12 "Keep Alive Timer"."""

from __future__ import annotations

from lab.controller.clock import Timer
from lab.controller.core import Core
from lab.controller.logs import Logs
from lab.nvme.status import Status

GRANULARITY = 100
"""Milliseconds of one unit of Identify Controller's KAS."""


class KeepAliveTimer:
    """One controller's. It runs while KATO is not 0; a Keep Alive command restarts it, and its end is fatal."""

    def __init__(self, core: Core, logs: Logs) -> None:
        """Begin with no timer running; `set` starts it."""
        self._core, self._logs = core, logs
        self._timer: Timer | None = None
        self.milliseconds = 0
        """KATO as it is in effect: rounded up to the controller's granularity; 0 where the timer is off."""

    def set(self, milliseconds: int) -> None:
        """Take KATO, and restart the timer."""
        unit = self._core.identity.KAS * GRANULARITY
        self.milliseconds = -(-milliseconds // unit) * unit if unit else 0
        self.restart()

    def restart(self) -> None:
        """Restart the timer, if it is on."""
        self._cancel()
        if self.milliseconds:
            self._timer = self._core.clock.after(self.milliseconds / 1000, self._expire)

    def forget(self) -> None:
        """Return to the state after a reset: the timer is off."""
        self._cancel()
        self.milliseconds = 0

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        """Stop the controller. Base 2.0, 3.9: it logs the error, stops processing commands and sets CSTS.CFS."""
        if self._core.running:
            self._logs.general_error(Status.KEEP_ALIVE_EXPIRED)
            self._core.fail(f"the Keep Alive Timer of {self.milliseconds} ms expired")
