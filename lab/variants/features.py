"""Legal ways to use features, logs and Dataset Management."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from lab.nvme.commands import DatasetManagement, Select, SetFeatures
from lab.nvme.features import Fid
from lab.nvme.ranges import DsmRange, encode_ranges
from lab.reference.controller import Controller
from lab.reference.errors import CommandFailed, DriverError
from lab.reference.features import Features
from lab.reference.namespace import Namespace
from lab.variants.variant import variant

BASIC = ("features/basic",)
TRIM = ("features/trim",)


@variant(
    "features/passes-through",
    allowed='Base 2.0, 5.27.1.5 "Number of Queues": a late one is answered with Command Sequence Error',
    scenarios=BASIC,
)
class PassesThrough(Features):
    """Sends whatever feature the user sets, Number of Queues too, and hands the answer through."""

    def set(self, fid: int, value: int, *, save: bool = False, nsid: int = 0, data: bytes = b"") -> int:
        """Set the feature; Number of Queues without the driver's own checks."""
        if fid == Fid.NUMBER_OF_QUEUES and not data and not save:
            return self._execution.admin(SetFeatures.of(FID=fid, NSID=nsid, CDW11=value)).DW0
        return super().set(fid, value, save=save, nsid=nsid, data=data)


@variant(
    "features/reads-before-use",
    allowed='Base 2.0, 5.15 "Get Features command": features may be read before they are set, and before queues exist',
    scenarios=BASIC,
)
class ReadsBeforeUse(Controller):
    """Reads the features that matter to it when it comes up."""

    def identify(self) -> None:
        """Identify, and read five features."""
        super().identify()
        for fid in (
            Fid.NUMBER_OF_QUEUES,
            Fid.ARBITRATION,
            Fid.POWER_MANAGEMENT,
            Fid.TEMPERATURE_THRESHOLD,
            Fid.ASYNC_EVENT_CONFIG,
        ):
            with suppress(CommandFailed):
                self.features.get(fid)


@variant(
    "features/reads-defaults",
    allowed='Base 2.0, 5.15 "Get Features command", SEL: default, saved and supported values where ONCS bit 4 is 1',
    scenarios=BASIC,
)
class ReadsDefaults(Features):
    """Asks for the default and the capabilities of a feature before its current value."""

    def get(self, fid: int, select: Select = Select.CURRENT, *, nsid: int = 0, cdw11: int = 0) -> tuple[int, bytes]:
        """Return the feature, its default and capabilities read before where ONCS allows it."""
        assert self._c.identity is not None
        if select == Select.CURRENT and self._c.identity.ONCS.SAVE_AND_SELECT:
            for other in (Select.DEFAULT, Select.SUPPORTED_CAPABILITIES):
                with suppress(DriverError):
                    super().get(fid, other, nsid=nsid, cdw11=cdw11)
        return super().get(fid, select, nsid=nsid, cdw11=cdw11)


@variant(
    "features/reads-back",
    allowed='Base 2.0, 5.15 "Get Features command": what was set may be read back',
    scenarios=BASIC,
)
class ReadsBack(Controller):
    """Sets arbitration bursts and a temperature threshold when it comes up, and reads both back."""

    def identify(self) -> None:
        """Identify, and set and read two features."""
        super().identify()
        for fid, value in ((Fid.ARBITRATION, 0x3), (Fid.TEMPERATURE_THRESHOLD, 0x157)):
            with suppress(CommandFailed):
                self.execution.admin(SetFeatures.of(FID=fid, CDW11=value))
                self.features.get(fid)


@variant(
    "features/sets-time",
    allowed='Base 2.0, 5.27.1.11 "Timestamp": the host sets it where ONCS bit 6 is 1',
    scenarios=BASIC,
)
class SetsTime(Controller):
    """Sets the controller's time when it comes up."""

    def identify(self) -> None:
        """Identify, and set Timestamp where ONCS has it."""
        super().identify()
        assert self.identity is not None
        if self.identity.ONCS.TIMESTAMP:
            with suppress(CommandFailed):
                self.execution.admin_out(SetFeatures.of(FID=Fid.TIMESTAMP), (1_700_000_000_000).to_bytes(8, "little"))


@variant(
    "features/trims-in-pieces",
    allowed='NVM 1.0, 3.2.3 "Dataset Management command": blocks may be deallocated by any number of ranges and commands',
    scenarios=TRIM,
)
class TrimsInPieces(Namespace):
    """Trims by several ranges of one command that follow each other."""

    def trim(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Trim each range as two halves."""
        pieces = []
        for lba, blocks in ranges:
            half = blocks // 2
            pieces += [(lba, half), (lba + half, blocks - half)] if half and blocks < 1 << 32 else [(lba, blocks)]
        super().trim(pieces)


@variant(
    "features/trims-with-hints",
    allowed='NVM 1.0, 3.2.3 "Dataset Management command": context attributes and IDR, IDW are hints',
    scenarios=TRIM,
    excludes=("features/trims-in-pieces",),
)
class TrimsWithHints(Namespace):
    """Says in Dataset Management how the range will be used, before it deallocates it."""

    def trim(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Send the first range with IDR=1 instead of AD=1, and trim."""
        assert self._c.identity is not None
        fits = [(lba, blocks) for lba, blocks in ranges[:1] if lba + blocks <= self.blocks and blocks < 1 << 32]
        if self._c.identity.ONCS.DATASET_MANAGEMENT and not self.unsupported_reason and not self._c.limits.DMRL:
            for lba, blocks in fits:
                data = encode_ranges([DsmRange.of(SLBA=lba, LENGTH=blocks)])
                with self._data.buffer(len(data)) as memory:
                    memory.write(0, data)
                    command = DatasetManagement.of(NSID=self.nsid, NR=0, IDR=1)
                    self._execution.with_data(self._c.pair(), command, memory, len(data))
        super().trim(ranges)
