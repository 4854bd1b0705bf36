"""Operations: what a caller submits, and what it gets back."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any

from lab.nvme.commands import Flush, LbaCommand
from lab.reference.errors import DriverError
from lab.reference.namespace import Namespace
from lab.reference.transport import Memory

PHYSICAL = 1
"""The lowest bit of an address: it is a physical (bus) address, which the device uses directly, without a copy."""
CLASSES = 4
"""Priority classes: urgent, high, medium, low. Base 2.0, 3.4.4 "Command Arbitration"."""
URGENT, HIGH, MEDIUM, LOW = range(CLASSES)


@dataclass(slots=True, eq=False)
class Operation:
    """A read, a write or a flush.

    ``address`` says where the data is. With its lowest bit set it is a bus address of DMA memory from `IoRing.allocate`; else
    it is an address in a buffer from `IoRing.register`, and the driver copies.
    """

    kind: type[LbaCommand] | type[Flush]
    namespace: Namespace
    lba: int = 0
    blocks: int = 0
    address: int = 0
    user_data: Any = None
    """Returned with the result, unchanged."""
    cpu: int = 0
    """The CPU that submits it, for the scheduler ``cpuaffinity``."""
    priority: int = MEDIUM
    deadline: float = inf
    """When it must have ended, by the transport's clock; it is ended with a time-out then."""

    # The driver's own notes.
    memory: Memory | None = None  # what the device moves data to or from
    bounce: bool = False  # the memory is the driver's, and is copied
    lists: list[Memory] | None = None
    prepared_at: float = 0.0

    @property
    def length(self) -> int:
        """Bytes of data."""
        return self.blocks * self.namespace.block_size

    def is_late(self, now: float) -> bool:
        """Return whether the deadline has passed."""
        return self.deadline <= now


@dataclass(slots=True, frozen=True)
class Result:
    """The end of an operation; ``error`` is None if it succeeded."""

    operation: Operation
    error: DriverError | None
    seconds: float
    """From `IoRing.submit` to the end."""

    @property
    def user_data(self) -> Any:
        """The operation's own user data."""
        return self.operation.user_data
