"""Get Log Page. Base 2.0, 5.16."""

from __future__ import annotations

from lab.controller import transfer
from lab.controller.fetched import CommandStatusError, FetchedCommand
from lab.controller.logs import PAGES
from lab.controller.parts import Parts
from lab.nvme.commands import BROADCAST_NSID, GetLogPage
from lab.nvme.identify import Csi
from lab.nvme.logs import Lid
from lab.nvme.status import Status


def get_log_page(parts: Parts, request: FetchedCommand, command: GetLogPage) -> int:
    """Execute Get Log Page; beyond a page's end there are zeros."""
    core = parts.core
    known = command.LID in PAGES and (command.LID != Lid.ANA or core.identity.CMIC.ANA)
    if not known and command.LID != Lid.COMMANDS_SUPPORTED:
        raise CommandStatusError(Status.LOG_PAGE_INVALID)
    of_namespace = command.LID == Lid.SMART and request.nsid not in (0, BROADCAST_NSID)
    if of_namespace:
        if not core.identity.LPA.SMART_PER_NAMESPACE:
            raise CommandStatusError(Status.INVALID_FIELD)
        parts.inventory.active(request.nsid)
    if command.OT or command.offset & 3:
        raise CommandStatusError(Status.INVALID_FIELD)
    transfer.check_length(core, request, command.data_length)
    if of_namespace:
        content = parts.logs.namespace_smart(request.nsid)
    else:
        content = (
            parts.effects.get(command.CSI, parts.effects[Csi.NVM])
            if command.LID == Lid.COMMANDS_SUPPORTED
            else PAGES[command.LID](parts.logs)
        )
    if command.offset > len(content):
        raise CommandStatusError(Status.INVALID_FIELD)
    wanted = content[command.offset : command.offset + command.data_length]
    transfer.send(core, request, wanted.ljust(command.data_length, b"\0"))
    if not command.RAE:
        parts.events.log_read(command.LID)
    return 0
