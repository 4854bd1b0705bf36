"""Log pages, and what SMART tells. Base 2.0, 5.16 "Get Log Page command"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.nvme.commands import BROADCAST_NSID, GetLogPage
from lab.nvme.logs import ErrorInformation, Lid, Smart

if TYPE_CHECKING:
    from lab.reference.controller import Controller


class Health:
    """One controller's."""

    def __init__(self, controller: Controller) -> None:
        self._c = controller

    def log(self, lid: int, length: int, *, nsid: int = BROADCAST_NSID) -> bytes:
        """The first ``length`` bytes (a multiple of 4) of a log page, which clears the event that told of it.

        A page longer than a command may move is read in parts; of a controller that knows no offsets (LPA bit 2) only its
        beginning can be had, and that is what is returned.
        """
        step = min(length, self._c.max_transfer or length)
        reached = length if self.offsets else step
        parts = []
        for at in range(0, reached, step):
            count = min(step, reached - at)
            parts.append(self._c.execution.admin_in(self.command(lid, count, at, nsid), count))
        return b"".join(parts)

    @property
    def offsets(self) -> bool:
        """May a log page be read from its middle? Base 2.0, 5.17.2.1: LPA"""
        assert self._c.identity is not None
        return bool(self._c.identity.LPA.EXTENDED_DATA)

    def command(self, lid: int, length: int, offset: int, nsid: int) -> GetLogPage:
        """The number of dwords is 0's based."""
        return GetLogPage.reading(lid, length, offset, NSID=nsid)

    def smart(self) -> Smart:
        """SMART / Health Information of the whole controller. Its temperature is in kelvin, its counters have 128 bits."""
        return Smart(self.log(Lid.SMART, Smart.SIZE))

    def errors(self) -> list[ErrorInformation]:
        """The Error Information entries that there are, newest first."""
        size = ErrorInformation.SIZE
        raw = self.log(Lid.ERROR_INFORMATION, self.error_entries * size)
        entries = [ErrorInformation(raw[at : at + size]) for at in range(0, len(raw), size)]
        return [entry for entry in entries if entry.ERROR_COUNT]

    @property
    def error_entries(self) -> int:
        """How many entries the error log can hold: ELPE is 0's based. Base 2.0, 5.17.2.1"""
        assert self._c.identity is not None
        return self._c.identity.ELPE + 1
