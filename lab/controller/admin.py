"""The admin commands. Base 2.0, 5 "Admin Command Set"."""

from __future__ import annotations

from lab.controller import management, transfer
from lab.controller.commands import CommandRow, table
from lab.controller.features import get_features, set_features
from lab.controller.fetched import CommandPendingError, CommandStatusError, FetchedCommand
from lab.controller.identify_commands import identify
from lab.controller.log_commands import get_log_page
from lab.controller.namespace_commands import can_manage, format_nvm, namespace_attachment, namespace_management
from lab.controller.parts import Parts
from lab.controller.queue_commands import create_io_cq, create_io_sq, delete_io_cq, delete_io_sq
from lab.nvme import commands as nvme
from lab.nvme.ranges import LbaStatus, LbaStatusDescriptor
from lab.nvme.status import Status


def abort(parts: Parts, _request: FetchedCommand, command: nvme.Abort) -> int:
    """Execute Abort. Base 2.0, 5.1: bit 0 of dword 0 is 0 if the command was aborted."""
    if command.SQID not in parts.core.queues.submission:
        raise CommandStatusError(Status.INVALID_FIELD)
    return 0 if parts.completer.abort(command.SQID, command.ABORT_CID) else 1


def async_event_request(parts: Parts, request: FetchedCommand, _command: nvme.AsyncEventRequest) -> int:
    """Execute Asynchronous Event Request. Base 2.0, 5.2."""
    parts.events.add_request(request)
    raise CommandPendingError


def doorbell_buffer_config(parts: Parts, request: FetchedCommand, _command: nvme.DoorbellBufferConfig) -> int:
    """Execute Doorbell Buffer Config. Base 2.0, 5.8: each buffer is a memory page."""
    page = parts.core.page_size
    if request.prp1 % page or request.prp2 % page or not request.prp1 or not request.prp2:
        raise CommandStatusError(Status.INVALID_FIELD)
    parts.shadows.configure(request.prp1, request.prp2)
    return 0


def keep_alive(parts: Parts, _request: FetchedCommand, _command: nvme.KeepAlive) -> int:
    """Execute Keep Alive. Base 2.0, 5.18: it restarts the timer."""
    parts.keep_alive.restart()
    return 0


def get_lba_status(parts: Parts, request: FetchedCommand, command: nvme.GetLbaStatus) -> int:
    """Execute Get LBA Status: the blocks that cannot be read. NVM Command Set 1.0, 4.2.1."""
    core = parts.core
    ns = parts.inventory.active(command.NSID)
    if command.ATYPE not in LBA_STATUS_ACTIONS:
        raise CommandStatusError(Status.INVALID_FIELD)
    if command.SLBA >= ns.blocks:
        raise CommandStatusError(Status.LBA_OUT_OF_RANGE)
    length = command.data_length
    transfer.check_length(core, request, length)
    asked = min(command.RL or ns.blocks, ns.blocks - command.SLBA)
    found = ns.uncorrectable.within(command.SLBA, asked)
    room = max(0, length - LbaStatus.SIZE) // LbaStatusDescriptor.SIZE
    listed = [LbaStatusDescriptor.of(DSLBA=lba, NLB=blocks - 1, STATUS=UNREADABLE) for lba, blocks in found[:room]]
    head = LbaStatus.of(NLSD=len(listed), CMPC=1 if len(listed) < len(found) else 2)
    transfer.send(core, request, b"".join([head, *listed]).ljust(length, b"\0")[:length])
    return 0


LBA_STATUS_ACTIONS = (0x10, 0x11)
"""ATYPE: with and without a scan for more than is known; here everything is known."""
UNREADABLE = 0b11
"""Status of a range: written by Write Uncorrectable, so that reading ends in Unrecovered Read Error."""
COMMANDS = table(
    CommandRow(nvme.DeleteIoSq, delete_io_sq, nsid=False),
    CommandRow(nvme.CreateIoSq, create_io_sq, nsid=False),
    CommandRow(nvme.GetLogPage, get_log_page),
    CommandRow(nvme.DeleteIoCq, delete_io_cq, nsid=False),
    CommandRow(nvme.CreateIoCq, create_io_cq, nsid=False),
    CommandRow(nvme.Identify, identify),
    CommandRow(nvme.Abort, abort, nsid=False),
    CommandRow(nvme.SetFeatures, set_features),
    CommandRow(nvme.GetFeatures, get_features),
    CommandRow(nvme.AsyncEventRequest, async_event_request, nsid=False),
    CommandRow(nvme.NamespaceManagement, namespace_management, supported=can_manage, NIC=1),
    CommandRow(nvme.NamespaceAttachment, namespace_attachment, supported=can_manage, NIC=1),
    CommandRow(
        nvme.DoorbellBufferConfig,
        doorbell_buffer_config,
        nsid=False,
        supported=lambda core: bool(core.identity.OACS.DOORBELL_BUFFER),
    ),
    CommandRow(nvme.NvmeMiSend, management.send, nsid=False, supported=management.supported),
    CommandRow(nvme.NvmeMiReceive, management.receive, nsid=False, supported=management.supported),
    CommandRow(nvme.KeepAlive, keep_alive, nsid=False, supported=lambda core: bool(core.identity.KAS)),
    CommandRow(nvme.GetLbaStatus, get_lba_status, supported=lambda core: bool(core.identity.OACS.GET_LBA_STATUS)),
    CommandRow(nvme.FormatNvm, format_nvm, supported=lambda core: bool(core.identity.OACS.FORMAT), LBCC=1, NCC=1, CSE=1),
)
"""Opcode to command."""
