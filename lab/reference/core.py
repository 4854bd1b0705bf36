"""The state that all parts of the driver share: what was detected, which queues there are, whether the controller is lost.

The parts act on it and `lab.reference.controller.Controller` builds it up; it knows neither.
"""

from __future__ import annotations

from lab.nvme.identify import IdentifyController, IdentifyControllerNvm
from lab.nvme.registers import CAP, CRTO, CSTS, VS
from lab.reference.errors import CommandLost, ControllerFailed, DriverError
from lab.reference.queue_pair import QueuePair
from lab.reference.registers import Registers
from lab.reference.settings import Settings
from lab.reference.transport import Transport

TIMEOUT_UNIT = 0.5
"""Seconds of CAP.TO."""


class Core:
    """The state of one controller."""

    def __init__(self, transport: Transport, settings: Settings, registers: Registers) -> None:
        """Hold what the driver was given; nothing is detected yet."""
        self.transport, self.settings, self.registers = transport, settings, registers
        self.cap, self.version, self.crto = CAP(), VS(), CRTO()
        self.identity: IdentifyController | None = None
        self.limits = IdentifyControllerNvm()
        """The limits of the NVM command set; 0 where there is none."""
        self.honours_retry_delays = False
        """The controller may name delays by CRD (Host Behavior Support, ACRE)."""
        self.failed: ControllerFailed | None = None
        """Why no further command is sent to the controller."""
        self.io: list[QueuePair] = []
        """The I/O queue pairs in use."""
        self._pairs: dict[int, QueuePair] = {}  # by queue identifier, those of before a reset too
        self._turn = 0

    # -- what the registers and Identify say ------------------------------------------------------------------------

    @property
    def page_size(self) -> int:
        """The smallest memory page that the controller takes, in bytes. Base 2.0, 3.1.3.1: CAP.MPSMIN."""
        return 4096 << self.cap.MPSMIN

    @property
    def ready_seconds(self) -> float:
        """How long CSTS.RDY may take to follow CC.EN. Base 2.0, 3.5.4: CAP.TO, and CRTO.CRWMT where there is one."""
        return max(self.cap.TO, self.crto.CRWMT, 1) * TIMEOUT_UNIT

    @property
    def max_queue_entries(self) -> int:
        """The most slots that an I/O queue may have: CAP.MQES is 0's based."""
        return self.cap.MQES + 1

    @property
    def max_transfer(self) -> int | None:
        """Bytes that one command may move; None for no limit. Base 2.0, 5.17.2.1: MDTS counts in pages of MPSMIN."""
        return self.known_identity.max_transfer(self.cap.MPSMIN)

    def limit_bytes(self, power: int) -> int | None:
        """Return the bytes of a limit that is a power of two of pages of MPSMIN; None for no limit, which is 0."""
        return (4096 << self.cap.MPSMIN) << power if power else None

    @property
    def known_identity(self) -> IdentifyController:
        """Identify Controller, which step 3 has read."""
        assert self.identity is not None
        return self.identity

    def status(self) -> CSTS:
        """Read Controller Status."""
        return self.registers.status()

    # -- queues -----------------------------------------------------------------------------------------------------

    @property
    def admin(self) -> QueuePair:
        """The admin queue pair."""
        return self._pairs[0]

    def pairs(self) -> list[QueuePair]:
        """Return all queue pairs, the admin queue pair first."""
        return [self._pairs[qid] for qid in sorted(self._pairs)]

    def known_pair(self, qid: int) -> QueuePair:
        """Return the queue pair of an identifier, whether the controller has it or not."""
        return self._pairs[qid]

    def pair(self) -> QueuePair:
        """Return the I/O queue pair to use next.

        A kernel takes that of the CPU it runs on; Python has one CPU and takes turns.
        """
        if not self.io:
            raise self.failed or CommandLost("there are no I/O queues")
        self._turn += 1
        return self.io[self._turn % len(self.io)]

    # -- the end of commands without a completion -------------------------------------------------------------------

    def abandon(self, reason: DriverError) -> None:
        """End all outstanding commands, once each, without a completion. The controller must have stopped."""
        for pair in self._pairs.values():
            pair.live = False
            pair.abandon(reason)

    def give_up(self, reason: DriverError) -> None:
        """Treat the controller as lost: end every command now and send no further one."""
        self.failed = reason if isinstance(reason, ControllerFailed) else ControllerFailed(str(reason))
        self.io = []
        self.abandon(self.failed)
