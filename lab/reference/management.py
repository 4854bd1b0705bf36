"""NVMe-MI in band: the management endpoint asked by NVMe-MI Send and Receive. Management Interface 1.2, 4.3 and 5."""

from __future__ import annotations

from lab.nvme import management as mi
from lab.nvme.commands import NvmeMiReceive, NvmeMiSend
from lab.reference.core import Core
from lab.reference.data import DataPath
from lab.reference.errors import ManagementFailed, Refused
from lab.reference.execution import Execution

PAGE = 4096
ALL_CONTROLLERS = mi.ControllerPoll.of(ALL=1, INCF=1, INCPF=1, INCVF=1, MAXRENT=254)


class Management:
    """The management endpoint of one controller."""

    def __init__(self, core: Core, data: DataPath, execution: Execution) -> None:
        """Take the controller that NVMe-MI is asked through, in band."""
        self._c, self._data, self._execution = core, data, execution

    def subsystem(self) -> mi.SubsystemInformation:
        """Read NVM Subsystem Information."""
        return mi.SubsystemInformation(self._structure(mi.DataStructure.SUBSYSTEM))

    def controllers(self) -> list[int]:
        """Read the identifiers of the subsystem's controllers."""
        raw = self._structure(mi.DataStructure.CONTROLLER_LIST)
        numbers = [int.from_bytes(raw[at : at + 2], "little") for at in range(0, len(raw), 2)]
        return numbers[1 : 1 + numbers[0]]

    def controller(self, number: int) -> mi.ControllerInformation:
        """Read Controller Information of a controller."""
        return mi.ControllerInformation(self._structure(mi.DataStructure.CONTROLLER, number))

    def subsystem_health(self, *, clear: bool = False) -> mi.SubsystemHealth:
        """Poll the health of the subsystem, and clear its composite status."""
        data, _ = self._receive(mi.Opcode.SUBSYSTEM_HEALTH, 0, mi.SubsystemPoll.of(CLEAR_STATUS=clear), mi.SubsystemHealth.SIZE)
        return mi.SubsystemHealth(data)

    def controller_health(self) -> list[mi.ControllerHealth]:
        """Poll the health of all controllers of the subsystem."""
        data, value = self._receive(mi.Opcode.CONTROLLER_HEALTH, ALL_CONTROLLERS, 0, PAGE)
        size = mi.ControllerHealth.SIZE
        return [mi.ControllerHealth(data[at : at + size]) for at in range(0, (value >> 16) * size, size)]

    def clear_status(self) -> None:
        """Clear the composite status by Configuration Set, which goes by NVMe-MI Send."""
        self._need_support()
        command = NvmeMiSend.of(
            MT=mi.MESSAGE_TYPE, NMIMT=mi.COMMAND, MIOPC=mi.Opcode.CONFIGURATION_SET, NMD0=mi.HEALTH_STATUS_CHANGE, NMD1=0xFFF
        )
        self._value_of(self._execution.admin(command).DW0)

    def _structure(self, kind: mi.DataStructure, number: int = 0) -> bytes:
        data, value = self._receive(mi.Opcode.READ_DATA_STRUCTURE, mi.ReadDataStructure.of(DTYP=kind, CTRLID=number), 0, PAGE)
        return data[: value & 0xFFFF]

    def _receive(self, opcode: mi.Opcode, dword_0: int, dword_1: int, length: int) -> tuple[bytes, int]:
        """Return the data and the 24 bits of a response. ManagementFailed if its status is not success."""
        self._need_support()
        command = NvmeMiReceive.of(MT=mi.MESSAGE_TYPE, NMIMT=mi.COMMAND, MIOPC=opcode, NMD0=int(dword_0), NMD1=int(dword_1))
        with self._data.buffer(length) as memory:
            value = self._value_of(self._execution.with_data(self._c.admin, command, memory, length).DW0)
            return memory.read(0, length), value

    def _value_of(self, dword: int) -> int:
        response = mi.Response(dword)
        if response.STATUS:
            known = response.STATUS in mi.ResponseStatus._value2member_map_
            name = mi.ResponseStatus(response.STATUS).name.lower().replace("_", " ") if known else "an unknown error"
            raise ManagementFailed(f"the management endpoint answered {name} ({response.STATUS:02X}h)")
        return response.VALUE

    def _need_support(self) -> None:
        if not self._c.known_identity.OACS.NVME_MI:
            raise Refused("the controller has no NVMe-MI Send and Receive: bit 6 of OACS is 0")
