"""Asynchronous events: what the controller has to tell, and the requests that wait for it. Base 2.0, 5.2."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from lab.controller.request import Failed, Request
from lab.nvme.async_events import AsyncEvent, ErrorEvent, EventType, NoticeEvent, SmartEvent
from lab.nvme.logs import Lid
from lab.nvme.status import Status

if TYPE_CHECKING:
    from lab.controller.controller import Controller

PENDING_LIMIT = 64


class AsyncEvents:
    """One controller's. A type of event that was told is masked until the host has read its log page."""

    def __init__(self, controller: Controller) -> None:
        self._c = controller
        self.forget()

    def forget(self) -> None:
        """As after a reset."""
        self._requests: deque[Request] = deque()
        self._pending: deque[AsyncEvent] = deque()
        self._masked: set[int] = set()

    def request(self, request: Request) -> None:
        """Takes an Asynchronous Event Request; Failed when there are as many as AERL allows."""
        if len(self._requests) > self._c.identity.AERL:
            self._c.remark("aer-limit", outstanding=len(self._requests) + 1, limit=self._c.identity.AERL + 1)
            raise Failed(Status.ASYNC_EVENT_LIMIT_EXCEEDED)
        self._requests.append(request)
        self._c.executor.keep(request)
        self._tell()

    def withdraw(self, request: Request) -> None:
        """The request was aborted, or its queue deleted."""
        if request in self._requests:
            self._requests.remove(request)

    def happened(self, event: AsyncEvent) -> None:
        """Something the host is to hear of; one of the same kind that waits already is enough."""
        if event not in self._pending and len(self._pending) < PENDING_LIMIT:
            self._pending.append(event)
            self._tell()

    def doorbell_error(self, kind: ErrorEvent) -> None:
        """A write to a doorbell that is none, or of a value that cannot be."""
        self.happened(AsyncEvent.of(AET=EventType.ERROR, AEI=kind, LID=Lid.ERROR_INFORMATION))

    def namespaces_changed(self) -> None:
        """The inventory changed; told only if the host asked for it (feature 0Bh)."""
        if self._c.features.async_event_config.NAMESPACE_ATTRIBUTE:
            self.happened(
                AsyncEvent.of(AET=EventType.NOTICE, AEI=NoticeEvent.NAMESPACE_ATTRIBUTE_CHANGED, LID=Lid.CHANGED_NAMESPACES)
            )

    def smart(self, warning: int) -> None:
        """Critical warnings came up."""
        kinds = {1: SmartEvent.SPARE, 2: SmartEvent.TEMPERATURE}
        for bit in (bit for bit in range(8) if warning >> bit & 1):
            kind = kinds.get(1 << bit, SmartEvent.RELIABILITY)
            self.happened(AsyncEvent.of(AET=EventType.SMART, AEI=kind, LID=Lid.SMART))

    def log_read(self, lid: int) -> None:
        """A log page was read without RAE: its type of event may be told again."""
        cleared = {event for event in self._masked if AsyncEvent(event).LID == lid}
        if cleared:
            self._masked -= cleared
            self._tell()

    def _tell(self) -> None:
        while self._requests:
            types = {AsyncEvent(event).AET for event in self._masked}
            event = next((event for event in self._pending if event.AET not in types), None)
            if event is None:
                return
            self._pending.remove(event)
            self._masked.add(event)
            self._c.executor.complete(self._requests.popleft(), dw0=int(event))
