"""Ends an action of a driver that runs in the lab's own process and does not come back."""

from __future__ import annotations

from collections.abc import Callable

SPINS = 10_000
"""Reads of registers or rings in a row with nothing else in between, which a driver needs only while it waits for something."""
READ_SECONDS = 0.001
"""Each further read takes so long, so that neither the driver nor its record is busy with what comes to nothing."""
STILL_SECONDS = 3.0
"""It reads on for so long after that, so that its record shows a standstill."""
READS_PER_LOOK = 16
"""Reads in a row after which the time is looked at: a look takes longer than a read."""


class Hung(BaseException):
    """The driver is still at it. No error of the driver's own, so that it does not take it for one."""


class Watchdog:
    """Looked at by a transport at each of the driver's steps; ``now`` is the clock by which the driver waits."""

    def __init__(self, now: Callable[[], float], wait: Callable[[float], object]) -> None:
        """Begin with no limit; ``now`` returns the time in seconds, ``wait`` lets so many of them go by."""
        self._now, self._wait = now, wait
        self._until = float("inf")
        self._reads = 0
        self._since = 0.0  # when it had done nothing but read for SPINS reads

    def start(self, seconds: float) -> None:
        """Give the driver so many seconds from now on."""
        self._until = self._now() + seconds
        self._reads = 0

    def step(self) -> None:
        """Count a wait or register write of the driver. Raises Hung."""
        self._reads = 0
        if self._now() > self._until:
            raise Hung

    def read(self) -> None:
        """Count a read of a register or a ring by the driver. Raises Hung."""
        self._reads += 1
        if self._reads % READS_PER_LOOK:
            return
        now = self._now()
        if self._reads <= SPINS:
            self._since = now
        else:
            self._wait(READ_SECONDS * READS_PER_LOOK)
        if now > self._until or now - self._since > STILL_SECONDS:
            raise Hung
