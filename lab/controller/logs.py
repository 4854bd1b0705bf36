"""Log pages: what the controller remembers of itself. Base 2.0, 5.16.1 "Log Specific Information"."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from lab.controller import transfer
from lab.controller.request import Failed, Request
from lab.nvme.commands import BROADCAST_NSID, GetLogPage, LbaCommand
from lab.nvme.features import Fid
from lab.nvme.logs import (
    KELVIN,
    ChangedNamespaces,
    CommandsSupported,
    CriticalWarning,
    ErrorInformation,
    FirmwareSlots,
    Lid,
    Smart,
)
from lab.nvme.status import Status

if TYPE_CHECKING:
    from lab.controller.commands import Row
    from lab.controller.controller import Controller

CELSIUS = 40
"""The temperature that the controller reports."""


class Logs:
    """One controller's. They survive resets, as what they tell about does."""

    def __init__(self, controller: Controller) -> None:
        self._c = controller
        self._errors: deque[ErrorInformation] = deque(maxlen=controller.identity.ELPE + 1)
        self._error_count = 0
        self.reads = self.writes = self.blocks_read = self.blocks_written = 0  # blocks of 512 bytes
        self.media_errors = self.power_cycles = self.unsafe_shutdowns = 0
        self.warning = 0  # critical warning bits that the lab has set
        self.celsius = CELSIUS
        self.changed_namespaces: set[int] = set()
        self._began = controller.clock.now()

    def error(self, request: Request, status: int) -> bool:
        """Keeps an entry of a command that failed; whether there is now more about it to read."""
        self._error_count += 1
        command = getattr(request, "command", None)
        self._errors.appendleft(
            ErrorInformation.of(
                ERROR_COUNT=self._error_count,
                SQID=request.sq.qid,
                CID=request.cid,
                P=request.sq.cq.phase,
                STATUS=status,
                LBA=command.SLBA if isinstance(command, LbaCommand) else 0,
                NSID=request.nsid,
            )
        )
        self.media_errors += status >> 8 & 7 == 2
        return True

    def errors(self) -> bytes:
        size = (self._c.identity.ELPE + 1) * ErrorInformation.SIZE
        return b"".join(self._errors).ljust(size, b"\0")

    @property
    def critical_warning(self) -> int:
        """SMART's bits: the lab's, and whether the temperature is at a threshold (feature 04h) or beyond."""
        over, under = (self._c.features.value(Fid.TEMPERATURE_THRESHOLD, which) for which in (0, 1))
        beyond = not under < self.celsius + KELVIN < over
        return self.warning | CriticalWarning.of(TEMPERATURE=beyond)

    def smart(self) -> bytes:
        return Smart.of(
            CRITICAL_WARNING=self.critical_warning, TEMPERATURE=self.celsius + KELVIN, AVAILABLE_SPARE=100, SPARE_THRESHOLD=10,
            DATA_UNITS_READ=-(-self.blocks_read // 1000), DATA_UNITS_WRITTEN=-(-self.blocks_written // 1000),
            HOST_READS=self.reads, HOST_WRITES=self.writes, POWER_CYCLES=self.power_cycles,
            POWER_ON_HOURS=int(self._c.clock.now() - self._began) // 3600, UNSAFE_SHUTDOWNS=self.unsafe_shutdowns,
            MEDIA_ERRORS=self.media_errors, ERROR_LOG_ENTRIES=self._error_count,
        )  # fmt: skip

    def firmware(self) -> bytes:
        return FirmwareSlots.of(ACTIVE=1, FRS1=self._c.identity.FR)

    def changes(self) -> bytes:
        """The changed namespaces, which are forgotten by being read."""
        changed = sorted(self.changed_namespaces)
        self.changed_namespaces.clear()
        return ChangedNamespaces.of(NSID=changed if len(changed) <= 1024 else [BROADCAST_NSID])

    def effects(self) -> bytes:
        from lab.controller import admin, io

        def effects(table: dict[int, Row]) -> list[int]:
            return [table[n].effects if n in table and table[n].supported(self._c) else 0 for n in range(256)]

        return CommandsSupported.of(ACS=effects(admin.COMMANDS), IOCS=effects(io.COMMANDS))


PAGES: dict[int, Callable[[Logs], bytes]] = {
    Lid.ERROR_INFORMATION: Logs.errors,
    Lid.SMART: Logs.smart,
    Lid.FIRMWARE_SLOT: Logs.firmware,
    Lid.CHANGED_NAMESPACES: Logs.changes,
    Lid.COMMANDS_SUPPORTED: Logs.effects,
}
"""The log pages that the controller has."""


def get_log_page(c: Controller, request: Request) -> int:
    """Get Log Page."""
    command = request.command
    assert isinstance(command, GetLogPage)
    page = PAGES.get(command.LID)
    if page is None:
        raise Failed(Status.LOG_PAGE_INVALID)
    if command.LID == Lid.SMART and request.nsid not in (0, BROADCAST_NSID):
        if not c.identity.LPA.SMART_PER_NAMESPACE:
            raise Failed(Status.INVALID_FIELD)
        c.namespace(request.nsid)
    if command.OT or command.offset & 3:
        raise Failed(Status.INVALID_FIELD)
    content = page(c.logs)
    if command.offset > len(content):
        raise Failed(Status.INVALID_FIELD)
    wanted = content[command.offset : command.offset + command.data_length]
    transfer.send(c, request, wanted.ljust(command.data_length, b"\0"))
    if not command.RAE:
        c.events.log_read(command.LID)
    return 0
