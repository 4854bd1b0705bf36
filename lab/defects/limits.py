"""Defects of limits that controllers report, and of protection information, each with its legal neighbour."""

from __future__ import annotations

from collections.abc import Iterator

from lab.defects.defect import defect
from lab.defects.senders import NEIGHBOURS, sends
from lab.nvme import commands as c
from lab.nvme import prp
from lab.nvme.commands import Command, LbaCommand
from lab.nvme.ranges import CopyRange
from lab.reference.controller import LAST, Controller
from lab.reference.execution import Execution
from lab.reference.namespace import NLB_LIMIT, PRACT, REFERENCE_CHECK, Namespace
from lab.reference.request import Request

COPIED, ATOMIC = 128, 4
"""Blocks of one source range at most, and of a fused Compare and Write, in the scenarios where these defects show."""
FIT = 15
"""Blocks of 512 bytes with 8 bytes of metadata each that fit into two pages."""
TAGS = 0xFFFF_FFFF


@defect("admin-queue/crto:never-read", scenarios=("admin-queue/long-ready",))
class CrtoNeverRead(Controller):
    """Waits as long as CAP.TO can say, and looks at no CRTO."""

    def detect(self) -> None:
        """Check the controller, and forget CRTO."""
        super().detect()
        self.crto = self.crto.but(CRWMT=0)


@defect("identify/cntrltype:not-looked-at", scenarios=("identify/administrative",))
class CntrltypeNotLookedAt(Controller):
    """Creates I/O queues on whatever controller it finds."""

    @property
    def is_administrative(self) -> bool:
        """Whether the controller has no I/O queues: never."""
        return False


@defect("admin-queue/all-command-sets:always-nvm", scenarios=("identify/administrative",))
class AlwaysNvm(Controller):
    """Selects the NVM command set of a controller that has none."""

    def command_set(self) -> int:
        """Return CC.CSS of the NVM command set."""
        return 0


@defect("read/noiob:ignored", scenarios=("read/boundary",))
class BoundaryIgnored(Namespace):
    """Splits transfers at MDTS, and at no boundary."""

    def split(self, lba: int, blocks: int) -> Iterator[tuple[int, int]]:
        """Yield (LBA, blocks) of each command, split at MDTS only."""
        for at in range(lba, lba + blocks, self.max_blocks):
            yield at, min(self.max_blocks, lba + blocks - at)


@defect("write/size-limits:zeroes", scenarios=("write/limits",))
class ZeroesUnlimited(Namespace):
    """Zeroes as many blocks by a command as NLB counts."""

    @property
    def zero_blocks(self) -> int:
        """The blocks that NLB counts."""
        return NLB_LIMIT


@defect("features/dsm-limits:ignored", scenarios=("features/trim-limits",))
class TrimsUnlimited(Controller):
    """Trims by ranges of any length, whatever the controller processes of them."""

    def identify(self) -> None:
        """Identify the controller, and forget the limits of Dataset Management."""
        super().identify()
        self.limits = self.limits.but(DMRL=0, DMRSL=0, DMSL=0)


@defect("read/pi-type1:no-tag", scenarios=("read/protected",))
class NoReferenceTag(Namespace):
    """Has the reference tag checked, and leaves ILBRT 0."""

    def protection(self, kind: type[LbaCommand], lba: int) -> dict[str, int]:
        """Return the fields without ILBRT."""
        return {name: value for name, value in super().protection(kind, lba).items() if name != "ILBRT"}


@defect("read/pi-type1:relative", scenarios=("read/protected",))
class RelativeTag(Namespace):
    """Counts reference tags from 1, as SCSI's block numbers of a partition."""

    def protection(self, kind: type[LbaCommand], lba: int) -> dict[str, int]:
        """Return the fields with a tag that is one too high."""
        fields = super().protection(kind, lba)
        return {**fields, "ILBRT": lba + 1 & TAGS} if fields else fields


@defect("write/zeroes-prchk:as-in-write", scenarios=("read/protected",))
class ZeroesChecked(Namespace):
    """Has protection information checked in Write Zeroes too."""

    def protection(self, kind: type[LbaCommand], lba: int) -> dict[str, int]:
        """Return the fields with a check of the reference tag."""
        fields = super().protection(kind, lba)
        return {**fields, "PRINFO": fields["PRINFO"] | REFERENCE_CHECK} if fields else fields


@defect("reset/crd:at-once", scenarios=("reset/retry-delay",))
class RetriesAtOnce(Execution):
    """Promises to honour the delays that CRD names, and retries at once."""

    def retry_delay(self, request: Request) -> float:
        """Return no delay."""
        return 0.0


