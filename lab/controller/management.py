"""NVMe-MI Send and Receive: the management endpoint of a controller, in band. Management Interface 1.2, 4.3 and 5.

A controller has it if its Identify data say so (OACS bit 6). Errors of the tunnelled command are its response, and the NVMe
command succeeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lab.controller import transfer
from lab.controller.core import Core
from lab.controller.fetched import FetchedCommand
from lab.controller.parts import Parts
from lab.nvme import management as mi
from lab.nvme.commands import NvmeMiReceive, NvmeMiSend
from lab.nvme.logs import Smart

KELVIN = 273
PAGE = 4096

Handler = Callable[[Parts, int, int], tuple[bytes, int]]
"""Executes a command with its two dwords: returns the response's data, and its 24 bits."""


class ParameterError(Exception):
    """A field of the tunnelled command has a value that cannot be."""


def supported(core: Core) -> bool:
    """Return whether a controller has NVMe-MI Send and Receive."""
    return bool(core.identity.OACS.NVME_MI)


def receive(parts: Parts, request: FetchedCommand, command: NvmeMiReceive) -> int:
    """Execute NVMe-MI Receive: return what a tunnelled command reads."""
    return _execute(parts, request, command, READING)


def send(parts: Parts, request: FetchedCommand, command: NvmeMiSend) -> int:
    """Execute NVMe-MI Send: do what a tunnelled command says."""
    return _execute(parts, request, command, WRITING)


def _execute(
    parts: Parts, request: FetchedCommand, command: NvmeMiSend | NvmeMiReceive, handlers: Mapping[int, Handler]
) -> int:
    if (command.MT, command.NMIMT, command.ROR) != (mi.MESSAGE_TYPE, mi.COMMAND, 0):
        return int(mi.Response.of(STATUS=mi.ResponseStatus.INVALID_PARAMETER))
    handler = handlers.get(command.MIOPC)
    if handler is None:
        return int(mi.Response.of(STATUS=mi.ResponseStatus.INVALID_OPCODE))
    try:
        data, value = handler(parts, command.NMD0, command.NMD1)
    except ParameterError:
        return int(mi.Response.of(STATUS=mi.ResponseStatus.INVALID_PARAMETER))
    if data:
        transfer.send(parts.core, request, data.ljust(-(-len(data) // 4) * 4, b"\0"))
    return int(mi.Response.of(VALUE=value))


def read_data_structure(parts: Parts, dword_0: int, _dword_1: int) -> tuple[bytes, int]:
    """Return one of the NVMe-MI data structures. 5.7."""
    core, wanted = parts.core, mi.ReadDataStructure(dword_0)
    identity = core.identity
    if wanted.DTYP == mi.DataStructure.SUBSYSTEM:
        data: bytes = mi.SubsystemInformation.of(NUMP=0, MJR=1, MNR=2)
    elif wanted.DTYP == mi.DataStructure.CONTROLLER_LIST:
        listed = [identity.CNTLID] if identity.CNTLID >= wanted.CTRLID else []
        data = b"".join(number.to_bytes(2, "little") for number in (len(listed), *listed)).ljust(PAGE, b"\0")
    elif wanted.DTYP == mi.DataStructure.CONTROLLER and wanted.CTRLID == identity.CNTLID:
        config = core.config.read(0, 64)
        ids = [int.from_bytes(config[at : at + 2], "little") for at in (0, 2, 0x2C, 0x2E)]
        data = mi.ControllerInformation.of(**dict(zip(("VID", "DID", "SSVID", "SSID"), ids, strict=True)))
    else:
        raise ParameterError
    return data, len(data)


def subsystem_health(parts: Parts, _dword_0: int, dword_1: int) -> tuple[bytes, int]:
    """Return the health of the subsystem, and clear the composite status if asked. 5.6."""
    smart, status = Smart(parts.logs.smart()), parts.core.registers.csts
    warning = int(smart.CRITICAL_WARNING)
    health = mi.SubsystemHealth.of(
        NSS=mi.SubsystemStatus.of(FUNCTIONAL=not status.CFS, RESET_NOT_REQUIRED=not status.CFS, PORT_0_ACTIVE=1),
        SW=~warning & 0xFF,
        CTEMP=max(-60, min(127, smart.TEMPERATURE - KELVIN)) & 0xFF,
        PDLU=min(255, smart.PERCENTAGE_USED),
        CCS=_composite(parts),
    )
    if mi.SubsystemPoll(dword_1).CLEAR_STATUS:
        parts.core.composite_status = 0
    return health, 0


def _composite(parts: Parts) -> int:
    """Return the Composite Controller Status: the conditions that have begun since it was cleared, as far as polls saw them."""
    core, status = parts.core, parts.core.registers.csts
    conditions = mi.ControllerStatus.of(
        READY=status.RDY, FATAL=status.CFS, ENABLE_CHANGED=status.RDY, STATUS_CHANGED=status.RDY,
        WARNING_CHANGED=bool(parts.logs.critical_warning),
    )  # fmt: skip
    core.composite_status |= int(conditions) & ~core.last_conditions
    core.last_conditions = int(conditions)
    return core.composite_status


def controller_health(parts: Parts, dword_0: int, _dword_1: int) -> tuple[bytes, int]:
    """Return the health of the controller, unless the selection leaves it out. 5.3."""
    poll, smart, status = mi.ControllerPoll(dword_0), Smart(parts.logs.smart()), parts.core.registers.csts
    if poll.MAXRENT == 0xFF:
        raise ParameterError
    number = parts.core.identity.CNTLID
    if not poll.INCF or number < poll.SCTLID or not (poll.ALL or _composite(parts)):
        return b"", 0
    health = mi.ControllerHealth.of(
        CTLID=number,
        CSTS=mi.ControllerStatus.of(READY=status.RDY, FATAL=status.CFS, SHUTDOWN=status.SHST),
        CTEMP=smart.TEMPERATURE,
        PDLU=min(255, smart.PERCENTAGE_USED),
        SPARE=smart.AVAILABLE_SPARE,
        CWARN=smart.CRITICAL_WARNING,
    )
    return health, 1 << 16  # one entry


def configuration_set(parts: Parts, dword_0: int, dword_1: int) -> tuple[bytes, int]:
    """Clear bits of the Composite Controller Status. 5.2.2; other configurations belong to other transports."""
    if dword_0 & 0xFF != mi.HEALTH_STATUS_CHANGE:
        raise ParameterError
    low, high = dword_1 & 0b111, dword_1 >> 3 & 0x1FF  # from bit 3 on a bit stands for its left neighbour in the status
    parts.core.composite_status = _composite(parts) & ~(low | high << 4)
    return b"", 0


READING: Mapping[int, Handler] = {
    mi.Opcode.READ_DATA_STRUCTURE: read_data_structure,
    mi.Opcode.SUBSYSTEM_HEALTH: subsystem_health,
    mi.Opcode.CONTROLLER_HEALTH: controller_health,
}
WRITING: Mapping[int, Handler] = {mi.Opcode.CONFIGURATION_SET: configuration_set}
