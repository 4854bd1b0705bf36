"""Get and Set Features. Base 2.0, 5.15 and 5.27."""

from __future__ import annotations

from lab.nvme.commands import GetFeatures, Select, SetFeatures
from lab.nvme.features import Fid
from lab.reference.core import Core
from lab.reference.data import DataPath
from lab.reference.errors import Refused
from lab.reference.execution import Execution


class Features:
    """The features of one controller. Values are dword 11 of Set Features and dword 0 of Get Features' completion."""

    def __init__(self, core: Core, data: DataPath, execution: Execution) -> None:
        """Take the controller whose features are read and set."""
        self._c, self._data, self._execution = core, data, execution

    def get(self, fid: int, select: Select = Select.CURRENT, *, nsid: int = 0, cdw11: int = 0) -> tuple[int, bytes]:
        """Return (value, data) of a feature; most have no data. Other values than the current one need bit 4 of ONCS."""
        if select != Select.CURRENT:
            self._need_save_and_select()
        command = GetFeatures.of(FID=fid, SEL=select, NSID=nsid, CDW11=cdw11)
        length = self._length(command.data_length, fid)
        if not length:
            return self._execution.admin(command).DW0, b""
        with self._data.buffer(length) as memory:
            completion = self._execution.with_data(self._c.admin, command, memory, length)
            return completion.DW0, memory.read(0, length)

    def set(self, fid: int, value: int, *, save: bool = False, nsid: int = 0, data: bytes = b"") -> int:
        """Set a feature and return dword 0 of the completion. Saving needs bit 4 of ONCS."""
        if save:
            self._need_save_and_select()
        if fid == Fid.NUMBER_OF_QUEUES and self._c.io:
            raise Refused("Number of Queues cannot be set any more: there are I/O queues")
        command = SetFeatures.of(FID=fid, SV=save, NSID=nsid, CDW11=value)
        length = self._length(command.data_length, fid)
        if len(data) != length:
            raise Refused(f"feature {fid:02X}h takes {length} bytes of data, not {len(data)}")
        return (self._execution.admin_out(command, data) if length else self._execution.admin(command)).DW0

    def _length(self, length: int | None, fid: int) -> int:
        if length is None:
            raise Refused(f"feature {fid:02X}h is vendor specific: the length of its data is not known")
        return length

    def _need_save_and_select(self) -> None:
        if not self._c.known_identity.ONCS.SAVE_AND_SELECT:
            raise Refused("the controller has only current values of features: bit 4 of ONCS is 0")
