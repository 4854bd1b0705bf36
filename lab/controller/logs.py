"""Log pages: what the controller remembers of itself. Base 2.0, 5.16.1 "Log Specific Information"."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable

from lab.controller.core import Core
from lab.controller.feature_values import FeatureValues
from lab.controller.fetched import FetchedCommand
from lab.nvme.commands import BROADCAST_NSID, LbaCommand, decode
from lab.nvme.features import Fid
from lab.nvme.logs import (
    KELVIN,
    Ana,
    AnaGroup,
    AnaState,
    ChangedNamespaces,
    CriticalWarning,
    ErrorInformation,
    FirmwareSlots,
    Lid,
    Smart,
)

CELSIUS = 40
"""The temperature that the controller reports."""
NO_COMMAND = 0xFFFF
"""SQID and CID of an Error Information entry that is about no command. Base 2.0, 5.16.1.2."""


class Logs:
    """One controller's. They survive resets, as what they are about does."""

    def __init__(self, core: Core, features: FeatureValues) -> None:
        """Begin at power-on; ``features`` has the temperature thresholds."""
        self._core, self._features = core, features
        self._per_namespace = bool(core.identity.LPA.SMART_PER_NAMESPACE)
        self._errors: deque[ErrorInformation] = deque(maxlen=core.identity.ELPE + 1)
        self._error_count = 0
        self.reads = self.writes = self.blocks_read = self.blocks_written = 0  # blocks of 512 bytes
        self._namespaces: dict[int, Counter[str]] = {}  # the same of each, where SMART is kept per namespace
        self.media_errors = self.unsafe_shutdowns = 0
        self.power_cycles = 1
        self.warning = 0  # critical warning bits that the lab has set
        self.celsius = CELSIUS
        self.changed_namespaces: set[int] = set()
        self._began = core.clock.now()

    def command_error(self, request: FetchedCommand, status: int) -> bool:
        """Log a command that failed; return whether there is more about it to read: there always is."""
        command = decode(request.raw, admin=False) if request.sq.qid else None
        self._error(
            SQID=request.sq.qid,
            CID=request.cid,
            P=request.sq.cq.phase,
            STATUS=status,
            LBA=command.SLBA if isinstance(command, LbaCommand) else 0,
            NSID=request.nsid,
        )
        self.media_errors += status >> 8 & 7 == 2
        return True

    def doorbell_error(self) -> None:
        """Log a doorbell write that is no command's error."""
        self.general_error(0)

    def general_error(self, status: int) -> None:
        """Log an error that belongs to no command."""
        self._error(SQID=NO_COMMAND, CID=NO_COMMAND, PEL=NO_COMMAND, STATUS=status)

    def _error(self, **fields: int) -> None:
        self._error_count += 1
        self._errors.appendleft(ErrorInformation.of(ERROR_COUNT=self._error_count, **fields))

    def errors(self) -> bytes:
        """Return Error Information, the newest entry first."""
        size = (self._core.identity.ELPE + 1) * ErrorInformation.SIZE
        return b"".join(self._errors).ljust(size, b"\0")

    @property
    def critical_warning(self) -> int:
        """SMART's bits: the lab's, and whether the temperature is at a threshold (feature 04h) or beyond."""
        over, under = (self._features.value(Fid.TEMPERATURE_THRESHOLD, which) for which in (0, 1))
        beyond = not under < self.celsius + KELVIN < over
        return self.warning | CriticalWarning.of(TEMPERATURE=beyond)

    def count(self, nsid: int, kind: str, size: int) -> None:
        """Count a Read (``kind`` read) or a Write (written) of ``size`` bytes."""
        if kind == "read":
            self.reads += 1
            self.blocks_read += size >> 9
        else:
            self.writes += 1
            self.blocks_written += size >> 9
        if self._per_namespace:
            counts = self._namespaces.setdefault(nsid, Counter())
            counts[kind] += size >> 9
            counts[f"commands {kind}"] += 1

    def namespace_smart(self, nsid: int) -> bytes:
        """Return SMART / Health Information of one namespace: the controller's, with what is counted for the namespace."""
        counts = self._namespaces.get(nsid, Counter())
        return Smart(self.smart()).but(
            DATA_UNITS_READ=-(-counts["read"] // 1000), DATA_UNITS_WRITTEN=-(-counts["written"] // 1000),
            HOST_READS=counts["commands read"], HOST_WRITES=counts["commands written"],
        )  # fmt: skip

    def smart(self) -> bytes:
        """Return SMART / Health Information."""
        return Smart.of(
            CRITICAL_WARNING=self.critical_warning, TEMPERATURE=self.celsius + KELVIN, AVAILABLE_SPARE=100, SPARE_THRESHOLD=10,
            DATA_UNITS_READ=-(-self.blocks_read // 1000), DATA_UNITS_WRITTEN=-(-self.blocks_written // 1000),
            HOST_READS=self.reads, HOST_WRITES=self.writes, POWER_CYCLES=self.power_cycles,
            POWER_ON_HOURS=int(self._core.clock.now() - self._began) // 3600, UNSAFE_SHUTDOWNS=self.unsafe_shutdowns,
            MEDIA_ERRORS=self.media_errors, ERROR_LOG_ENTRIES=self._error_count,
        )  # fmt: skip

    def firmware(self) -> bytes:
        """Return Firmware Slot Information."""
        return FirmwareSlots.of(ACTIVE=1, FRS1=self._core.identity.FR)

    def access_states(self) -> bytes:
        """Return Asymmetric Namespace Access: one group, all of whose namespaces are optimized."""
        nsids = sorted(self._core.attached)
        group = AnaGroup.of(GRPID=1, NNSIDS=len(nsids), STATE=AnaState.OPTIMIZED)
        return Ana.of(GROUPS=1) + group + b"".join(nsid.to_bytes(4, "little") for nsid in nsids)

    def take_changed_namespaces(self) -> bytes:
        """Return the Changed Namespace List, and forget it: it is cleared by being read."""
        changed = sorted(self.changed_namespaces)
        self.changed_namespaces.clear()
        return ChangedNamespaces.of(NSID=changed if len(changed) <= 1024 else [BROADCAST_NSID])


PAGES: dict[int, Callable[[Logs], bytes]] = {
    Lid.ERROR_INFORMATION: Logs.errors,
    Lid.SMART: Logs.smart,
    Lid.FIRMWARE_SLOT: Logs.firmware,
    Lid.CHANGED_NAMESPACES: Logs.take_changed_namespaces,
    Lid.ANA: Logs.access_states,
}
"""The log pages that the controller keeps; Commands Supported and Effects is made of the tables of commands."""
