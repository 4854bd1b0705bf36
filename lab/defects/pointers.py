"""Defects of data pointers, of fields that list their values, and of fields that a selector leaves unused."""

from __future__ import annotations

from collections.abc import Sequence

from lab.defects.defect import defect
from lab.defects.senders import sends
from lab.nvme import commands as c
from lab.nvme.features import Fid
from lab.nvme.identify import Cns
from lab.nvme.logs import Lid
from lab.nvme.ranges import DsmRange, encode_ranges
from lab.reference.controller import Controller
from lab.reference.execution import Execution
from lab.reference.health import Health
from lab.reference.namespace import Namespace

PAGE = 4096
IN_RING = 2048
"""Where in the page of a ring of few entries there is nothing else."""


class _OwnPlace(Execution):
    """Reads log pages into memory that begins at ``at``, and says so by ``prp2`` or without it."""

    at = 0

    def second(self, pages: Sequence[int]) -> int:
        return 0

    def admin_in(self, command: c.Command, length: int) -> bytes:
        if not isinstance(command, c.GetLogPage):
            return super().admin_in(command, length)
        with self._data.buffer(2 * PAGE) as memory:
            described = command.but(PRP1=memory.pages[0] + self.at, PRP2=self.second(memory.pages))
            self.run(self._c.admin, [described])
            return memory.read(self.at, length)


@defect("admin-queue/data-pointer:one-page", scenarios=("features/smart",))
class LogOverTheEnd(_OwnPlace):
    """Reads a log page into a buffer that ends in a second page, and names the first one alone."""

    at = PAGE - 256


@defect("admin-queue/data-pointer:odd", scenarios=("features/smart",))
class LogAtAWord(_OwnPlace):
    """Reads a log page into a buffer that begins two bytes into a page."""

    at = 2


@defect("admin-queue/data-pointer:second-inside", scenarios=("features/smart",))
class LogSecondInside(_OwnPlace):
    """Gives the second page of a log page's buffer an offset."""

    at = PAGE - 256

    def second(self, pages: Sequence[int]) -> int:
        """Return an address inside the second page."""
        return pages[1] + 256


class _OwnRanges(Namespace):
    """Trims by ranges that lie at ``at`` of a buffer of two pages."""

    at = 0

    def trim(self, ranges: Sequence[tuple[int, int]]) -> None:
        data = encode_ranges(DsmRange.of(SLBA=lba, LENGTH=blocks) for lba, blocks in ranges)
        with self._data.buffer(2 * PAGE) as memory:
            memory.write(self.at, data)
            command = c.DatasetManagement.of(NSID=self.nsid, NR=len(ranges) - 1, AD=1, PRP1=memory.pages[0] + self.at)
            self._run([command])


@defect("read/prp1-aligned:ranges", scenarios=("features/trim",))
class RangesAtAWord(_OwnRanges):
    """Puts the ranges to trim two bytes into a page."""

    at = 2


@defect("read/prp2:ranges", scenarios=("features/trim",))
class RangesOverTheEnd(_OwnRanges):
    """Puts the ranges to trim over the end of a page, and names that page alone."""

    at = PAGE - 8


@defect("read/mdts-split:compare", scenarios=("read/mdts",))
class ComparesAllAtOnce(Namespace):
    """Compares what it has read by one command, however small MDTS is."""

    def read(self, lba: int, blocks: int, offset: int = 0) -> bytes:
        """Read, and compare what was read."""
        found = super().read(lba, blocks, offset)
        with self._data.buffer(len(found)) as memory:
            memory.write(0, found)
            command = c.Compare.of(NSID=self.nsid, SLBA=lba, NLB=blocks - 1)
            self._execution.with_data(self._c.pair(), command, memory, len(found), retry=False)
        return found


@defect("features/error-log:bytes", scenarios=("features/basic",))
class CountsBytes(Health):
    """Counts what it reads of the error log in bytes, where NUMD counts dwords."""

    def command(self, lid: int, length: int, offset: int, nsid: int) -> c.GetLogPage:
        """Return the command with the number of bytes in NUMD."""
        command = super().command(lid, length, offset, nsid)
        return command.but(NUMDL=length - 1) if lid == Lid.ERROR_INFORMATION else command


# -- by what is sent ------------------------------------------------------------------------------------------------------


def _page(driver: Controller) -> int:
    """Return the address of a page that nothing else uses."""
    return driver.transport.allocate(PAGE, driver.page_size).address


sends(
    "features/coded-values:threshold",
    "Sets a temperature threshold of a kind that there is not.",
    lambda driver: [c.SetFeatures.of(FID=Fid.TEMPERATURE_THRESHOLD, CDW11=0x3 << 20 | 340)],
    lambda driver: [c.SetFeatures.of(FID=Fid.TEMPERATURE_THRESHOLD, CDW11=0xF << 16 | 340)],
)
sends(
    "features/coded-values:erase",
    "Formats with a secure erase of a kind that there is not.",
    lambda driver: [c.FormatNvm.of(NSID=1, SES=5)],
    lambda driver: [c.FormatNvm.of(NSID=1, SES=1)],
)
sends(
    "features/coded-values:select",
    "Asks for a value of a feature that there is not.",
    lambda driver: [c.GetFeatures.of(FID=Fid.ARBITRATION, SEL=5)],
    lambda driver: [c.GetFeatures.of(FID=Fid.ARBITRATION, SEL=3)],
)
sends(
    "features/coded-values:persistence",
    "Registers a key with a reserved value of CPTPL.",
    lambda driver: [c.ReservationRegister.of(NSID=1, CPTPL=1, PRP1=_page(driver))],
    lambda driver: [c.ReservationRegister.of(NSID=1, CPTPL=2, PRP1=_page(driver))],
    io=True,
    scenarios=("multi-namespace/reservations",),
)
sends(
    "identify/selectors-unused:controller",
    "Names a controller where it asks who the controller is.",
    lambda driver: [c.Identify.of(CNS=Cns.CONTROLLER, CNTID=1, PRP1=_page(driver))],
    lambda driver: [c.Identify.of(CNS=Cns.CONTROLLERS, CNTID=1, PRP1=_page(driver))],
)
sends(
    "features/log-specific:stale",
    "Leaves the log specific field of an earlier command in Get Log Page.",
    lambda driver: [c.GetLogPage.reading(Lid.SMART, 512, PRP1=_page(driver), LSP=0x7F)],
    lambda driver: [c.GetLogPage.reading(Lid.SMART, 512, PRP1=_page(driver))],
)
sends(
    "features/io-gated:fused",
    "Compares and writes by a fused operation without a look at FUSES.",
    lambda driver: _fused(driver),
    None,
    io=True,
    together=True,
    scenarios=("read/basic",),
)
sends(
    "read/pract-unused:storage-tag",
    "Has a storage tag checked where there is none.",
    lambda driver: [c.Read.of(NSID=1, STC=1, PRP1=_page(driver))],
    lambda driver: [c.Read.of(NSID=1, PRP1=_page(driver))],
    io=True,
    scenarios=("read/basic",),
)


def _fused(driver: Controller) -> list[c.Command]:
    page = _page(driver)
    return [c.Compare.of(NSID=1, FUSE=1, PRP1=page), c.Write.of(NSID=1, FUSE=2, PRP1=page)]
