"""Get and Set Features. Base 2.0, 5.15 and 5.27."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.nvme import features
from lab.nvme.commands import GetFeatures, Select, SetFeatures
from lab.nvme.features import Fid
from lab.reference.errors import Refused

if TYPE_CHECKING:
    from lab.reference.controller import Controller


class Features:
    """One controller's. Values are dword 11 of Set Features and dword 0 of Get Features' completion."""

    def __init__(self, controller: Controller) -> None:
        self._c = controller

    def get(self, fid: int, select: Select = Select.CURRENT, *, nsid: int = 0, cdw11: int = 0) -> tuple[int, bytes]:
        """(value, data) of a feature; most have no data. Another value than the current one needs bit 4 of ONCS."""
        if select != Select.CURRENT:
            self._need_save_and_select()
        command = GetFeatures.of(FID=fid, SEL=select, NSID=nsid, CDW11=cdw11)
        length = self._length(command.data_length, fid)
        if not length:
            return self._c.execution.admin(command).DW0, b""
        with self._c.data.buffer(length) as memory:
            completion = self._c.execution.with_data(self._c.admin, command, memory, length)
            return completion.DW0, memory.read(0, length)

    def set(self, fid: int, value: int, *, save: bool = False, nsid: int = 0, data: bytes = b"") -> int:
        """Sets a feature; what the completion tells in dword 0. To save it needs bit 4 of ONCS."""
        if save:
            self._need_save_and_select()
        if fid == Fid.NUMBER_OF_QUEUES and self._c.io:
            raise Refused("Number of Queues cannot be set any more: there are I/O queues")
        command = SetFeatures.of(FID=fid, SV=save, NSID=nsid, CDW11=value)
        length = self._length(command.data_length, fid)
        if len(data) != length:
            raise Refused(f"feature {fid:02X}h takes {length} bytes of data, not {len(data)}")
        return (self._c.execution.admin_out(command, data) if length else self._c.execution.admin(command)).DW0

    def _length(self, length: int | None, fid: int) -> int:
        if length is None:
            raise Refused(f"feature {fid:02X}h is the vendor's own: nobody knows how much data it moves")
        return length

    def _need_save_and_select(self) -> None:
        assert self._c.identity is not None
        if not self._c.identity.ONCS.SAVE_AND_SELECT:
            raise Refused("the controller has only current values of features: bit 4 of ONCS is 0")


def fits(fid: int, **fields: int) -> int:
    """The value of a feature with these fields; Refused for a field that it has not, or a number that does not fit."""
    try:
        return int(features.VALUES[Fid(fid)].of(**fields))
    except (KeyError, ValueError) as error:
        raise Refused(f"feature {fid:02X}h: {error}") from error
