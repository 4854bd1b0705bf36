"""Legal ways to keep within what controllers report, and to use protection information."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lab.nvme.commands import LbaCommand, Read
from lab.nvme.logs import Lid
from lab.nvme.registers import CRTO
from lab.reference.controller import Controller
from lab.reference.execution import Execution
from lab.reference.namespace import GUARD_CHECK, PRACT, Namespace
from lab.reference.request import Request
from lab.variants.variant import variant

LIMITED = ("write/limits",)
DELAYED = ("reset/retry-delay",)


@variant(
    "admin-queue/crto-each-time",
    allowed='Base 2.0, 3.5.4 "Controller Ready Timeouts During Initialization": when CRTO is read is the host\'s choice',
    scenarios=("admin-queue/long-ready",),
)
class CrtoEachTime(Controller):
    """Reads CRTO each time before it enables the controller."""

    def enable(self) -> None:
        """Read CRTO, and enable the controller."""
        if self.cap.CRMS:
            self.crto = self.registers.read(CRTO)
        super().enable()


@variant(
    "read/half-a-boundary",
    allowed='NVM 1.0, 4.1.5 "Identify Command", NOIOB: commands may end before a boundary',
    scenarios=("read/boundary",),
)
class HalfABoundary(Namespace):
    """Splits transfers at every half of the optimal I/O boundary too."""

    def split(self, lba: int, blocks: int) -> Iterator[tuple[int, int]]:
        """Yield (LBA, blocks) of each command, split at half boundaries."""
        half = self.identity.NOIOB // 2
        for at, count in super().split(lba, blocks):
            end = at + count
            while at < end:
                part = min(end - at, half - at % half) if half else end - at
                yield at, part
                at += part


@variant(
    "write/zeroes-halves",
    allowed='NVM 1.0, 3.2.8 "Write Zeroes command", WZSL: an upper bound; less may be zeroed by each command',
    scenarios=LIMITED,
)
class ZeroesHalves(Namespace):
    """Zeroes half of what WZSL allows by each command."""

    @property
    def zero_blocks(self) -> int:
        """Half of what one Write Zeroes may zero."""
        return max(1, super().zero_blocks // 2) if self._c.limits.WZSL else super().zero_blocks


@variant(
    "features/trims-block-by-block",
    allowed='NVM 1.0, 3.2.3 "Dataset Management command": blocks may be deallocated by any number of ranges and commands',
    scenarios=("features/trim-limits",),
)
class TrimsBlockByBlock(Namespace):
    """Trims each block by a command of its own where Dataset Management is limited."""

    def trim(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Trim each block alone where there are limits."""
        if not self._c.limits.DMRSL:
            super().trim(ranges)
            return
        for lba, blocks in ranges:
            self.check_range(lba, blocks)
            for at in range(lba, lba + blocks):
                super().trim([(at, 1)])


@variant(
    "read/guard-only",
    allowed='NVM 1.0, 5.2 "End-to-end Data Protection": PRCHK is the host\'s choice, and ILBRT for the reference tag',
    scenarios=("read/protected",),
)
class GuardOnly(Namespace):
    """Has the guard checked in Read, and no reference tag, so that it leaves ILBRT 0."""

    def protection(self, kind: type[LbaCommand], lba: int) -> dict[str, int]:
        """Return the fields, of Read without the reference tag."""
        fields = super().protection(kind, lba)
        return {"PRINFO": PRACT | GUARD_CHECK} if fields and kind is Read else fields


@variant(
    "reset/waits-twice-as-long",
    allowed='Base 2.0, 3.3.3.2.1 "Status Field Definition", CRD: the least delay before a retry',
    scenarios=DELAYED,
)
class WaitsTwiceAsLong(Execution):
    """Waits twice as long before a retry as the controller asks by CRD."""

    def retry_delay(self, request: Request) -> float:
        """Return twice the delay."""
        return 2 * super().retry_delay(request)


@variant(
    "reset/no-retry-delays",
    allowed='Base 2.0, 3.3.3.2.1 "Status Field Definition", CRD: reserved unless the host has set ACRE, which it need not do',
    scenarios=DELAYED,
)
class NoRetryDelays(Controller):
    """Enables no command retry delays, and retries at once."""

    def enable_retry_delays(self) -> None:
        """Leave ACRE 0, so that CRD has no meaning."""


@variant(
    "identify/administrative-log",
    allowed='Base 2.0, 3.1.2 "Controller Types", figure 28: an administrative controller has Get Log Page',
    scenarios=("identify/administrative",),
)
class AdministrativeLog(Controller):
    """Reads the error log of an administrative controller where others create their I/O queues."""

    def prepare_io(self) -> None:
        """Read the error log of an administrative controller; create the queues of any other."""
        super().prepare_io()
        if self.is_administrative:
            self.health.log(Lid.ERROR_INFORMATION, 64)
