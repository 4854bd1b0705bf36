"""Asynchronous events. Base 2.0, 5.2 "Asynchronous Event Request command", 5.27.1.8 "Asynchronous Event Configuration".

A request stays outstanding until the controller has an event to report. Reading the log page that it names clears the event,
and a new request takes the place of the one that was completed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lab.nvme.async_events import AsyncEvent, EventType, NoticeEvent
from lab.nvme.commands import AsyncEventRequest, SetFeatures
from lab.nvme.features import AsyncEventConfig, Fid
from lab.nvme.logs import ChangedNamespaces, CriticalWarning, FirmwareSlots, Lid, Smart
from lab.reference.core import Core
from lab.reference.errors import CommandFailed
from lab.reference.execution import Execution
from lab.reference.health import Health
from lab.reference.request import Request

WARNINGS = CriticalWarning.of(SPARE=1, TEMPERATURE=1, DEGRADED=1, READ_ONLY=1, BACKUP_FAILED=1)
LOG_LENGTH = {
    Lid.ERROR_INFORMATION: 64,
    Lid.SMART: Smart.SIZE,
    Lid.FIRMWARE_SLOT: FirmwareSlots.SIZE,
    Lid.CHANGED_NAMESPACES: ChangedNamespaces.SIZE,
}
"""Bytes of each log page that an event can name."""


class Events:
    """The event requests of one controller, and the reactions to events."""

    def __init__(self, core: Core, execution: Execution, health: Health, *, rescan: Callable[[], None]) -> None:
        """Arm no event yet; ``rescan`` finds the namespaces again."""
        self._c, self._execution, self._health, self._rescan = core, execution, health, rescan
        self._outstanding = 0
        self._received: list[AsyncEvent] = []
        self.messages: list[str] = []
        """What has happened, for people; the reader removes what it has shown."""

    def arm(self) -> None:
        """Choose the events, and submit as many requests as the controller takes."""
        self._outstanding = 0
        try:
            self._execution.admin(SetFeatures.of(FID=Fid.ASYNC_EVENT_CONFIG, CDW11=self.wanted()))
        except CommandFailed as failure:
            self.messages.append(f"no choice of events: {failure}")
        self.fill()

    def wanted(self) -> AsyncEventConfig:
        """Return the choice: health warnings, and of the optional events (OAES) those that the driver acts on."""
        return AsyncEventConfig.of(SMART=WARNINGS, NAMESPACE_ATTRIBUTE=self._c.known_identity.OAES.NAMESPACE_ATTRIBUTE)

    def limit(self) -> int:
        """Return how many requests may be outstanding: AERL is 0's based, and the admin ring must keep room for commands."""
        return min(self._c.known_identity.AERL + 1, self._c.settings.events, (self._c.admin.submission.entries - 1) // 2)

    def fill(self) -> None:
        """Submit requests up to the limit."""
        pair = self._c.admin
        while self._outstanding < self.limit() and pair.room:
            pair.submit(Request(AsyncEventRequest.of(), self._ended), self._c.transport.now())
            self._outstanding += 1
        pair.ring()

    def _ended(self, request: Request) -> None:
        self._outstanding -= 1
        if request.ok and request.completion is not None:
            self._received.append(AsyncEvent(request.completion.DW0))
        elif request.completion is not None:
            self.messages.append(f"an event request failed: {request.completion.text}")

    def adopt(self, received: Sequence[AsyncEvent], outstanding: int) -> None:
        """Go on where a predecessor was: with events that it has received, and with the number of its outstanding requests."""
        self._received, self._outstanding = list(received), outstanding

    def count_outstanding(self) -> None:
        """Count a request of the predecessor that is outstanding."""
        self._outstanding += 1

    def ended(self, request: Request) -> None:
        """Take the end of a request."""
        self._ended(request)

    @property
    def received(self) -> tuple[AsyncEvent, ...]:
        """The events that were received and not handled yet."""
        return tuple(self._received)

    def handle(self) -> None:
        """Act on the events that were received; called whenever the driver is idle."""
        self._c.admin.reap()
        while self._received:
            event = self._received.pop(0)
            self.messages.append(event.text)
            self.act(event)
            self.fill()

    def act(self, event: AsyncEvent) -> None:
        """Read the log page that the event names, and do what it asks for."""
        lid = event.LID
        raw = self._health.log(lid, LOG_LENGTH[Lid(lid)]) if lid in LOG_LENGTH else b""
        if event.AET == EventType.NOTICE and event.AEI == NoticeEvent.NAMESPACE_ATTRIBUTE_CHANGED:
            self.messages.append(f"namespaces changed: {list(ChangedNamespaces(raw).ids)}")
            self._rescan()
        elif event.AET == EventType.SMART:
            self.messages.append(f"critical warning: {Smart(raw).CRITICAL_WARNING}")
