"""Commands that destroy what cannot be brought back: they are sent only with an explicit yes.

Destructive are Format NVM, Sanitize, Firmware Commit and Firmware Image Download, Namespace Management's delete, Capacity
Management and Write Uncorrectable. Write, Write Zeroes and Dataset Management change the blocks that they name, as asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lab.nvme import commands as nvme
from lab.nvme.commands import BROADCAST_NSID, Command, Queue, decode
from lab.passthrough.errors import NeedsYesError
from lab.passthrough.request import Request

Loss = Callable[[Any], str]
"""What a command would destroy; "" if nothing."""


def _namespace(nsid: int) -> str:
    return "every namespace of the controller" if nsid == BROADCAST_NSID else f"namespace {nsid}"


def _format(command: nvme.FormatNvm) -> str:
    return f"all data of {_namespace(command.NSID)}"


def _sanitize(command: nvme.Sanitize) -> str:
    return "all data of the whole NVM subsystem, beyond recovery" if command.SANACT > 1 else ""


def _delete(command: nvme.NamespaceManagement) -> str:
    return f"{_namespace(command.NSID)} and all its data" if command.SEL == 1 else ""


def _commit(command: nvme.FirmwareCommit) -> str:
    return f"the firmware in slot {command.FS} of the controller"


LOSSES: Mapping[type[Command], Loss] = {
    nvme.FormatNvm: _format,
    nvme.Sanitize: _sanitize,
    nvme.NamespaceManagement: _delete,
    nvme.FirmwareCommit: _commit,
    nvme.FirmwareDownload: lambda _: "the firmware image that was downloaded to the controller before",
    nvme.CapacityManagement: lambda _: "endurance groups or NVM sets with all their data",
    nvme.WriteUncorrectable: lambda command: f"{command.blocks} blocks from LBA {command.SLBA} of {_namespace(command.NSID)}",
}
"""Destructive commands; all others destroy nothing but what they are asked to overwrite."""


def loss(command: Command, queue: Queue) -> str:
    """Return what a command would destroy, in words; "" for a command that is not destructive. Only its bytes count."""
    meant = decode(command, admin=queue == "admin")
    words = LOSSES.get(type(meant))
    return words(meant) if words else ""


def require_yes(request: Request, device: str, *, yes: bool) -> None:
    """Raise NeedsYesError for a destructive command without a yes."""
    lost = loss(request.command, request.queue)
    if lost and not yes:
        raise NeedsYesError(f"{request.name} on {device} would destroy {lost}; send it with yes=True if that is meant")
