"""Defects of features, log pages, trimming and formatting."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from lab.defects.defect import defect
from lab.nvme.async_events import AsyncEvent, EventType
from lab.nvme.commands import Command, DatasetManagement, FormatNvm, GetLogPage, Select
from lab.nvme.features import AsyncEventConfig, Fid
from lab.nvme.identify import Oncs
from lab.nvme.logs import Lid, Smart
from lab.reference.async_events import Events
from lab.reference.controller import Controller
from lab.reference.data import DataPath
from lab.reference.errors import CommandFailed, ControllerFailed
from lab.reference.features import Features
from lab.reference.health import Health
from lab.reference.namespace import Namespace
from lab.reference.transport import Memory


@defect("features/select-gated:always-saves")
class AlwaysSaves(Features):
    """Saves a feature without a look at ONCS."""

    def _need_save_and_select(self) -> None:
        pass


@defect("features/buffer:dropped", source="Haiku bfce786a2e")
class BufferDropped(Features):
    """Asks for a feature that has data, and gives no buffer for it."""

    def _length(self, length: int | None, fid: int) -> int:
        return 0


@defect("features/queues-early:late", scenarios=("io-queues/basic",))
class LateQueues(Controller):
    """Asks once more how many queues it may have when it has created some."""

    def create_io_queues(self) -> None:
        """Create the queues, and then set Number of Queues again."""
        super().create_io_queues()
        with suppress(CommandFailed):
            self.granted_queues()


@defect("features/write-cache:inverted")
class CacheInverted(Features):
    """Takes the bit for a write cache that is off."""

    def get(self, fid: int, select: Select = Select.CURRENT, *, nsid: int = 0, cdw11: int = 0) -> tuple[int, bytes]:
        """Return the feature, with WCE inverted."""
        value, data = super().get(fid, select, nsid=nsid, cdw11=cdw11)
        return value ^ (fid == Fid.VOLATILE_WRITE_CACHE), data


@defect("features/write-cache:sets-the-opposite")
class CacheSetInverted(Features):
    """Switches the write cache off when asked to switch it on, and on when asked to switch it off."""

    def set(self, fid: int, value: int, *, save: bool = False, nsid: int = 0, data: bytes = b"") -> int:
        """Set the feature, with WCE inverted."""
        return super().set(fid, value ^ (fid == Fid.VOLATILE_WRITE_CACHE), save=save, nsid=nsid, data=data)


@defect("features/arbitration:wrong-byte")
class WrongByte(Features):
    """Sets arbitration with its fields one byte too low."""

    def set(self, fid: int, value: int, *, save: bool = False, nsid: int = 0, data: bytes = b"") -> int:
        """Set the feature; arbitration with its value shifted right by eight bits."""
        return super().set(fid, value >> 8 if fid == Fid.ARBITRATION else value, save=save, nsid=nsid, data=data)


@defect("features/unsupported:fatal")
class Fatal(Events):
    """Gives a controller up that refuses the choice of events."""

    def arm(self) -> None:
        """Send the event requests; ControllerFailed if the controller refuses the configuration."""
        super().arm()
        if self.messages:
            raise ControllerFailed(self.messages[-1])


@defect("features/unsupported:taken-for-zero")
class TakenForZero(Features):
    """Takes a feature that the controller does not have for one whose value is 0."""

    def get(self, fid: int, select: Select = Select.CURRENT, *, nsid: int = 0, cdw11: int = 0) -> tuple[int, bytes]:
        """Return the feature, and 0 where the controller refuses the command."""
        try:
            return super().get(fid, select, nsid=nsid, cdw11=cdw11)
        except CommandFailed:
            return 0, b""


@defect("features/event-mask:none")
class NoEvents(Events):
    """Waits for events, and asks for none."""

    def wanted(self) -> AsyncEventConfig:
        """Want no event."""
        return AsyncEventConfig(0)


@defect("features/event-mask:all")
class AllEvents(Events):
    """Asks for every event there is, whether the controller has it or not."""

    def wanted(self) -> AsyncEventConfig:
        """Want all of bits 8 to 15, whatever OAES says."""
        return AsyncEventConfig(super().wanted() | 0xFF00)


@defect("admin-queue/data-pointer:one-dword-more", scenarios=("features/basic",))
class OneDwordMore(Health):
    """Sends the number of dwords, where NUMD is 0's based, into a buffer that has room for it by chance."""

    def command(self, lid: int, length: int, offset: int, nsid: int) -> GetLogPage:
        """Return the command for four bytes more."""
        return super().command(lid, length + 4, offset, nsid)


