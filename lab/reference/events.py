"""Asynchronous events. Base 2.0, 5.2 "Asynchronous Event Request command", 5.27.1.8 "Asynchronous Event Configuration".

A request stays outstanding until the controller has something to tell. Reading the log page that it names clears the event,
and a new request takes the place of the one that was answered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.nvme.async_events import AsyncEvent, EventType, NoticeEvent
from lab.nvme.commands import AsyncEventRequest, SetFeatures
from lab.nvme.features import AsyncEventConfig, Fid
from lab.nvme.logs import ChangedNamespaces, CriticalWarning, FirmwareSlots, Lid, Smart
from lab.reference.errors import CommandFailed
from lab.reference.request import Request

if TYPE_CHECKING:
    from lab.reference.controller import Controller

WARNINGS = CriticalWarning.of(SPARE=1, TEMPERATURE=1, DEGRADED=1, READ_ONLY=1, BACKUP_FAILED=1)
LOG_LENGTH = {
    Lid.ERROR_INFORMATION: 64,
    Lid.SMART: Smart.SIZE,
    Lid.FIRMWARE_SLOT: FirmwareSlots.SIZE,
    Lid.CHANGED_NAMESPACES: ChangedNamespaces.SIZE,
}
"""Bytes of each log page that an event can send us to."""


class Events:
    """One controller's."""

    def __init__(self, controller: Controller) -> None:
        self._c = controller
        self._outstanding = 0
        self._come: list[AsyncEvent] = []
        self.told: list[str] = []
        """What has happened, for people; whoever has told them takes it out."""

    def arm(self) -> None:
        """Says which events we want, and leaves as many requests with the controller as it takes."""
        assert self._c.identity is not None
        self._outstanding = 0
        try:
            self._c.execution.admin(SetFeatures.of(FID=Fid.ASYNC_EVENT_CONFIG, CDW11=self.wanted()))
        except CommandFailed as failure:
            self.told.append(f"no choice of events: {failure}")
        self.fill()

    def wanted(self) -> AsyncEventConfig:
        """Health warnings, and of the optional events those that the controller has (OAES) and we act on."""
        assert self._c.identity is not None
        return AsyncEventConfig.of(SMART=WARNINGS, NAMESPACE_ATTRIBUTE=self._c.identity.OAES.NAMESPACE_ATTRIBUTE)

    def limit(self) -> int:
        """Requests outstanding at most: AERL is 0's based, and the admin ring must keep room for commands."""
        assert self._c.identity is not None
        return min(self._c.identity.AERL + 1, self._c.settings.events, (self._c.admin.submission.entries - 1) // 2)

    def fill(self) -> None:
        """Leaves requests with the controller up to the limit."""
        pair = self._c.admin
        while self._outstanding < self.limit() and pair.room:
            pair.submit(Request(AsyncEventRequest.of(), self._ended), self._c.transport.now())
            self._outstanding += 1
        pair.ring()

    def _ended(self, request: Request) -> None:
        self._outstanding -= 1
        if request.ok and request.completion is not None:
            self._come.append(AsyncEvent(request.completion.DW0))
        elif request.completion is not None:
            self.told.append(f"an event request failed: {request.completion.text}")

    def handle(self) -> None:
        """Acts on what has come; called whenever the driver is at rest."""
        self._c.admin.reap()
        while self._come:
            event = self._come.pop(0)
            self.told.append(event.text)
            self.act(event)
            self.fill()

    def act(self, event: AsyncEvent) -> None:
        """Reads the log page that the event names, and does what it asks for."""
        lid = event.LID
        raw = self._c.health.log(lid, LOG_LENGTH[Lid(lid)]) if lid in LOG_LENGTH else b""
        if event.AET == EventType.NOTICE and event.AEI == NoticeEvent.NAMESPACE_ATTRIBUTE_CHANGED:
            self.told.append(f"namespaces changed: {list(ChangedNamespaces(raw).ids)}")
            self._c.scan()
        elif event.AET == EventType.SMART:
            self.told.append(f"critical warning: {Smart(raw).CRITICAL_WARNING}")
