"""How long a guest has done nothing: printed nothing, and hardly used a processor."""

from __future__ import annotations

import time
from contextlib import suppress

from lab.guest.machine import Machine

LEAST_SHARE = 0.1
"""Of one processor: a system that waits for its timer uses less, one that spins or works uses more."""
LOOK_SECONDS = 0.5


class IdleWatch:
    """Watches one guest from its making on; ask for `seconds` again and again."""

    def __init__(self, machine: Machine) -> None:
        """Begin now."""
        self._machine = machine
        self._since = self._looked = time.monotonic()
        self._used, self._printed = self._now()

    @property
    def seconds(self) -> float:
        """How long it has been idle by now."""
        now = time.monotonic()
        if now - self._looked >= LOOK_SECONDS:
            used, printed = self._now()
            if printed != self._printed or used - self._used > LEAST_SHARE * (now - self._looked):
                self._since = now
            self._used, self._printed, self._looked = used, printed, now
        return now - self._since

    def _now(self) -> tuple[float, int]:
        """Return processor seconds used, and bytes printed."""
        printed = 0
        for path in (self._machine.console.log, *self._machine.outputs.values()):
            with suppress(OSError):
                printed += path.stat().st_size
        return self._machine.process.processor_seconds(), printed
