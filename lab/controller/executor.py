"""From a doorbell to a completion: fetching, executing and completing commands.

Base 2.0, 3.3.1 "Memory-based Transport Queue Model"; doorbells: PCIe Transport 1.0, 3.1.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lab.controller import admin, io
from lab.controller.clock import Timer
from lab.controller.memory import DmaRefused
from lab.controller.queues import SQE_SIZE, CompletionQueue, Queues, SubmissionQueue
from lab.controller.request import DNR, MORE, Failed, Later, Posting, Request
from lab.controller.shadow import ShadowDoorbells
from lab.nvme.async_events import ErrorEvent
from lab.nvme.registers import DOORBELLS
from lab.nvme.status import Status

if TYPE_CHECKING:
    from lab.controller.behaviour import Behaviour
    from lab.controller.controller import Controller


class Executor:
    """One controller's. Everything runs in the thread that rings the doorbell, or in the clock's."""

    def __init__(self, controller: Controller) -> None:
        self._c = controller
        self._stride = 4 << controller.registers.cap.DSTRD
        self.queues: Queues = controller.queues
        self.shadows = ShadowDoorbells(controller)
        self.forget()

    def forget(self) -> None:
        """As after a reset: nothing is in flight, nothing is due."""
        for timer, _ in getattr(self, "_timers", {}).values():
            timer.cancel()
        self.in_flight: dict[tuple[int, int], Request] = {}
        """Commands that were fetched and do not complete by themselves at once."""
        self._timers: dict[tuple[int, int], tuple[Timer, Request]] = {}
        self._held: list[tuple[CompletionQueue, Posting]] = []
        self.shadows.forget()

    # -- doorbells --------------------------------------------------------------------------------------------------

    def doorbell(self, offset: int, size: int, value: int) -> None:
        """A write of ``size`` bytes to BAR0 at ``offset``, at or above 1000h."""
        c = self._c
        qid, completion = self.doorbell_queue(offset)
        c.record.doorbell(offset, size, value, qid, completion)
        if size != 4:
            c.remark("doorbell-width", offset=offset, size=size)
            if size < 4:
                return
            value &= 0xFFFF_FFFF
        if not c.running:
            self._while_not_running(offset, qid, completion, value)
            return
        if value > 0xFFFF:
            c.remark("doorbell-reserved", offset=offset, value=value)
            value &= 0xFFFF
        if completion:
            self._head(offset, qid, value)
        else:
            self._tail(offset, qid, value)

    def doorbell_queue(self, offset: int) -> tuple[int, bool]:
        """Return (queue id, is it a completion queue's) of an offset from 1000h on; qid -1 where no doorbell starts."""
        index, rest = divmod(offset - DOORBELLS, self._stride)
        return (-1, False) if rest else (index >> 1, bool(index & 1))

    def _while_not_running(self, offset: int, qid: int, completion: bool, value: int) -> None:
        """Answer a doorbell of a controller that executes nothing. During and after a shutdown the host may still give
        completion queue entries back. Base 2.0, 3.6.1 "Memory-based Controller Shutdown"."""
        shut = bool(self._c.registers.csts.SHST)
        if shut and completion:
            cq = self.queues.completion.get(qid)
            if cq is not None and value < cq.ring.entries and (value - cq.head) % cq.ring.entries <= cq.unconsumed:
                cq.head = value
            return
        rule = "doorbell-after-shutdown" if shut else "doorbell-while-not-ready"
        self._c.remark(rule, offset=offset, value=value, qid=qid, completion=completion)

    def _tail(self, offset: int, qid: int, value: int) -> None:
        sq = self.queues.submission.get(qid)
        if sq is None:
            self._no_such_doorbell(offset, value)
        elif self.shadows.serves(qid):
            self.run()  # they tell how far
        elif value == sq.tail:
            self._c.remark("doorbell-unchanged", sqid=qid, tail=value)
        elif self.moved(sq, value, "doorbell-value", offset=offset):
            self.run()

    def _head(self, offset: int, qid: int, value: int) -> None:
        cq = self.queues.completion.get(qid)
        if cq is None:
            self._no_such_doorbell(offset, value)
        elif self.shadows.serves(qid) or self.moved(cq, value, "doorbell-value", offset=offset):
            self.run()

    def moved(self, queue: SubmissionQueue | CompletionQueue, value: int, rule: str, **where: int) -> bool:
        """The host has told a tail or a head; whether there is something to do. One that cannot be is remarked as ``rule``."""
        entries = queue.ring.entries
        if isinstance(queue, SubmissionQueue):
            possible = value < entries and (value - queue.head) % entries >= (queue.tail - queue.head) % entries
        else:
            possible = value < entries and (value - queue.head) % entries <= queue.unconsumed
        if not possible:
            why = f"tail {queue.tail}, head {queue.head}, {entries} entries"
            self._c.remark(rule, **where, value=value, why=why)
            self._c.events.doorbell_error(ErrorEvent.INVALID_DOORBELL_VALUE)
            return False
        if isinstance(queue, SubmissionQueue):
            queue.tail = value
            self.queues.rung(queue)
            return True
        if value == queue.head:
            self._c.remark("doorbell-unchanged", cqid=queue.qid, head=value)
        held_back = queue.full
        queue.head = value
        if held_back:
            self._drain(queue)
        return held_back

    def _no_such_doorbell(self, offset: int, value: int) -> None:
        self._c.remark("doorbell-undefined", offset=offset, value=value)
        self._c.events.doorbell_error(ErrorEvent.INVALID_DOORBELL_REGISTER)

    # -- commands ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Works off what was submitted, as far as the completion queues have room."""
        self._work()
        while self.shadows.active and self._c.running and self.shadows.look():
            self._work()
        self._c.interrupts.flush()

    def _work(self) -> None:
        for sq in self.queues.turns():
            self._fetch(sq)
            if not self._c.running:
                break

    @property
    def waiting(self) -> bool:
        """Something is in flight that will end, and make it look round, by itself."""
        return bool(self._timers)

    def _fetch(self, sq: SubmissionQueue) -> None:
        c, slot = self._c, sq.head
        try:
            raw = c.dma_read(sq.ring.address(slot), SQE_SIZE)
        except DmaRefused as refused:
            c.fail(f"a submission cannot be fetched: {refused}")
            return
        sq.head = slot + 1 if slot + 1 < sq.ring.entries else 0
        c.record.submitted(sq.qid, slot, raw)
        request = Request(sq, raw)
        if c.faults.at_commands:
            request.strikes = c.faults.at_command(request)
        if request.key in self.in_flight:
            c.remark("cid-conflict", sqid=sq.qid, cid=request.cid)
            self.complete(request, Status.COMMAND_ID_CONFLICT | DNR, remember=False)
            return
        self.execute(request)

    def execute(self, request: Request) -> None:
        """Executes a command and completes it, unless it is kept for later."""
        try:
            for strike in request.strikes:
                if not strike.begin(request):
                    return
            table = io.COMMANDS if request.sq.qid else admin.COMMANDS
            dw0 = table[request.opcode].execute(self._c, request)
        except Failed as failed:
            self.complete(request, failed.status | (DNR if failed.dnr else 0), failed.dw0)
        except Later:
            pass
        except DmaRefused as refused:
            self._c.remark("dma-refused", sqid=request.sq.qid, cid=request.cid, address=refused.address,
                           length=refused.length, why=refused.why)  # fmt: skip
            self.complete(request, Status.DATA_TRANSFER_ERROR | DNR)
        except KeyError:
            if request.opcode in table:
                raise
            self._c.remark("opcode", sqid=request.sq.qid, cid=request.cid, opcode=request.opcode)
            self.complete(request, Status.INVALID_OPCODE | DNR)
        else:
            self.complete(request, 0, dw0)

    def complete(self, request: Request, status: int = 0, dw0: int = 0, *, remember: bool = True) -> None:
        """Posts a command's completion; ``status`` carries DNR. ``remember``: it was the one in flight by its key."""
        sq = request.sq
        if self.in_flight and remember:
            self.in_flight.pop(request.key, None)
        if status and self._c.logs.error(request, status):
            status |= MORE
        posting = Posting(dw0, sq.head, sq.qid, request.cid, status)
        if not request.strikes:
            self._post(sq.cq, posting)
            return
        postings = [posting]
        for strike in request.strikes:
            postings = [changed for one in postings for changed in strike.end(request, one)]
        for one in postings:
            self._post(sq.cq, one)

    def _post(self, cq: CompletionQueue, posting: Posting) -> None:
        if cq.waiting or cq.full:
            self._c.remark("cq-full", cqid=cq.qid, head=cq.head, tail=cq.tail)
            cq.waiting.append(posting)
            return
        self._write(cq, posting)
        if self._held:
            self._release(cq)

    def _write(self, cq: CompletionQueue, posting: Posting) -> None:
        c = self._c
        address, phase = cq.take_slot()
        raw = posting.entry(phase)
        try:
            c.dma_write(address, raw)
        except DmaRefused as refused:
            c.fail(f"a completion cannot be posted: {refused}")
            return
        c.record.completed(cq.qid, raw)
        if not posting.silent:
            c.interrupts.posted(cq)

    def _drain(self, cq: CompletionQueue) -> None:
        while cq.waiting and not cq.full:
            self._write(cq, cq.waiting.popleft())

    # -- commands that take their time ------------------------------------------------------------------------------

    def keep(self, request: Request) -> None:
        """The command is in flight until somebody completes it."""
        self.in_flight[request.key] = request

    def later(self, seconds: float, request: Request, action: Callable[[], None]) -> None:
        """Calls ``action`` in so many seconds if the command is still in flight then."""

        def due() -> None:
            self._timers.pop(request.key, None)
            if self.in_flight.get(request.key) is request:
                action()
                self.run()

        self._timers[request.key] = self._c.clock.after(seconds, due), request

    def resume(self, request: Request, strikes: tuple[Behaviour, ...]) -> None:
        """Executes a command that was kept, with the strikes that are left."""
        request.strikes = strikes
        self.execute(request)

    def hold(self, cq: CompletionQueue, posting: Posting, seconds: float) -> None:
        """Keeps a completion back until the queue's next one was posted, or the time has passed."""
        self._held.append((cq, posting))

        def due() -> None:
            if (cq, posting) in self._held and self.queues.completion.get(cq.qid) is cq:
                self._held.remove((cq, posting))
                self._post(cq, posting)
                self.run()

        self._c.clock.after(seconds, due)

    def _release(self, cq: CompletionQueue) -> None:
        """Posts what waited for this queue's completion."""
        mine = [held for held in self._held if held[0] is cq]
        self._held = [held for held in self._held if held[0] is not cq]
        for _, posting in mine:
            self._post(cq, posting)

    def abort(self, sqid: int, cid: int, status: Status = Status.ABORT_REQUESTED) -> bool:
        """Ends a command that is in flight; whether there was one."""
        request = self.in_flight.get((sqid, cid))
        if request is None:
            return False
        timer = self._timers.pop(request.key, None)
        if timer is not None:
            timer[0].cancel()
        self._c.events.withdraw(request)
        request.strikes = ()  # what was wrong with it has had its effect
        self.complete(request, status)
        return True

    def abort_all(self, sqid: int, status: Status) -> None:
        """Ends whatever is in flight of a queue."""
        for qid, cid in [key for key in self.in_flight if key[0] == sqid]:
            self.abort(qid, cid, status)
