"""The admin commands. Base 2.0, 5 "Admin Command Set"."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lab.controller import transfer
from lab.controller.commands import Row
from lab.controller.features import get_features, set_features
from lab.controller.logs import get_log_page
from lab.controller.queues import CQE_SIZE, SQE_SIZE, CompletionQueue, Ring, SubmissionQueue
from lab.controller.request import Failed, Later, Request
from lab.nvme import commands as nvme
from lab.nvme.commands import BROADCAST_NSID
from lab.nvme.identify import (
    SIZE,
    Cns,
    CommandSets,
    ControllerList,
    Csi,
    IdentifyControllerNvm,
    IdentifyNamespaceNvm,
    IndependentNamespace,
    IoCommandSets,
    NamespaceList,
    NamespaceManagementData,
    Nstat,
    namespace_descriptor_list,
)
from lab.nvme.registers import VS
from lab.nvme.status import Status

if TYPE_CHECKING:
    from lab.controller.controller import Controller

V1_1, V1_3, V1_4, V2_0 = VS.of(MJR=1, MNR=1), VS.of(MJR=1, MNR=3), VS.of(MJR=1, MNR=4), VS.of(MJR=2)

# -- queues ---------------------------------------------------------------------------------------------------------


def create_io_cq(c: Controller, request: Request) -> int:
    """Create I/O Completion Queue. Base 2.0, 5.4."""
    command = request.command
    assert isinstance(command, nvme.CreateIoCq)
    if not 0 < command.QID <= c.features.granted or command.QID in c.queues.completion:
        raise Failed(Status.QID_INVALID)
    if command.IV >= max(1, c.spec.vectors) and command.IEN:
        raise Failed(Status.INTERRUPT_VECTOR_INVALID)
    ring = _ring(c, request, command.entries, CQE_SIZE, bool(command.PC))
    if c.registers.cc.IOCQES != 4:
        c.remark("entry-size", field="IOCQES", value=c.registers.cc.IOCQES)
        raise Failed(Status.INVALID_FIELD)
    c.check_fresh(command.QID, ring)
    vector = command.IV if command.IEN else None
    c.queues.completion[command.QID] = CompletionQueue(command.QID, ring, vector)
    c.registers.io_queues_exist = True
    return 0


def create_io_sq(c: Controller, request: Request) -> int:
    """Create I/O Submission Queue. Base 2.0, 5.5."""
    command = request.command
    assert isinstance(command, nvme.CreateIoSq)
    if not 0 < command.QID <= c.features.granted or command.QID in c.queues.submission:
        raise Failed(Status.QID_INVALID)
    if not 0 < command.CQID <= c.features.granted:
        raise Failed(Status.QID_INVALID)
    cq = c.queues.completion.get(command.CQID)
    if cq is None:
        raise Failed(Status.CQ_INVALID)
    ring = _ring(c, request, command.entries, SQE_SIZE, bool(command.PC))
    if c.registers.cc.IOSQES != 6:
        c.remark("entry-size", field="IOSQES", value=c.registers.cc.IOSQES)
        raise Failed(Status.INVALID_FIELD)
    if command.QPRIO and not c.registers.cc.AMS:
        c.remark("qprio-unused", sqid=command.QID, qprio=command.QPRIO)
    c.queues.submission[command.QID] = SubmissionQueue(command.QID, ring, cq)
    return 0


def _ring(c: Controller, request: Request, entries: int, entry_size: int, contiguous: bool) -> Ring:
    if entries < 2 or entries > c.registers.cap.MQES + 1:
        raise Failed(Status.QUEUE_SIZE_INVALID)
    if request.prp2:
        c.remark("prp2-unused", sqid=0, cid=request.cid, prp2=request.prp2)
    if contiguous:
        if request.prp1 % c.page_size:
            raise Failed(Status.PRP_OFFSET_INVALID)
        if not request.prp1:
            raise Failed(Status.INVALID_FIELD)
        return Ring(entries, entry_size, (request.prp1,), c.page_size)
    if c.registers.cap.CQR:
        raise Failed(Status.INVALID_FIELD)
    return Ring(entries, entry_size, transfer.queue_pages(c, request, entries * entry_size), c.page_size)


def delete_io_sq(c: Controller, request: Request) -> int:
    """Delete I/O Submission Queue. Base 2.0, 5.7: what is in flight of it is completed as aborted first."""
    command = request.command
    assert isinstance(command, nvme.DeleteIoSq)
    sq = c.queues.submission.get(command.QID) if command.QID else None
    if sq is None:
        raise Failed(Status.QID_INVALID)
    c.executor.abort_all(command.QID, Status.ABORTED_SQ_DELETION)
    c.queues.delete(sq)
    return 0


def delete_io_cq(c: Controller, request: Request) -> int:
    """Delete I/O Completion Queue. Base 2.0, 5.6: its submission queues go first."""
    command = request.command
    assert isinstance(command, nvme.DeleteIoCq)
    cq = c.queues.completion.get(command.QID) if command.QID else None
    if cq is None:
        raise Failed(Status.QID_INVALID)
    if c.queues.users(cq):
        raise Failed(Status.QUEUE_DELETION_INVALID)
    del c.queues.completion[command.QID]
    c.registers.io_queues_exist = c.queues.io_exist
    return 0


def abort(c: Controller, request: Request) -> int:
    """Abort. Base 2.0, 5.1: bit 0 of dword 0 is 0 if the command was aborted."""
    command = request.command
    assert isinstance(command, nvme.Abort)
    if command.SQID not in c.queues.submission:
        raise Failed(Status.INVALID_FIELD)
    return 0 if c.executor.abort(command.SQID, command.ABORT_CID) else 1


def async_event_request(c: Controller, request: Request) -> int:
    """Asynchronous Event Request. Base 2.0, 5.2."""
    c.events.request(request)
    raise Later


def doorbell_buffer_config(c: Controller, request: Request) -> int:
    """Doorbell Buffer Config. Base 2.0, 5.8: each buffer is a memory page."""
    if request.prp1 % c.page_size or request.prp2 % c.page_size or not request.prp1 or not request.prp2:
        raise Failed(Status.INVALID_FIELD)
    c.executor.shadows.configure(request.prp1, request.prp2)
    return 0


def keep_alive(c: Controller, request: Request) -> int:
    """Keep Alive. Base 2.0, 5.18."""
    return 0


# -- Identify -------------------------------------------------------------------------------------------------------


def identify(c: Controller, request: Request) -> int:
    """Identify. Base 2.0, 5.17."""
    command = request.command
    assert isinstance(command, nvme.Identify)
    row = STRUCTURES.get(command.CNS)
    if row is None or c.registers.vs < row[1]:
        raise Failed(Status.INVALID_FIELD)
    build, _, uses_nsid = row
    if request.nsid and not uses_nsid:
        c.remark("nsid-unused", sqid=0, cid=request.cid, nsid=request.nsid, cns=command.CNS)
    transfer.send(c, request, build(c, command))
    return 0


def _namespace(c: Controller, command: nvme.Identify) -> bytes:
    if command.NSID == BROADCAST_NSID:
        return c.common_namespace()
    if command.NSID in c.attached:
        return c.identify_namespace(command.NSID)
    c.check_nsid(command.NSID)
    return bytes(SIZE)


def _controller(c: Controller, command: nvme.Identify) -> bytes:
    return c.identity


def _active(c: Controller, command: nvme.Identify) -> bytes:
    if command.NSID >= 0xFFFF_FFFE:
        raise Failed(Status.INVALID_NAMESPACE)
    return NamespaceList.after(command.NSID, c.attached)


def _descriptors(c: Controller, command: nvme.Identify) -> bytes:
    ns = c.namespace(command.NSID)
    csi = Csi.NVM if c.registers.vs >= V2_0 else None
    return namespace_descriptor_list(eui64=ns.eui64, nguid=ns.nguid, uuid=ns.uuid, csi=csi)


def _csi_namespace(c: Controller, command: nvme.Identify) -> bytes:
    _nvm(command)
    if command.NSID != BROADCAST_NSID:
        c.check_nsid(command.NSID)
    return IdentifyNamespaceNvm()


def _csi_controller(c: Controller, command: nvme.Identify) -> bytes:
    _nvm(command)
    return IdentifyControllerNvm()


def _csi_active(c: Controller, command: nvme.Identify) -> bytes:
    _nvm(command)
    return _active(c, command)


def _independent(c: Controller, command: nvme.Identify) -> bytes:
    if command.NSID not in c.attached:
        c.check_nsid(command.NSID)
        return bytes(SIZE)
    ns = c.identify_namespace(command.NSID)
    return IndependentNamespace.of(
        NMIC=ns.NMIC, RESCAP=ns.RESCAP, FPI=ns.FPI, ANAGRPID=ns.ANAGRPID, NSATTR=ns.NSATTR, NVMSETID=ns.NVMSETID,
        ENDGID=ns.ENDGID, NSTAT=Nstat.of(READY=1),
    )  # fmt: skip


def _allocated(c: Controller, command: nvme.Identify) -> bytes:
    if command.NSID >= 0xFFFF_FFFE:
        raise Failed(Status.INVALID_NAMESPACE)
    return NamespaceList.after(command.NSID, c.allocated)


def _allocated_namespace(c: Controller, command: nvme.Identify) -> bytes:
    if command.NSID in c.allocated:
        return c.identify_namespace(command.NSID)
    c.check_nsid(command.NSID)
    return bytes(SIZE)


def _attached_controllers(c: Controller, command: nvme.Identify) -> bytes:
    if command.NSID not in c.allocated:
        raise Failed(Status.INVALID_FIELD)
    having = [other for other in c.subsystem.family(c) if command.NSID in other.attached]
    return _controllers(having, command.CNTID)


def _all_controllers(c: Controller, command: nvme.Identify) -> bytes:
    return _controllers(c.subsystem.family(c), command.CNTID)


def _controllers(found: list[Controller], first: int) -> bytes:
    return ControllerList.holding(number for other in found if (number := other.identity.CNTLID) >= first)


def _command_sets(c: Controller, command: nvme.Identify) -> bytes:
    return IoCommandSets.of(COMBINATION=(CommandSets.of(NVM=1),))


def _nvm(command: nvme.Identify) -> None:
    if command.CSI != Csi.NVM:
        raise Failed(Status.IO_COMMAND_SET_NOT_SUPPORTED)


STRUCTURES: dict[int, tuple[Callable[[Controller, nvme.Identify], bytes], VS, bool]] = {
    Cns.NAMESPACE: (_namespace, VS(0), True),
    Cns.CONTROLLER: (_controller, VS(0), False),
    Cns.ACTIVE_NAMESPACES: (_active, V1_1, True),
    Cns.NAMESPACE_DESCRIPTORS: (_descriptors, V1_3, True),
    Cns.CSI_NAMESPACE: (_csi_namespace, V1_4, True),
    Cns.CSI_CONTROLLER: (_csi_controller, V1_4, False),
    Cns.CSI_ACTIVE_NAMESPACES: (_csi_active, V1_4, True),
    Cns.INDEPENDENT_NAMESPACE: (_independent, V1_4, True),
    Cns.ALLOCATED_NAMESPACES: (_allocated, V1_1, True),
    Cns.ALLOCATED_NAMESPACE: (_allocated_namespace, V1_1, True),
    Cns.ATTACHED_CONTROLLERS: (_attached_controllers, V1_1, True),
    Cns.CONTROLLERS: (_all_controllers, V1_1, False),
    Cns.IO_COMMAND_SETS: (_command_sets, V1_4, False),
}
"""CNS to: what builds the structure, the version that has it, whether it uses the namespace id.

