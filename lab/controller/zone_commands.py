"""The commands of the zoned namespace command set. Zoned Namespace Command Set 1.1, 3.4."""

from __future__ import annotations

from lab.controller import io, transfer
from lab.controller.commands import CommandRow, table
from lab.controller.core import Core
from lab.controller.fetched import CommandStatusError, FetchedCommand
from lab.controller.namespaces import StoredNamespace
from lab.controller.parts import Parts
from lab.controller.registers import CSS_ALL
from lab.controller.zones import Zones
from lab.nvme import commands as nvme
from lab.nvme.status import Status
from lab.nvme.zones import REPORT_OPTIONS, ZoneDescriptor, ZoneSendAction, report_zones


def append(parts: Parts, request: FetchedCommand, command: nvme.ZoneAppend) -> int:
    """Execute Zone Append, and return the block that the data begin at."""
    core = parts.core
    ns, zones = _zoned(parts, request)
    length = command.blocks * ns.block_size
    power = core.spec.zone_append_limit
    limit = (4096 << core.registers.cap.MPSMIN) << power if power else core.max_transfer
    if limit and length > limit:
        core.remark("zone-append-limit", sqid=request.sq.qid, cid=request.cid, bytes=length, limit=limit)
        raise CommandStatusError(Status.INVALID_FIELD)
    zone = zones.starting(command.SLBA)
    io.check_writable(ns)
    lba = zone.pointer
    zones.open_for_write(lba if lba < zone.start + zone.capacity else zone.start, command.blocks)
    data = transfer.receive(core, request, length)
    parts.logs.count(ns.nsid, "written", length)
    io.store(parts, command.FUA, ns, lba, data)
    return lba


def manage(parts: Parts, request: FetchedCommand, command: nvme.ZoneManagementSend) -> int:
    """Execute Zone Management Send. There are no zone descriptor extensions."""
    ns, zones = _zoned(parts, request)
    if command.ZSA not in ACTIONS:
        raise CommandStatusError(Status.INVALID_FIELD)
    action = ZoneSendAction(command.ZSA)
    zone = None if command.SELECT_ALL else zones.starting(command.SLBA)
    io.check_writable(ns)
    for done in zones.act_on_all(action) if zone is None else zones.act(action, zone):
        ns.deallocate(done.start, zones.zone_blocks)
    return 0


def report(parts: Parts, request: FetchedCommand, command: nvme.ZoneManagementReceive) -> int:
    """Execute Zone Management Receive: Report Zones."""
    ns, zones = _zoned(parts, request)
    if command.ZRA or command.OPTIONS not in REPORT_OPTIONS:
        raise CommandStatusError(Status.INVALID_FIELD)
    if command.SLBA >= ns.blocks:
        raise CommandStatusError(Status.LBA_OUT_OF_RANGE)
    transfer.check_length(parts.core, request, command.data_length)
    first = zones.holding(command.SLBA).start
    found = [zone for zone in zones.all if zone.start >= first and zone.state in REPORT_OPTIONS[command.OPTIONS]]
    room = max(0, command.data_length // ZoneDescriptor.SIZE - 1)
    listed = [zone.descriptor for zone in found[:room]]
    content = report_zones(len(listed) if command.PARTIAL else len(found), listed)
    transfer.send(parts.core, request, content.ljust(command.data_length, b"\0")[: command.data_length])
    return 0


def _zoned(parts: Parts, request: FetchedCommand) -> tuple[StoredNamespace, Zones]:
    """Return the namespace and its zones; CommandStatusError where it is none, or has none."""
    ns = parts.inventory.active(request.nsid)
    if ns.zones is None:
        raise CommandStatusError(Status.INVALID_OPCODE)
    return ns, ns.zones


def is_enabled(core: Core) -> bool:
    """Return whether the host has enabled the zoned namespace command set of a controller that has it."""
    return is_offered(core) and core.registers.cc.CSS == CSS_ALL


def is_offered(core: Core) -> bool:
    """Return whether a controller has the zoned namespace command set."""
    return any(namespace.zone_blocks for namespace in core.spec.namespaces)


ACTIONS = frozenset(ZoneSendAction) - {ZoneSendAction.SET_EXTENSION}
"""What Zone Management Send can ask for here."""
COMMANDS = table(
    CommandRow(nvme.ZoneManagementSend, manage, supported=is_enabled, LBCC=1),
    CommandRow(nvme.ZoneManagementReceive, report, supported=is_enabled),
    CommandRow(nvme.ZoneAppend, append, supported=is_enabled, LBCC=1),
)
"""Opcode to command, of those that the NVM command set lacks."""
