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

        A page longer than a command may move is read in parts, where the controller knows offsets (LPA bit 2).
        """
        assert self._c.identity is not None
        limit = self._c.max_transfer or length
        step = min(length, limit) if self._c.identity.LPA.EXTENDED_DATA else length
        parts = []
        for at in range(0, length, step):
            count = min(step, length - at)
            parts.append(self._c.execution.admin_in(self.command(lid, count, at, nsid), count))
        return b"".join(parts)

    def command(self, lid: int, length: int, offset: int, nsid: int) -> GetLogPage:
        """The number of dwords is 0's based."""
        return GetLogPage.reading(lid, length, offset, NSID=nsid)

    def smart(self) -> Smart:
        """SMART / Health Information of the whole controller. Its temperature is in kelvin, its counters have 128 bits."""
        return Smart(self.log(Lid.SMART, Smart.SIZE))

    def errors(self) -> list[ErrorInformation]:
        """The Error Information entries that there are, newest first; ELPE, 0's based, says how many can be."""
        assert self._c.identity is not None
        size = ErrorInformation.SIZE
        raw = self.log(Lid.ERROR_INFORMATION, (self._c.identity.ELPE + 1) * size)
        entries = [ErrorInformation(raw[at : at + size]) for at in range(0, len(raw), size)]
        return [entry for entry in entries if entry.ERROR_COUNT]
