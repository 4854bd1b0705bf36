"""The commands that create and delete I/O queues. Base 2.0, 5.4 to 5.7."""

from __future__ import annotations

from lab.controller import transfer
from lab.controller.core import Core
from lab.controller.fetched import CommandStatusError, FetchedCommand
from lab.controller.parts import Parts
from lab.controller.queues import CQE_SIZE, SQE_SIZE, CompletionQueue, QueueMemory, SubmissionQueue
from lab.nvme.commands import CreateIoCq, CreateIoSq, DeleteIoCq, DeleteIoSq
from lab.nvme.status import Status


def create_io_cq(parts: Parts, request: FetchedCommand, command: CreateIoCq) -> int:
    """Execute Create I/O Completion Queue. Base 2.0, 5.4."""
    core = parts.core
    if not 0 < command.QID <= parts.features.granted or command.QID in core.queues.completion:
        raise CommandStatusError(Status.QID_INVALID)
    if command.IEN and command.IV >= (there := _vectors(core)):
        core.remark("vector-beyond", sqid=0, cid=request.cid, vector=command.IV, vectors=there)
        raise CommandStatusError(Status.INTERRUPT_VECTOR_INVALID)
    memory = _memory(core, request, command.entries, CQE_SIZE, bool(command.PC))
    if not parts.controller_memory.allows(command.QID, memory, completion=True):
        raise CommandStatusError(Status.CMB_INVALID_USE)
    _check_entry_size(core, "IOCQES", core.registers.cc.IOCQES, 4)
    core.check_fresh(command.QID, memory)
    vector = command.IV if command.IEN else None
    core.queues.completion[command.QID] = CompletionQueue(command.QID, memory, vector)
    core.registers.io_queues_exist = True
    return 0


def _vectors(core: Core) -> int:
    """Return the number of vectors that a queue may name: under MSI as many as the host has switched on. PCIe 1.0, 3.2."""
    if core.config.msi and not core.config.msix:
        return core.config.msi
    return max(1, core.spec.vectors)


def create_io_sq(parts: Parts, request: FetchedCommand, command: CreateIoSq) -> int:
    """Execute Create I/O Submission Queue. Base 2.0, 5.5."""
    core, granted = parts.core, parts.features.granted
    if not 0 < command.QID <= granted or command.QID in core.queues.submission:
        raise CommandStatusError(Status.QID_INVALID)
    if not 0 < command.CQID <= granted:
        raise CommandStatusError(Status.QID_INVALID)
    cq = core.queues.completion.get(command.CQID)
    if cq is None:
        raise CommandStatusError(Status.CQ_INVALID)
    memory = _memory(core, request, command.entries, SQE_SIZE, bool(command.PC))
    if not parts.controller_memory.allows(command.QID, memory, completion=False):
        raise CommandStatusError(Status.CMB_INVALID_USE)
    _check_entry_size(core, "IOSQES", core.registers.cc.IOSQES, 6)
    if command.QPRIO and not core.registers.cc.AMS:
        core.remark("qprio-unused", sqid=command.QID, qprio=command.QPRIO)
    core.queues.submission[command.QID] = SubmissionQueue(command.QID, memory, cq)
    return 0


def delete_io_sq(parts: Parts, _request: FetchedCommand, command: DeleteIoSq) -> int:
    """Execute Delete I/O Submission Queue. Base 2.0, 5.7: what is in flight of it is completed as aborted first."""
    queues = parts.core.queues
    sq = queues.submission.get(command.QID) if command.QID else None
    if sq is None:
        raise CommandStatusError(Status.QID_INVALID)
    parts.completer.abort_all(command.QID, Status.ABORTED_SQ_DELETION)
    queues.delete(sq)
    return 0


def delete_io_cq(parts: Parts, _request: FetchedCommand, command: DeleteIoCq) -> int:
    """Execute Delete I/O Completion Queue. Base 2.0, 5.6: its submission queues go first."""
    core = parts.core
    cq = core.queues.completion.get(command.QID) if command.QID else None
    if cq is None:
        raise CommandStatusError(Status.QID_INVALID)
    if core.queues.users(cq):
        raise CommandStatusError(Status.QUEUE_DELETION_INVALID)
    del core.queues.completion[command.QID]
    core.registers.io_queues_exist = core.queues.io_exist
    return 0


def _check_entry_size(core: Core, field: str, value: int, expected: int) -> None:
    """Raise CommandStatusError where CC has another size of entries; 0 was never set. Base 2.0, 3.1.3.5."""
    if value != expected:
        core.remark("entry-size", field=field, value=value)
        raise CommandStatusError(Status.INVALID_FIELD if value else Status.QUEUE_SIZE_INVALID)


def _memory(core: Core, request: FetchedCommand, entries: int, entry_size: int, contiguous: bool) -> QueueMemory:
    """Return the memory that a queue is created in."""
    if entries < 2 or entries > core.registers.cap.MQES + 1:
        raise CommandStatusError(Status.QUEUE_SIZE_INVALID)
    if request.prp2:
        core.remark("prp2-unused", sqid=0, cid=request.cid, prp2=request.prp2)
    if contiguous:
        if request.prp1 % core.page_size:
            raise CommandStatusError(Status.PRP_OFFSET_INVALID)
        return QueueMemory(entries, entry_size, (request.prp1,), core.page_size)
    if core.registers.cap.CQR:
        raise CommandStatusError(Status.INVALID_FIELD)
    return QueueMemory(entries, entry_size, transfer.queue_pages(core, request, entries * entry_size), core.page_size)