What a technical proposal added to 1.4 and 2.0 took up (command sets, TP 4056) counts as 1.4: Linux asks 1.4 controllers for it.
"""

# -- namespaces -----------------------------------------------------------------------------------------------------


def namespace_attachment(c: Controller, request: Request) -> int:
    """Namespace Attachment. Base 2.0, 5.22?"""
    command = request.command
    assert isinstance(command, nvme.NamespaceAttachment)
    if command.SEL > 1:
        raise Failed(Status.INVALID_FIELD)
    if command.NSID not in c.allocated:
        c.check_nsid(command.NSID)
        raise Failed(Status.INVALID_FIELD)
    listed = ControllerList(transfer.receive(c, request, SIZE))
    if not 0 < listed.NUM <= 2047:
        raise Failed(Status.CONTROLLER_LIST_INVALID)
    known = {other.identity.CNTLID: other for other in c.subsystem.family(c)}
    if any(number not in known for number in listed.ids):
        raise Failed(Status.CONTROLLER_LIST_INVALID)
    targets = [known[number] for number in listed.ids]
    ns = c.allocated[command.NSID]
    if command.SEL:
        if any(command.NSID not in other.attached for other in targets):
            raise Failed(Status.NAMESPACE_NOT_ATTACHED)
        for other in targets:
            other.detach(command.NSID)
        return 0
    if any(command.NSID in other.attached for other in targets):
        raise Failed(Status.NAMESPACE_ALREADY_ATTACHED)
    holders = {other for other in c.subsystem.family(c) if other.attached.get(command.NSID) is ns}
    if not ns.spec.shared and len(holders | set(targets)) > 1:
        raise Failed(Status.NAMESPACE_IS_PRIVATE)
    for other in targets:
        other.attach(ns)
    return 0


def namespace_management(c: Controller, request: Request) -> int:
    """Namespace Management. Base 2.0, 5.23?: create (not attached to anything yet) and delete."""
    command = request.command
    assert isinstance(command, nvme.NamespaceManagement)
    if command.SEL == 1:
        if command.NSID != BROADCAST_NSID:
            c.check_nsid(command.NSID)
            if command.NSID not in c.allocated:
                raise Failed(Status.INVALID_FIELD)
        c.subsystem.delete(c, sorted(c.allocated) if command.NSID == BROADCAST_NSID else [command.NSID])
        return 0
    if command.SEL:
        raise Failed(Status.INVALID_FIELD)
    wanted = NamespaceManagementData(transfer.receive(c, request, SIZE))
    return c.subsystem.create(c, wanted)


def format_nvm(c: Controller, request: Request) -> int:
    """Format NVM. Base 2.0, 5.14."""
    command = request.command
    assert isinstance(command, nvme.FormatNvm)
    if command.PI:
        raise Failed(Status.FORMAT_INVALID)  # no format has protection information
    if command.SES > 2:
        raise Failed(Status.INVALID_FIELD)
    targets = list(c.attached.values()) if command.NSID == BROADCAST_NSID else [c.namespace(command.NSID)]
    if any(command.format >= len(ns.formats) for ns in targets):
        raise Failed(Status.FORMAT_INVALID)
    if any(ns.write_protection for ns in targets):
        raise Failed(Status.NAMESPACE_WRITE_PROTECTED)
    for ns in targets:
        ns.format(command.format, bool(command.MSET))
        c.subsystem.changed(ns, but=c)
    return 0


# -- the table ------------------------------------------------------------------------------------------------------


COMMANDS: dict[int, Row] = {
    row.opcode: row
    for row in (
        Row(nvme.DeleteIoSq, delete_io_sq, nsid=False),
        Row(nvme.CreateIoSq, create_io_sq, nsid=False),
        Row(nvme.GetLogPage, get_log_page),
        Row(nvme.DeleteIoCq, delete_io_cq, nsid=False),
        Row(nvme.CreateIoCq, create_io_cq, nsid=False),
        Row(nvme.Identify, identify),
        Row(nvme.Abort, abort, nsid=False),
        Row(nvme.SetFeatures, set_features),
        Row(nvme.GetFeatures, get_features),
        Row(nvme.AsyncEventRequest, async_event_request, nsid=False),
        Row(nvme.NamespaceManagement, namespace_management, supported=lambda c: bool(c.identity.OACS.NAMESPACE_MANAGEMENT),
            NIC=1),
        Row(nvme.NamespaceAttachment, namespace_attachment, supported=lambda c: bool(c.identity.OACS.NAMESPACE_MANAGEMENT),
            NIC=1),
        Row(nvme.DoorbellBufferConfig, doorbell_buffer_config, nsid=False,
            supported=lambda c: bool(c.identity.OACS.DOORBELL_BUFFER)),
        Row(nvme.KeepAlive, keep_alive, nsid=False, supported=lambda c: bool(c.identity.KAS)),
        Row(nvme.FormatNvm, format_nvm, supported=lambda c: bool(c.identity.OACS.FORMAT), LBCC=1, NCC=1, CSE=1),
    )
}  # fmt: skip
"""Opcode to command."""
