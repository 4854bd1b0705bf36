"""Asynchronous events: what the controller has to report, and the requests that wait for it. Base 2.0, 5.2."""

from __future__ import annotations

from collections import deque

from lab.controller.completer import Completer
from lab.controller.core import Core
from lab.controller.feature_values import FeatureValues
from lab.controller.fetched import CommandStatusError, FetchedCommand
from lab.controller.logs import Logs
from lab.nvme.async_events import AsyncEvent, ErrorEvent, EventType, NoticeEvent, SmartEvent
from lab.nvme.logs import Lid
from lab.nvme.status import Status

PENDING_LIMIT = 64


class AsyncEvents:
    """One controller's. A type of event that was reported is masked until the host has read its log page."""

    def __init__(self, core: Core, features: FeatureValues, logs: Logs, completer: Completer) -> None:
        """Report through ``completer`` what ``features`` asks for."""
        self._core, self._features, self._logs, self._completer = core, features, logs, completer
        self.forget()

    def forget(self) -> None:
        """Return to the state after a reset."""
        self._requests: deque[FetchedCommand] = deque()
        self._pending: deque[AsyncEvent] = deque()
        self._masked: set[int] = set()

    def add_request(self, request: FetchedCommand) -> None:
        """Keep an Asynchronous Event Request; CommandStatusError when there are as many as AERL allows."""
        limit = self._core.identity.AERL + 1
        if len(self._requests) >= limit:
            self._core.remark("aer-limit", outstanding=len(self._requests) + 1, limit=limit)
            raise CommandStatusError(Status.ASYNC_EVENT_LIMIT_EXCEEDED)
        self._requests.append(request)
        self._completer.keep(request, on_abort=lambda: self._withdraw(request))
        self._report()

    def _withdraw(self, request: FetchedCommand) -> None:
        """Forget a request that was aborted, or whose queue was deleted."""
        if request in self._requests:
            self._requests.remove(request)

    def raise_event(self, event: AsyncEvent) -> None:
        """Report an event, now or when there is a request; one of the same kind that waits already is enough."""
        if event not in self._pending and len(self._pending) < PENDING_LIMIT:
            self._pending.append(event)
            self._report()

    def doorbell_error(self, kind: ErrorEvent) -> None:
        """Report a write to a doorbell that is none, or of an invalid value, and log it. Base 2.0, 5.2 and 5.16.1.2."""
        self._logs.doorbell_error()
        self.raise_event(AsyncEvent.of(AET=EventType.ERROR, AEI=kind, LID=Lid.ERROR_INFORMATION))

    def namespaces_changed(self) -> None:
        """Report that the inventory changed, where the host asked for it (feature 0Bh)."""
        if self._features.async_event_config.NAMESPACE_ATTRIBUTE:
            self.raise_event(
                AsyncEvent.of(AET=EventType.NOTICE, AEI=NoticeEvent.NAMESPACE_ATTRIBUTE_CHANGED, LID=Lid.CHANGED_NAMESPACES)
            )

    def warnings_raised(self, new: int) -> None:
        """Report critical warnings that came up, as far as feature 0Bh asks for them."""
        wanted = new & self._features.async_event_config.SMART
        kinds = {1: SmartEvent.SPARE, 2: SmartEvent.TEMPERATURE}
        for bit in (bit for bit in range(8) if wanted >> bit & 1):
            kind = kinds.get(1 << bit, SmartEvent.RELIABILITY)
            self.raise_event(AsyncEvent.of(AET=EventType.SMART, AEI=kind, LID=Lid.SMART))

    def log_read(self, lid: int) -> None:
        """Unmask the type of event whose log page was read without RAE."""
        cleared = {event for event in self._masked if lid == AsyncEvent(event).LID}
        if cleared:
            self._masked -= cleared
            self._report()

    def _report(self) -> None:
        while self._requests:
            types = {AsyncEvent(event).AET for event in self._masked}
            event = next((event for event in self._pending if event.AET not in types), None)
            if event is None:
                return
            self._pending.remove(event)
            self._masked.add(event)
            self._completer.complete(self._requests.popleft(), dw0=int(event))