@defect("write/fused-doorbell:each", scenarios=("write/fused",))
class RingsForEach(Controller):
    """Rings for each of the two commands of a fused operation."""

    def start(self, until: str = LAST) -> None:
        """Start as usual, and send both."""
        super().start(until)
        if until == LAST:
            for command in _compare_and_write(self, 1):
                self.io[0].submit(Request(command, lambda request: None), self.transport.now())
                self.io[0].ring()


class RingsBefore(Controller):
    """Rings for a command, and then once for a fused operation behind it."""

    def start(self, until: str = LAST) -> None:
        """Start as usual, and send all three."""
        super().start(until)
        if until == LAST:
            before: list[Command] = [c.Flush.of(NSID=1)]
            for batch in (before, _compare_and_write(self, 1)):
                for command in batch:
                    self.io[0].submit(Request(command, lambda request: None), self.transport.now())
                self.io[0].ring()


NEIGHBOURS["write/fused-doorbell:each"] = RingsBefore

# -- by what is sent ------------------------------------------------------------------------------------------------------


def _copy(driver: Controller, blocks: int) -> Command:
    """Return a Copy of so many blocks by one range."""
    memory = driver.transport.allocate(driver.page_size, driver.page_size)
    memory.write(0, CopyRange.of(SLBA=0, NLB=blocks - 1))
    return c.Copy.of(NSID=1, SDLBA=900, NR=0, PRP1=memory.pages[0])


def _compare_and_write(driver: Controller, blocks: int) -> list[Command]:
    """Return a fused pair over so many blocks at LBA 0."""
    memory = driver.transport.allocate(driver.page_size, driver.page_size)
    where = {"NSID": 1, "SLBA": 0, "NLB": blocks - 1, "PRP1": memory.pages[0]}
    return [c.Compare.of(FUSE=1, **where), c.Write.of(FUSE=2, **where)]


def _interleaved(driver: Controller, blocks: int) -> Command:
    """Return a Read of so many blocks of a namespace whose blocks have their metadata at the end."""
    page, length = driver.page_size, blocks * 520
    memory, lists = driver.transport.allocate(length, page), driver.transport.allocate(page, page)
    pointers = prp.build(memory.pages, 0, length, page, lambda: lists.address)
    for _, entries in pointers.lists:
        lists.write(0, entries)
    return c.Read.of(NSID=1, SLBA=0, NLB=blocks - 1, PRP1=pointers.prp1, PRP2=pointers.prp2)


def _compare(driver: Controller, prinfo: int) -> Command:
    """Return a Compare of one block with these bits of PRINFO."""
    memory = driver.transport.allocate(driver.page_size, driver.page_size)
    return c.Compare.of(NSID=1, SLBA=0, PRP1=memory.pages[0], MPTR=memory.pages[0] + 512, PRINFO=prinfo)


sends(
    "write/copy-lengths:one-more",
    "Takes MSSRL for 0's based, and copies one block more by a range.",
    lambda driver: [_copy(driver, COPIED + 1)],
    lambda driver: [_copy(driver, COPIED)],
    io=True,
    scenarios=("write/basic",),
)
sends(
    "write/acwu:any-length",
    "Compares and writes more blocks at once than are atomic.",
    lambda driver: _compare_and_write(driver, ATOMIC + 1),
    lambda driver: _compare_and_write(driver, ATOMIC),
    io=True,
    together=True,
    scenarios=("write/fused",),
)
sends(
    "read/mdts-metadata:not-counted",
    "Leaves metadata between blocks out of what MDTS bounds.",
    lambda driver: [_interleaved(driver, FIT + 1)],
    lambda driver: [_interleaved(driver, FIT)],
    io=True,
    scenarios=("read/interleaved",),
)
sends(
    "write/compare-pract:as-in-read",
    "Sets PRACT in Compare as in Read.",
    lambda driver: [_compare(driver, PRACT)],
    lambda driver: [_compare(driver, 0)],
    io=True,
    scenarios=("read/protected",),
)
sends(
    "write/verify-pract:as-in-read",
    "Sets PRACT in Verify as in Read.",
    lambda driver: [c.Verify.of(NSID=1, SLBA=0, PRINFO=PRACT)],
    lambda driver: [c.Verify.of(NSID=1, SLBA=0)],
    io=True,
    scenarios=("read/protected",),
)
sends(
    "write/size-limits:verify",
    "Verifies as many blocks by a command as NLB counts.",
    lambda driver: [c.Verify.of(NSID=1, SLBA=0, NLB=255)],
    lambda driver: [c.Verify.of(NSID=1, SLBA=0, NLB=15)],
    io=True,
    scenarios=("write/limits",),
)
