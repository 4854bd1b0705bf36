"""Legal ways to pass the time while the system sleeps."""

from __future__ import annotations

from lab.reference.controller import Controller
from lab.variants.variant import variant


@variant(
    "reset/sleeps-enabled",
    allowed='Base 2.0, 8.15 "Power Management": a controller that keeps its power may stay enabled while the system sleeps',
    scenarios=("reset/sleep",),
)
class SleepsEnabled(Controller):
    """Lets the controller be while the system sleeps."""

    def sleep(self) -> None:
        """Leave the controller as it is."""

    def wake(self) -> None:
        """Go on with it."""


@variant(
    "reset/never-rests",
    allowed='Base 2.0, 8.15 "Power Management": the host selects a power state where it wants to; a shutdown saves power too',
    scenarios=("reset/sleep-refused",),
)
class NeverRests(Controller):
    """Shuts the controller down whenever the system sleeps."""

    def rest(self) -> bool:
        """Use no power state."""
        return False
