"""Legal peculiarities that show in what a machine says, and when."""

from __future__ import annotations

from lab.reference.controller import Controller
from lab.variants.variant import variant

START_SECONDS = 3.0


@variant(
    "bare-metal/slow-start",
    allowed="Base 2.0, 3.5.1: nothing limits the time between the start of a host and its initialisation of a controller",
    scenarios=("bare-metal/ready",),
)
class SlowStart(Controller):
    """Lets seconds pass between its first look at the controller and its use."""

    def detect(self) -> None:
        """Detect the controller, and wait."""
        super().detect()
        self.transport.sleep(START_SECONDS)
