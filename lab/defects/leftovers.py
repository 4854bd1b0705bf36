"""Mistakes about what a command does not use, each with the nearest legal thing."""

from __future__ import annotations

from collections.abc import Sequence

from lab.defects.defect import defect, with_part
from lab.defects.senders import NEIGHBOURS, sends
from lab.nvme import commands as c
from lab.nvme.commands import BROADCAST_NSID, Command
from lab.nvme.features import Fid
from lab.nvme.logs import Lid
from lab.nvme.ranges import ContextAttributes, DsmRange, encode_ranges
from lab.reference.controller import Controller
from lab.reference.namespace import Namespace
from lab.reference.queue_pair import QueuePair
from lab.reference.request import Request

QUEUES = ("io-queues/basic",)
TRIM = ("features/trim",)


def _with(command: Command, raw: bytes, **values: int) -> bytes:
    return bytes(type(command)(raw).but(**values))


@defect("features/dwords-unused:set", scenarios=QUEUES)
class StaleDwords(QueuePair):
    """Leaves dword 12 of an earlier command in Set Features."""

    def entry(self, request: Request, cid: int) -> bytes:
        """Return the entry, with dword 12 not 0 in Set Features."""
        raw = super().entry(request, cid)
        return _with(request.command, raw, CDW12=7) if isinstance(request.command, c.SetFeatures) else raw


sends(
    "features/dwords-unused:get",
    "Has a value in dword 11 of Get Features, where only Set Features takes one.",
    lambda driver: [c.GetFeatures.of(FID=Fid.ARBITRATION, CDW11=7)],
    lambda driver: [c.GetFeatures.of(FID=Fid.TEMPERATURE_THRESHOLD, CDW11=1 << 16)],
    scenarios=QUEUES,
)


@defect("admin-queue/pointers-unused:stale", scenarios=QUEUES)
class StalePointers(QueuePair):
    """Leaves the data pointer of an earlier command in Set Features without data."""

    def entry(self, request: Request, cid: int) -> bytes:
        """Return the entry, with PRP1 not 0 where a feature has no data."""
        raw, command = super().entry(request, cid), request.command
        return _with(command, raw, PRP1=0x1000) if isinstance(command, c.SetFeatures) and not command.data_length else raw


sends(
    "features/uuid-index:log",
    "Names a UUID in Get Log Page, whatever CTRATT says.",
    lambda driver: [_log(driver, UIDX=1)],
    lambda driver: [_log(driver, UIDX=0)],
    scenarios=QUEUES,
)


def _log(driver: Controller, lid: int = Lid.FIRMWARE_SLOT, offset: int = 0, **more: int) -> Command:
    """Return Get Log Page of 256 bytes, into a page that the driver keeps."""
    page = driver.transport.allocate(driver.page_size, driver.page_size)
    return c.GetLogPage.reading(lid, 256, offset, NSID=BROADCAST_NSID, PRP1=page.address, **more)


class _Hints(Namespace):
    """Trims by ranges with context attributes."""

    def attributes(self) -> ContextAttributes:
        """Return the attributes."""
        raise NotImplementedError

    def trim(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Trim the ranges by one command."""
        cattr = self.attributes()
        data = encode_ranges(DsmRange.of(CATTR=cattr, SLBA=lba, LENGTH=blocks) for lba, blocks in ranges)
        with self._data.buffer(len(data)) as memory:
            memory.write(0, data)
            command = c.DatasetManagement.of(NSID=self.nsid, NR=len(ranges) - 1, AD=1)
            self._execution.with_data(self._c.pair(), command, memory, len(data))


@defect("features/trim-reserved:residue", scenarios=TRIM)
class ReservedHints(_Hints):
    """Leaves what the buffer held before in the context attributes of a range."""

    def attributes(self) -> ContextAttributes:
        """Return attributes with reserved bits set."""
        return ContextAttributes(0x00AA_00C0)


sends(
    "features/format-protection:not-offered",
    "Formats with protection information of type 1, whatever DPC says.",
    lambda driver: [c.FormatNvm.of(NSID=1, LBAFL=0, PI=1)],
    lambda driver: [c.FormatNvm.of(NSID=1, LBAFL=0)],
)


class _AllHints(_Hints):
    """Gives every hint that there is."""

    def attributes(self) -> ContextAttributes:
        """Return attributes of all kinds."""
        return ContextAttributes.of(AF=5, AL=3, SR=1, SW=1, WP=1, CAS=8)


NEIGHBOURS["features/trim-reserved:residue"] = with_part(_AllHints)


sends(
    "features/log-offset:behind-the-end",
    "Reads the SMART log page from a byte on that is behind its end.",
    lambda driver: [_log(driver, Lid.SMART, 4096)],
    lambda driver: [_log(driver, Lid.SMART, 256)],
    scenarios=QUEUES,
)
