"""Defects around sleep and power."""

from __future__ import annotations

from lab.defects.defect import defect
from lab.reference.controller import Controller


@defect("reset/back:stays-asleep", scenarios=("reset/sleep", "reset/sleep-lent"))
class StaysAsleep(Controller):
    """Shuts the controller down before the system sleeps, and forgets to bring it up again."""

    def wake(self) -> None:
        """Take the controller for what it was before."""
        self.stage = self._before_sleep
