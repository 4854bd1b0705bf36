"""The zones of a zoned namespace: their states, write pointers and resources. Zoned Namespace Command Set 1.1, 2.1.1."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lab.controller.fetched import CommandStatusError
from lab.nvme.status import Status
from lab.nvme.zones import ACTIVE, NO_LIMIT, OPEN, SEQUENTIAL_WRITE_REQUIRED, ZoneDescriptor, ZoneSendAction, ZoneState

NOT_WRITABLE: Mapping[ZoneState, Status] = {
    ZoneState.FULL: Status.ZONED_FULL,
    ZoneState.READ_ONLY: Status.ZONED_READ_ONLY,
    ZoneState.OFFLINE: Status.ZONED_OFFLINE,
}
RESULT: Mapping[ZoneSendAction, ZoneState] = {
    ZoneSendAction.CLOSE: ZoneState.CLOSED,
    ZoneSendAction.FINISH: ZoneState.FULL,
    ZoneSendAction.OPEN: ZoneState.EXPLICITLY_OPENED,
    ZoneSendAction.RESET: ZoneState.EMPTY,
    ZoneSendAction.OFFLINE: ZoneState.OFFLINE,
}
"""What each action makes of a zone; of one that is in that state already, nothing."""
FROM: Mapping[ZoneSendAction, frozenset[ZoneState]] = {
    ZoneSendAction.CLOSE: OPEN,
    ZoneSendAction.FINISH: ACTIVE | {ZoneState.EMPTY},
    ZoneSendAction.OPEN: frozenset({ZoneState.EMPTY, ZoneState.IMPLICITLY_OPENED, ZoneState.CLOSED}),
    ZoneSendAction.RESET: ACTIVE | {ZoneState.FULL},
    ZoneSendAction.OFFLINE: frozenset({ZoneState.READ_ONLY}),
}
"""The states from which an action on one zone leads to another. 3.4.3.1."""
FROM_ALL: Mapping[ZoneSendAction, frozenset[ZoneState]] = {
    **FROM,
    ZoneSendAction.FINISH: ACTIVE,
    ZoneSendAction.OPEN: frozenset({ZoneState.CLOSED}),
}
"""The states of the zones that Select All means. 3.4.3.1."""


@dataclass
class Zone:
    """One zone."""

    start: int
    capacity: int
    pointer: int
    state: ZoneState = ZoneState.EMPTY

    @property
    def descriptor(self) -> ZoneDescriptor:
        """Its descriptor; a full zone has no valid write pointer."""
        return ZoneDescriptor.of(
            ZT=SEQUENTIAL_WRITE_REQUIRED, ZS=self.state, ZCAP=self.capacity, ZSLBA=self.start, WP=self.pointer
        )


class Zones:
    """All zones of one namespace."""

    def __init__(self, blocks: int, zone_blocks: int, capacity: int, max_active: int = 0, max_open: int = 0) -> None:
        """Divide ``blocks`` into empty zones; no more than so many may be active and open, 0 for any number."""
        self.zone_blocks, self.capacity = zone_blocks, capacity
        self.max_active, self.max_open = max_active, max_open or max_active
        self.all = [Zone(start, capacity, start) for start in range(0, blocks, zone_blocks)]

    @property
    def limits(self) -> dict[str, int]:
        """MAR and MOR, which are 0's based."""
        return {"MAR": self.max_active - 1 & NO_LIMIT, "MOR": self.max_open - 1 & NO_LIMIT}

    def holding(self, lba: int) -> Zone:
        """Return the zone that a block is in."""
        return self.all[lba // self.zone_blocks]

    def starting(self, lba: int) -> Zone:
        """Return the zone that begins with a block. CommandStatusError if none does."""
        if lba % self.zone_blocks or lba // self.zone_blocks >= len(self.all):
            raise CommandStatusError(Status.INVALID_FIELD)
        return self.holding(lba)

    # -- reading and writing ----------------------------------------------------------------------------------------

    def check_read(self, lba: int, blocks: int) -> None:
        """Raise CommandStatusError where blocks cannot be read. 2.1.1.2.1.2."""
        if self.holding(lba).state == ZoneState.OFFLINE:
            raise CommandStatusError(Status.ZONED_OFFLINE)
        if self.holding(lba) is not self.holding(lba + blocks - 1):
            raise CommandStatusError(Status.ZONED_BOUNDARY_ERROR)

    def open_for_write(self, lba: int, blocks: int) -> None:
        """Open a zone implicitly for a write; CommandStatusError where it may not be written there. 2.1.1.2.1.1."""
        zone = self.holding(lba)
        if (status := NOT_WRITABLE.get(zone.state)) is not None:
            raise CommandStatusError(status)
        if lba + blocks > zone.start + zone.capacity:
            raise CommandStatusError(Status.ZONED_BOUNDARY_ERROR)
        if lba != zone.pointer:
            raise CommandStatusError(Status.ZONED_INVALID_WRITE)
        if zone.state not in OPEN:
            self._take_resources(zone)
            zone.state = ZoneState.IMPLICITLY_OPENED

    def wrote(self, lba: int, blocks: int) -> None:
        """Advance a write pointer; a zone whose capacity is used up is full."""
        zone = self.holding(lba)
        zone.pointer += blocks
        if zone.pointer == zone.start + zone.capacity:
            zone.state = ZoneState.FULL

    # -- actions ----------------------------------------------------------------------------------------------------

    def act(self, action: ZoneSendAction, zone: Zone) -> Iterable[Zone]:
        """Perform an action on one zone; return it if it was reset. CommandStatusError where its state forbids that."""
        if zone.state == RESULT[action]:
            return []
        if zone.state not in FROM[action]:
            raise CommandStatusError(Status.ZONED_INVALID_TRANSITION)
        if action == ZoneSendAction.OPEN and zone.state not in OPEN:
            self._take_resources(zone)
        return self._change(action, [zone])

    def act_on_all(self, action: ZoneSendAction) -> Iterable[Zone]:
        """Perform an action on all zones that it can change; return those that were reset."""
        zones = [zone for zone in self.all if zone.state in FROM_ALL[action]]
        if action == ZoneSendAction.OPEN and self.max_open and self._count(OPEN) + len(zones) > self.max_open:
            raise CommandStatusError(Status.ZONED_TOO_MANY_OPEN)
        return self._change(action, zones)

    def _change(self, action: ZoneSendAction, zones: list[Zone]) -> list[Zone]:
        for zone in zones:
            zone.state = RESULT[action]
            if action == ZoneSendAction.RESET:
                zone.pointer = zone.start
        return zones if action == ZoneSendAction.RESET else []

    def finish_active(self) -> None:
        """Make every active zone full, as when the namespace becomes write protected. 2.1.1.4.1."""
        self._change(ZoneSendAction.FINISH, [zone for zone in self.all if zone.state in ACTIVE])

    def restart(self) -> None:
        """Take the initial states after a shutdown or a reset of the subsystem: what was open is closed, or empty. 2.1.1.3."""
        for zone in self.all:
            if zone.state in ACTIVE:
                zone.state = ZoneState.EMPTY if zone.pointer == zone.start else ZoneState.CLOSED

    # -- resources --------------------------------------------------------------------------------------------------

    def _count(self, states: frozenset[ZoneState]) -> int:
        return sum(zone.state in states for zone in self.all)

    def _take_resources(self, zone: Zone) -> None:
        """Take what an open zone needs: another one that was opened implicitly is closed for it. 2.1.1.4.1."""
        if zone.state not in ACTIVE and self.max_active and self._count(ACTIVE) >= self.max_active:
            raise CommandStatusError(Status.ZONED_TOO_MANY_ACTIVE)
        if self.max_open and self._count(OPEN) >= self.max_open:
            given_up = next((one for one in self.all if one.state == ZoneState.IMPLICITLY_OPENED), None)
            if given_up is None:
                raise CommandStatusError(Status.ZONED_TOO_MANY_OPEN)
            given_up.state = ZoneState.CLOSED
