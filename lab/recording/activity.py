"""What the device has seen of its driver while a scenario is recorded: read from the evidence as it grows."""

from __future__ import annotations

import time

from lab.data.events import Completed, Doorbell, Event, RegisterRead, RegisterWrite, Reset, Submitted
from lab.data.evidence import EvidenceWriter, Follower
from lab.nvme.commands import AsyncEventRequest
from lab.nvme.registers import CC, CSTS

LOOK_SECONDS = 0.05
"""The evidence is read at most as often as this."""


class WireActivity:
    """See `lab.guest.machine.Activity`. All of it is asked from one thread."""

    def __init__(self, evidence: EvidenceWriter) -> None:
        """Follow a recording from its beginning."""
        self._evidence = evidence
        self._follower = Follower(evidence.folder)
        self._looked = 0.0
        self._accesses = 0
        self._last: float | None = None
        self._waits: dict[str, _Waits] = {}

    @property
    def accesses(self) -> int:
        """Registers and doorbells that the driver has accessed so far."""
        self._look()
        return self._accesses

    @property
    def quiet_seconds(self) -> float | None:
        """Seconds since the last access; None before the first one."""
        self._look()
        return None if self._last is None else max(0.0, time.time() - self._last)

    @property
    def unanswered(self) -> bool:
        """Whether the driver still waits for a command, has not taken a completion, or waits for CSTS.RDY."""
        self._look(now=True)
        return any(waits.unanswered for waits in self._waits.values())

    def _look(self, *, now: bool = False) -> None:
        if not now and time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        self._evidence.flush()
        for event in self._follower.new():
            if isinstance(event, RegisterRead | RegisterWrite | Doorbell):
                self._accesses += 1
                self._last = max(event.t, self._last or 0.0)
            if event.controller:
                self._waits.setdefault(event.controller, _Waits()).take(event)


class _Waits:
    """What one controller and its driver owe each other."""

    def __init__(self) -> None:
        self._in_flight: set[tuple[int, int]] = set()
        self._posted: dict[int, int] = {}
        self._heads: dict[int, bool] = {}
        self._coming_up = False

    @property
    def unanswered(self) -> bool:
        return self._coming_up or bool(self._in_flight) or not all(self._heads.get(cqid, False) for cqid in self._posted)

    def take(self, event: Event) -> None:
        match event:
            case Submitted(command=AsyncEventRequest()):
                pass  # it may wait for ever
            case Submitted():
                self._in_flight.add(event.key)
            case Completed():
                self._in_flight.discard((event.completion.SQID, event.completion.CID))
                self._posted[event.cqid], self._heads[event.cqid] = 1, False
            case Doorbell(completion=True):
                self._heads[event.qid] = True
            case RegisterWrite(offset=CC.OFFSET):
                self._coming_up = bool(CC(event.value).EN)
                if not self._coming_up:
                    self._forget()
            case RegisterRead(offset=CSTS.OFFSET):
                self._coming_up = self._coming_up and not CSTS(event.value).RDY
            case Reset():
                self._forget()

    def _forget(self) -> None:
        self._in_flight.clear()
        self._posted.clear()
