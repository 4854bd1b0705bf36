"""Drivers that bring the controller up correctly and then send commands of their own.

They break rules about fields, or show how close to a rule a legal driver may come.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from lab.defects.defect import PRACTICE, defect
from lab.nvme.commands import Command
from lab.reference.controller import LAST, Controller
from lab.reference.errors import DriverError

Make = Callable[[Controller], Sequence[Command]]
"""What a driver sends, once it is up."""

NEIGHBOURS: dict[str, type[Controller]] = {}
"""By a defect's id, the driver that does the nearest legal thing."""


class Sender(Controller):
    """The driver that sends something of its own, on the admin queue or on the first I/O queue."""

    io_queue = False
    together = False
    """All commands at once, with one doorbell."""

    def own(self) -> Sequence[Command]:
        """Return what is sent."""
        return ()

    def start(self, until: str = LAST) -> None:
        """Start as usual, and send `own` once the driver is all up; what the controller makes of it does not matter."""
        super().start(until)
        if until == LAST:
            pair = self.io[0] if self.io_queue else self.admin
            commands = self.own()
            for batch in [commands] if self.together else [[command] for command in commands]:
                with suppress(DriverError):
                    self.execution.run(pair, batch, retry=False)


def sends(
    id: str,
    mistake: str,
    make: Make,
    legal: Make | None,
    *,
    io: bool = False,
    together: bool = False,
    scenarios: tuple[str, ...] = ("admin-queue/basic",),
    source: str = PRACTICE,
) -> None:
    """Declare a defect by what it sends, and its legal neighbour if there is one that sends something."""
    defect(id, source=source, scenarios=scenarios)(_driver(id, mistake, make, io, together))
    if legal is not None:
        NEIGHBOURS[id] = _driver(id, "Does the nearest legal thing.", legal, io, together)


def _driver(id: str, what: str, make: Make, io: bool, together: bool) -> type[Controller]:
    def own(self: Controller) -> Sequence[Command]:
        return make(self)

    name = "".join(part.title() for part in id.replace(":", "-").replace("/", "-").split("-"))
    return type(name, (Sender,), {"__doc__": what, "io_queue": io, "together": together, "own": own})
