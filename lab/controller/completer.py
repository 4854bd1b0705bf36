"""Commands in flight and how they complete: posting to completion queues, timers, held completions, aborts."""

from __future__ import annotations

from collections.abc import Callable

from lab.controller.clock import Timer
from lab.controller.core import Core
from lab.controller.dma import DmaRefusedError
from lab.controller.fetched import MORE, FetchedCommand
from lab.controller.interrupts import Interrupts
from lab.controller.logs import Logs
from lab.controller.queues import CompletionQueue, Posting
from lab.nvme.status import Status

HELD_LIMIT = 4096
"""Completions that a fault may keep back; beyond it they are posted at once."""


class Completer:
    """One controller's. Everything runs in the thread that rings the doorbell, or in the clock's."""

    def __init__(self, core: Core, interrupts: Interrupts, logs: Logs) -> None:
        """Post through ``interrupts``, and log what fails."""
        self._core, self._interrupts, self._logs = core, interrupts, logs
        self.continue_work: Callable[[], None] = interrupts.flush
        """Called after a command has completed by a timer: completion queues may have room again."""
        self._timers: dict[tuple[int, int], tuple[Timer, FetchedCommand]] = {}
        self.forget()

    def forget(self) -> None:
        """Return to the state after a reset: nothing is in flight, nothing is due."""
        for timer, _ in self._timers.values():
            timer.cancel()
        self._timers = {}
        self.in_flight: dict[tuple[int, int], FetchedCommand] = {}
        """Commands that were fetched and are kept, by (SQID, CID)."""
        self._held: list[tuple[CompletionQueue, Posting]] = []

    @property
    def waits_for_timer(self) -> bool:
        """Whether a command in flight will end by a timer."""
        return bool(self._timers)

    # -- completions ------------------------------------------------------------------------------------------------

    def complete(self, request: FetchedCommand, status: int = 0, dw0: int = 0, *, forget: bool = True) -> None:
        """Post a command's completion; ``status`` carries DNR. ``forget``: the command is the one kept under its key."""
        sq = request.sq
        if self.in_flight and forget:
            self.in_flight.pop(request.key, None)
        if status and self._logs.command_error(request, status):
            status |= MORE
        posting = Posting(dw0, sq.head, sq.qid, request.cid, status)
        if not request.strikes:
            self.post(sq.cq, posting)
            return
        postings = [posting]
        for strike in request.strikes:
            postings = [changed for one in postings for changed in strike.end(request, one)]
        for one in postings:
            self.post(sq.cq, one)

    def post(self, cq: CompletionQueue, posting: Posting) -> None:
        """Post a completion, or queue it where ``cq`` has no room."""
        if cq.waiting or cq.full:
            self._core.remark("cq-full", cqid=cq.qid, head=cq.head, tail=cq.tail)
            cq.waiting.append(posting)
            return
        self._write(cq, posting)
        if self._held:
            self._post_overtaken(cq)

    def drain(self, cq: CompletionQueue) -> None:
        """Post the completions that waited for room, as far as there is some."""
        while cq.waiting and not cq.full:
            self._write(cq, cq.waiting.popleft())

    def _write(self, cq: CompletionQueue, posting: Posting) -> None:
        core = self._core
        address, phase = cq.take_slot()
        raw = posting.entry(phase)
        try:
            core.dma_write(address, raw)
        except DmaRefusedError as refused:
            core.fail(f"a completion cannot be posted: {refused}")
            return
        core.record.completed(cq.qid, raw)
        if not posting.silent:
            self._interrupts.posted(cq)

    # -- commands that take their time ------------------------------------------------------------------------------

    def keep(self, request: FetchedCommand, on_abort: Callable[[], None] | None = None) -> None:
        """Keep a command in flight until it is completed; call ``on_abort`` if it is aborted before."""
        request.on_abort = on_abort
        self.in_flight[request.key] = request

    def later(self, seconds: float, request: FetchedCommand, action: Callable[[], None]) -> None:
        """Call ``action`` in so many seconds if the command is still in flight then."""

        def due() -> None:
            self._timers.pop(request.key, None)
            if self.in_flight.get(request.key) is request:
                action()
                self.continue_work()

        self._timers[request.key] = self._core.clock.after(seconds, due), request

    def hold_until_overtaken(self, cq: CompletionQueue, posting: Posting, seconds: float) -> None:
        """Hold a completion back until the queue's next one was posted, or the time has passed."""
        if len(self._held) >= HELD_LIMIT:
            self.post(cq, posting)
            return
        held = cq, posting
        self._held.append(held)

        def due() -> None:
            if any(one is held for one in self._held) and self._core.queues.completion.get(cq.qid) is cq:
                self._held = [one for one in self._held if one is not held]
                self.post(cq, posting)
                self.continue_work()

        self._core.clock.after(seconds, due)

    def _post_overtaken(self, cq: CompletionQueue) -> None:
        mine = [held for held in self._held if held[0] is cq]
        self._held = [held for held in self._held if held[0] is not cq]
        for _, posting in mine:
            self.post(cq, posting)

    def abort(self, sqid: int, cid: int, status: Status = Status.ABORT_REQUESTED) -> bool:
        """End a command that is in flight with ``status``; return whether there was one."""
        request = self.in_flight.get((sqid, cid))
        if request is None:
            return False
        timer = self._timers.pop(request.key, None)
        if timer is not None:
            timer[0].cancel()
        if request.on_abort is not None:
            request.on_abort()
        request.strikes = ()  # what was wrong with it has had its effect
        self.complete(request, status)
        return True

    def abort_all(self, sqid: int, status: Status) -> None:
        """End whatever is in flight of a queue with ``status``."""
        for qid, cid in [key for key in self.in_flight if key[0] == sqid]:
            self.abort(qid, cid, status)
