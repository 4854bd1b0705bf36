"""From a doorbell to a command's execution: fetching and executing commands.

Base 2.0, 3.3.1 "Memory-based Transport Queue Model"; doorbells: PCIe Transport 1.0, 3.1.2.
"""

from __future__ import annotations

from lab.controller import admin, io, zone_commands
from lab.controller.dma import DmaRefusedError
from lab.controller.doorbells import Doorbells
from lab.controller.faults import Faults
from lab.controller.fetched import DNR, CommandPendingError, CommandStatusError, FetchedCommand, Strike
from lab.controller.parts import Parts
from lab.controller.queues import SQE_SIZE, SubmissionQueue
from lab.nvme.commands import Compare, Write
from lab.nvme.registers import DOORBELLS
from lab.nvme.status import Status

FUSE, FUSE_FIRST, FUSE_SECOND = 0b11, 0b01, 0b10
"""Bits of a command's flags, and their values in a fused operation."""
IO_COMMANDS = io.COMMANDS | zone_commands.COMMANDS
BATCH = 1024
"""Commands that are executed in a row: a host may ring for 65,535 at once, and nothing else happens meanwhile."""


class Executor:
    """One controller's. Everything runs in the thread that rings the doorbell, or in the clock's."""

    def __init__(self, parts: Parts, doorbells: Doorbells, faults: Faults) -> None:
        """Execute commands with ``parts``; ``faults`` strike them."""
        self._parts, self._core, self._doorbells, self._faults = parts, parts.core, doorbells, faults
        self._queues, self._shadows, self._completer = parts.core.queues, parts.shadows, parts.completer
        self._stride = 4 << self._core.registers.cap.DSTRD
        self._firsts: dict[int, FetchedCommand] = {}  # of fused operations, by queue, whose second command has not come
        self._completer.continue_work = self.run

    # -- doorbells --------------------------------------------------------------------------------------------------

    def doorbell_queue(self, offset: int) -> tuple[int, bool]:
        """Return (queue id, is it a completion queue's) of an offset from 1000h on; qid -1 where no doorbell starts."""
        index, rest = divmod(offset - DOORBELLS, self._stride)
        return (-1, False) if rest else (index >> 1, bool(index & 1))

    def doorbell(self, offset: int, size: int, value: int) -> None:
        """Take a write of ``size`` bytes to BAR0 at ``offset``, at or above 1000h. Commands are executed before it returns."""
        core = self._core
        index, rest = divmod(offset - DOORBELLS, self._stride)
        qid, completion = (-1, False) if rest else (index >> 1, bool(index & 1))
        core.record.doorbell(offset, size, value, qid, completion)
        if size != 4:
            core.remark("doorbell-width", offset=offset, size=size, qid=qid, completion=completion)
            if size < 4:
                return
            value &= 0xFFFF_FFFF
        if not core.running:
            self._while_not_running(offset, qid, completion, value)
            return
        if value > 0xFFFF:
            core.remark("doorbell-reserved", offset=offset, value=value, qid=qid, completion=completion)
            value &= 0xFFFF
        if completion:
            self._head(offset, qid, value)
        else:
            self._tail(offset, qid, value)

    def _while_not_running(self, offset: int, qid: int, completion: bool, value: int) -> None:
        """Answer a doorbell of a controller that executes nothing.

        During and after a shutdown the host may still give entries back. Base 2.0, 3.6.1 "Memory-based Controller Shutdown".
        """
        shut = bool(self._core.registers.csts.SHST)
        if shut and completion:
            cq = self._queues.completion.get(qid)
            if cq is not None and value < cq.memory.entries and (value - cq.head) % cq.memory.entries <= cq.unconsumed:
                cq.head = value
            return
        csts = self._core.registers.csts
        state = {} if shut else {"ready": bool(csts.RDY), "fatal": bool(csts.CFS)}
        rule = "doorbell-after-shutdown" if shut else "doorbell-while-not-ready"
        self._core.remark(rule, offset=offset, value=value, qid=qid, completion=completion, **state)

    def _tail(self, offset: int, qid: int, value: int) -> None:
        sq = self._queues.submission.get(qid)
        if sq is None:
            self._doorbells.undefined(offset, value)
        elif self._shadows.serves(qid):
            self.run()  # the shadow doorbells say how far
        elif value == sq.tail:
            self._doorbells.unchanged(sqid=qid, tail=value)
        elif self._doorbells.accept(sq, value, "doorbell-value", offset=offset):
            self.run()

    def _head(self, offset: int, qid: int, value: int) -> None:
        cq = self._queues.completion.get(qid)
        if cq is None:
            self._doorbells.undefined(offset, value)
        elif self._shadows.serves(qid) or self._doorbells.accept(cq, value, "doorbell-value", offset=offset):
            self.run()

    # -- commands ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Work off what was submitted, as far as the completion queues have room."""
        goes_on = self._work()
        while goes_on and self._shadows.active and self._core.running and self._shadows.look():
            goes_on = self._work()
        self._parts.interrupts.flush()

    def _work(self) -> bool:
        """Execute what was submitted, `BATCH` commands at most; return whether nothing is left of it."""
        left = BATCH
        for sq in self._queues.turns():
            self._fetch(sq)
            left -= 1
            if not self._core.running:
                break
            if not left:  # let others that wait for the device take their turn first
                self._core.clock.after(0, self.run)
                return False
        return True

    def _fetch(self, sq: SubmissionQueue) -> None:
        core, slot = self._core, sq.head
        try:
            raw = core.dma_read(sq.memory.address(slot), SQE_SIZE)
        except DmaRefusedError as refused:
            core.fail(f"a submission cannot be fetched: {refused}")
            return
        sq.head = slot + 1 if slot + 1 < sq.memory.entries else 0
        core.record.submitted(sq.qid, slot, raw)
        request = FetchedCommand(sq, raw)
        if self._faults.at_commands:
            request.strikes = self._faults.at_command(request)
        if request.key in self._completer.in_flight:
            core.remark("cid-conflict", sqid=sq.qid, cid=request.cid)
            self._completer.complete(request, Status.COMMAND_ID_CONFLICT | DNR, forget=False)
            return
        if (request.flags & FUSE or self._firsts) and self._take_fused(request):
            return
        if (outcome := self._outcome(request)) is not None:
            self._completer.complete(request, outcome[0], outcome[1])

    def execute(self, request: FetchedCommand) -> None:
        """Execute a command and complete it, unless it is kept for later."""
        if (outcome := self._outcome(request)) is not None:
            self._completer.complete(request, outcome[0], outcome[1])

    def _outcome(self, request: FetchedCommand) -> tuple[int, int] | None:
        """Execute a command; return its status (with DNR) and dword 0, None where it is kept for later."""
        try:
            for strike in request.strikes:
                if not strike.begin(request):
                    return None
            table = IO_COMMANDS if request.sq.qid else admin.COMMANDS
            row = table.get(request.opcode)
            if row is None:
                self._core.remark("opcode", sqid=request.sq.qid, cid=request.cid, opcode=request.opcode)
                return Status.INVALID_OPCODE | DNR, 0
            return 0, row.execute(self._parts, request)
        except CommandStatusError as failed:
            return failed.status | (DNR if failed.dnr else 0), failed.dw0
        except CommandPendingError:
            return None
        except DmaRefusedError as refused:
            self._core.remark(
                "dma-refused",
                sqid=request.sq.qid, cid=request.cid, address=refused.address, length=refused.length, why=refused.why,
            )  # fmt: skip
            return Status.DATA_TRANSFER_ERROR | DNR, 0

    # -- fused operations -------------------------------------------------------------------------------------------

    def _take_fused(self, request: FetchedCommand) -> bool:
        """Pair the commands of a fused Compare and Write; return whether this one needs nothing more.

        Base 2.0, 3.4.2 "Fused Operations"; NVM Command Set 1.0, 2.1: the controller has it where FUSES says so.
        """
        sqid, fuse = request.sq.qid, request.flags & FUSE
        first = self._firsts.pop(sqid, None)
        if first is not None and self._completer.in_flight.get(first.key) is first:  # else it was aborted, or a reset came
            if fuse == FUSE_SECOND and request.opcode == Write.OPCODE:
                self._execute_pair(first, request)
                return True
            self._core.remark("fused-pair", sqid=sqid, cid=first.cid, problem="the second command does not follow")
            self._completer.complete(first, Status.ABORTED_MISSING_FUSED | DNR)
        if not sqid or not self._core.identity.FUSES & 1:
            return False
        if fuse == FUSE_FIRST and request.opcode == Compare.OPCODE:
            self._firsts[sqid] = request
            self._completer.keep(request)
            return True
        if fuse == FUSE_SECOND:
            self._core.remark("fused-pair", sqid=sqid, cid=request.cid, problem="the first command does not precede")
            self._completer.complete(request, Status.ABORTED_MISSING_FUSED | DNR)
            return True
        return False

    def _execute_pair(self, first: FetchedCommand, second: FetchedCommand) -> None:
        """Execute a Compare and, if it succeeds, the Write: nothing comes between them."""
        complete = self._completer.complete
        if (first.nsid, first.raw[40:50]) != (second.nsid, second.raw[40:50]):  # SLBA and NLB
            self._core.remark("fused-pair", sqid=first.sq.qid, cid=first.cid, problem="the commands have other blocks")
            complete(first, Status.INVALID_FIELD | DNR)
            complete(second, Status.INVALID_FIELD | DNR)
            return
        first.flags &= ~FUSE
        second.flags &= ~FUSE
        outcome = self._outcome(first)
        if outcome is not None:
            complete(first, *outcome)
        if outcome is None or outcome[0]:
            complete(second, Status.ABORTED_FAILED_FUSED)
            return
        self.execute(second)

    def resume(self, request: FetchedCommand, strikes: tuple[Strike, ...]) -> None:
        """Execute a command that was kept, with the strikes that are left."""
        self._completer.in_flight.pop(request.key, None)
        request.strikes = strikes
        self.execute(request)
