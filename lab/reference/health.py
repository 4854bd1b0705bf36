"""Log pages, and the SMART figures. Base 2.0, 5.16 "Get Log Page command"."""

from __future__ import annotations

from lab.nvme.commands import BROADCAST_NSID, GetLogPage
from lab.nvme.logs import ErrorInformation, Lid, Smart
from lab.reference.core import Core
from lab.reference.execution import Execution


class Health:
    """The log pages of one controller."""

    def __init__(self, core: Core, execution: Execution) -> None:
        """Take the controller whose log pages are read."""
        self._c, self._execution = core, execution

    def log(self, lid: int, length: int, *, nsid: int = BROADCAST_NSID) -> bytes:
        """Return the first ``length`` bytes (a multiple of 4) of a log page, which clears the event that named it.

        A page longer than one command may move is read in parts. Of a controller without offsets (LPA bit 2) only the
        beginning can be read, and that is returned.
        """
        step = min(length, self._c.max_transfer or length)
        reached = length if self.offsets else step
        parts = []
        for at in range(0, reached, step):
            count = min(step, reached - at)
            parts.append(self._execution.admin_in(self.command(lid, count, at, nsid), count))
        return b"".join(parts)

    @property
    def offsets(self) -> bool:
        """Whether a log page may be read from its middle. Base 2.0, 5.17.2.1: LPA."""
        return bool(self._c.known_identity.LPA.EXTENDED_DATA)

    def command(self, lid: int, length: int, offset: int, nsid: int) -> GetLogPage:
        """Return Get Log Page, whose number of dwords is 0's based."""
        return GetLogPage.reading(lid, length, offset, NSID=nsid)

    def smart(self) -> Smart:
        """Read SMART / Health Information of the whole controller. Temperatures are in kelvin, counters have 128 bits."""
        return Smart(self.log(Lid.SMART, Smart.SIZE))

    def errors(self) -> list[ErrorInformation]:
        """Read the Error Information entries in use, newest first."""
        size = ErrorInformation.SIZE
        raw = self.log(Lid.ERROR_INFORMATION, self.error_entries * size)
        entries = [ErrorInformation(raw[at : at + size]) for at in range(0, len(raw), size)]
        return [entry for entry in entries if entry.ERROR_COUNT]

    @property
    def error_entries(self) -> int:
        """The number of entries that the error log can hold: ELPE is 0's based. Base 2.0, 5.17.2.1."""
        return self._c.known_identity.ELPE + 1
