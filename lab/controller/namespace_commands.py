"""The commands that create, attach and format namespaces. Base 2.0, 5.14, 5.22, 5.23."""

from __future__ import annotations

from lab.controller import transfer
from lab.controller.core import Core
from lab.controller.fetched import CommandStatusError, FetchedCommand
from lab.controller.parts import Parts
from lab.nvme.commands import BROADCAST_NSID, FormatNvm, NamespaceAttachment, NamespaceManagement
from lab.nvme.identify import SIZE, ControllerList, NamespaceManagementData
from lab.nvme.status import Status


def namespace_attachment(parts: Parts, request: FetchedCommand, command: NamespaceAttachment) -> int:
    """Execute Namespace Attachment. Base 2.0, 5.22."""
    inventory = parts.inventory
    if command.SEL > 1:
        raise CommandStatusError(Status.INVALID_FIELD)
    if command.NSID not in inventory.allocated:
        inventory.check_nsid(command.NSID)
        raise CommandStatusError(Status.INVALID_FIELD)
    listed = ControllerList(transfer.receive(parts.core, request, SIZE))
    if not 0 < listed.NUM <= 2047:
        raise CommandStatusError(Status.CONTROLLER_LIST_INVALID)
    family = inventory.family
    known = {other.identity.CNTLID: other for other in family}
    if any(number not in known for number in listed.ids):
        raise CommandStatusError(Status.CONTROLLER_LIST_INVALID)
    targets = [known[number] for number in dict.fromkeys(listed.ids)]
    ns = inventory.allocated[command.NSID]
    if command.SEL:
        if any(command.NSID not in other.attached for other in targets):
            raise CommandStatusError(Status.NAMESPACE_NOT_ATTACHED)
        for other in targets:
            other.detach(command.NSID)
        return 0
    if any(command.NSID in other.attached for other in targets):
        raise CommandStatusError(Status.NAMESPACE_ALREADY_ATTACHED)
    holders = {id(other) for other in family if other.attached.get(command.NSID) is ns}
    if not ns.spec.shared and len(holders | {id(other) for other in targets}) > 1:
        raise CommandStatusError(Status.NAMESPACE_IS_PRIVATE)
    for other in targets:
        other.attach(ns)
    return 0


def namespace_management(parts: Parts, request: FetchedCommand, command: NamespaceManagement) -> int:
    """Execute Namespace Management: create (not attached to anything yet) and delete. Base 2.0, 5.23."""
    inventory = parts.inventory
    if command.SEL == 1:
        if command.NSID != BROADCAST_NSID:
            inventory.check_nsid(command.NSID)
            if command.NSID not in inventory.allocated:
                raise CommandStatusError(Status.INVALID_FIELD)
        doomed = sorted(inventory.allocated) if command.NSID == BROADCAST_NSID else [command.NSID]
        inventory.subsystem.delete(inventory.member, doomed)
        return 0
    if command.SEL:
        raise CommandStatusError(Status.INVALID_FIELD)
    wanted = NamespaceManagementData(transfer.receive(parts.core, request, SIZE))
    try:
        return inventory.subsystem.create(inventory.member, wanted)
    except OSError as error:  # the machine's disk has no room for an image that the capacity has room for
        parts.core.remark("host-disk", nsid=0, error=str(error))
        raise CommandStatusError(Status.NAMESPACE_INSUFFICIENT_CAPACITY) from error


def format_nvm(parts: Parts, _request: FetchedCommand, command: FormatNvm) -> int:
    """Execute Format NVM. Base 2.0, 5.14."""
    core, inventory = parts.core, parts.inventory
    if command.PI:
        raise CommandStatusError(Status.FORMAT_INVALID)  # no format has protection information
    if command.SES > 2:
        raise CommandStatusError(Status.INVALID_FIELD)
    targets = list(core.attached.values()) if command.NSID == BROADCAST_NSID else [inventory.active(command.NSID)]
    if any(command.format >= len(ns.formats) for ns in targets):
        raise CommandStatusError(Status.FORMAT_INVALID)
    if any(ns.write_protection for ns in targets):
        raise CommandStatusError(Status.NAMESPACE_WRITE_PROTECTED)
    for ns in targets:
        try:
            ns.format(command.format, bool(command.MSET))
        except OSError as error:
            core.remark("host-disk", nsid=ns.nsid, error=str(error))
            raise CommandStatusError(Status.INTERNAL_ERROR, dnr=False) from error
        inventory.subsystem.report_change(ns, by=inventory.member)
    return 0


def can_manage(core: Core) -> bool:
    """Return whether namespaces can be created and attached."""
    return bool(core.identity.OACS.NAMESPACE_MANAGEMENT)