@defect("features/smart:64-bits", scenarios=("features/smart",))
class CountersOf64Bits(Health):
    """Takes the counters for 64 bits wide."""

    def smart(self) -> Smart:
        """Return the log with its 128-bit counters cut to 64 bits."""
        log = super().smart()
        return log.but(HOST_WRITES=log.HOST_WRITES & (1 << 64) - 1, POWER_CYCLES=log.POWER_CYCLES & (1 << 64) - 1)


@defect("features/error-log:always-64", scenarios=("features/bare",))
class Always64(Health):
    """Takes it for granted that an error log has 64 entries."""

    @property
    def error_entries(self) -> int:
        """64, whatever ELPE says."""
        return 64


@defect("features/log-offset:always")
class AlwaysOffsets(Health):
    """Reads a long log page in parts, whatever LPA says."""

    @property
    def offsets(self) -> bool:
        """True, whatever LPA says."""
        return True


@defect("features/critical-warning:ignored")
class WarningIgnored(Events):
    """Reads the log page that an event of SMART names, and reports nothing of it."""

    def handle(self) -> None:
        """Read the log of a SMART event, and drop what it says."""
        self._c.admin.reap()
        while self._received:
            event: AsyncEvent = self._received.pop(0)
            if event.AET == EventType.SMART:
                self._health.log(Lid.SMART, 512)
            else:
                self.act(event)
            self.fill()


@defect("features/trim:one-more-range")
class OneMoreRange(DataPath):
    """Sends the number of ranges, where NR is 0's based."""

    def describe(self, command: Command, memory: Memory, offset: int, length: int, lists: list[Memory]) -> Command:
        """Return the command with NR one too large."""
        described = super().describe(command, memory, offset, length, lists)
        return described.but(NR=described.ranges) if isinstance(described, DatasetManagement) else described


@defect("features/trim:no-deallocate")
class NoDeallocate(DataPath):
    """Sends Dataset Management without the bit that says what for."""

    def describe(self, command: Command, memory: Memory, offset: int, length: int, lists: list[Memory]) -> Command:
        """Return the command with AD=0."""
        described = super().describe(command, memory, offset, length, lists)
        return described.but(AD=0) if isinstance(described, DatasetManagement) else described


@defect("features/trim-gated:blind", scenarios=("features/no-optional",))
class TrimsBlindly(Namespace):
    """Trims without a look at ONCS."""

    def trim(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Trim as if ONCS had the bit for Dataset Management."""
        identity = self._c.identity
        assert identity is not None
        self._c.identity = identity.but(ONCS=Oncs.of(DATASET_MANAGEMENT=1))
        try:
            super().trim(ranges)
        finally:
            self._c.identity = identity


@defect("features/trim-range:past-the-end", scenarios=("features/trim-past-end",))
class TrimsPastTheEnd(Namespace):
    """Trims whatever it is asked to, and leaves the end of the namespace to the controller."""

    def check_range(self, lba: int, blocks: int) -> None:
        """Let every range pass."""


@defect("features/trim-units:bytes", source="Haiku 1572bf59b7", scenarios=("features/trim",))
class TrimsBytes(Namespace):
    """Gives the length of a range in bytes."""

    def trim(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Trim ranges with their lengths in bytes."""
        super().trim([(lba, blocks * self.block_size) for lba, blocks in ranges])


@defect("features/trimmed-read:zeros", scenarios=("features/trim-keeps",))
class AssumesZeros(Namespace):
    """Returns zeros for blocks that it has trimmed, without asking the controller."""

    _trimmed: tuple[tuple[int, int], ...] = ()

    def trim(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Trim, and remember the ranges."""
        super().trim(ranges)
        self._trimmed += tuple(ranges)

    def read(self, lba: int, blocks: int, offset: int = 0) -> bytes:
        """Return zeros for a trimmed range, and read all else."""
        inside = any(first <= lba and lba + blocks <= first + count for first, count in self._trimmed)
        return bytes(blocks * self.block_size) if inside else super().read(lba, blocks, offset)


@defect("features/format-gated:blind")
class FormatsBlindly(Namespace):
    """Sends Format NVM without a look at OACS."""

    def format(self, index: int) -> None:
        """Send Format NVM without the checks before it."""
        self._execution.admin(FormatNvm.of(NSID=self.nsid, LBAFL=index & 15))
