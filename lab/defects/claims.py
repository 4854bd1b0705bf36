"""Drivers that say of something that it is done, and have not done it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lab.defects.defect import defect
from lab.reference import pci
from lab.reference.features import Features
from lab.reference.recovery import Recovery
from lab.reference.service import Reply, Service


class _Claims(Service):
    """Answers one action with success, and does nothing."""

    claimed = ""

    def perform(self, action: str, arguments: Mapping[str, Any], data: bytes | None = None) -> Reply:
        """Perform an action, but for one."""
        return Reply() if action == self.claimed else super().perform(action, arguments, data)


@defect("every/done:reset", scenarios=("reset/asked",))
class ClaimsReset(_Claims):
    """Says that it has reset the controller when it is asked to, and does nothing."""

    claimed = "reset"


@defect("every/done:format", scenarios=("features/format",))
class ClaimsFormat(_Claims):
    """Says that it has formatted a namespace, and does nothing."""

    claimed = "format"


@defect("every/done:feature", scenarios=("features/basic",))
class KeepsFeatures(Features):
    """Keeps what features are set to in its own memory, and answers from there."""

    kept: dict[int, int] | None = None

    def set(self, fid: int, value: int, *, save: bool = False, nsid: int = 0, data: bytes = b"") -> int:
        """Keep the value."""
        self.kept = {**(self.kept or {}), fid: value}
        return 0

    def get(self, fid: int, *more: Any, **options: Any) -> tuple[int, bytes]:
        """Return what is kept, else ask the controller."""
        kept = self.kept or {}
        return (kept[fid], b"") if fid in kept else super().get(fid, *more, **options)


@defect("io-queues/reported:wanted", scenarios=("io-queues/few",))
class ReportsWanted(Service):
    """Reports as many queues as it had wanted to have."""

    def perform(self, action: str, arguments: Mapping[str, Any], data: bytes | None = None) -> Reply:
        """Perform an action; report two queue pairs at the least."""
        reply = super().perform(action, arguments, data)
        if action != "queues":
            return reply
        return Reply(fields={**reply.fields, "pairs": max(2, reply.fields["pairs"])})


@defect("reset/flr-wait:at-once", scenarios=("reset/function",))
class NoWaitForFunction(Recovery):
    """Goes on at once when it has reset the function."""

    def reset_function(self) -> None:
        """Reset the function, and wait for nothing."""
        transport = self._c.transport
        at = next((at for kind, at in pci.capabilities(transport) if kind == pci.EXPRESS), 0)
        bars = {offset: transport.config_read(offset, 4) for offset in pci.BARS}
        control = at + pci.DEVICE_CONTROL
        transport.config_write(control, 2, transport.config_read(control, 2) | pci.INITIATE_FLR)
        for offset, value in bars.items():
            transport.config_write(offset, 4, value)
        pci.set_command(transport, pci.MEMORY_SPACE)
        self.reset("its function was reset")
