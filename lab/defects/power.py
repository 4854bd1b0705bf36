"""Defects around sleep and power."""

from __future__ import annotations

from contextlib import suppress

from lab.defects.defect import defect
from lab.nvme.features import Fid
from lab.reference.controller import Controller
from lab.reference.errors import CommandFailed


@defect("reset/back:stays-asleep", scenarios=("reset/sleep", "reset/sleep-lent"))
class StaysAsleep(Controller):
    """Shuts the controller down before the system sleeps, and forgets to bring it up again."""

    def wake(self) -> None:
        """Take the controller for what it was before."""
        self.stage = self._before_sleep


@defect(
    "reset/power-back:keeps-resting",
    source="Linux: nvme_resume() calls nvme_try_sched_reset() for a controller that is live, which does nothing",
    scenarios=("reset/sleep-refused",),
)
class KeepsResting(Controller):
    """Leaves a controller that refuses its power state after a sleep as it is, and uses it."""

    def rouse(self) -> None:
        """Try to select the power state, and go on where that fails."""
        with suppress(CommandFailed):
            self.features.set(Fid.POWER_MANAGEMENT, self._power_awake)
