"""NVMe-MI commands in band: what NVMe-MI Send and Receive carry, and the structures that they return.

Management Interface 1.2, 4.3 "In-Band Tunneling Message Servicing Model", 5 "Management Interface Command Set". A request's
four dwords are dwords 10 to 13 of the command; the response's status and its 24 bits are dword 0 of the completion.
"""

from __future__ import annotations

from enum import IntEnum

from lab.nvme.fields import U8, U16, Bits, Nested, Register, Structure
from lab.nvme.logs import CriticalWarning

MESSAGE_TYPE, COMMAND = 0x04, 0x1
"""The header's message type for NVMe, and its NVMe-MI message type for a command of this set. 3.1 "NVMe-MI Messages"."""


class Opcode(IntEnum):
    """The commands used here. Figure 57."""

    READ_DATA_STRUCTURE = 0x00
    SUBSYSTEM_HEALTH = 0x01
    CONTROLLER_HEALTH = 0x02
    CONFIGURATION_SET = 0x03


class ResponseStatus(IntEnum):
    """The status of a response. 4.1.2 "Response Messages"."""

    SUCCESS = 0x00
    INTERNAL_ERROR = 0x02
    INVALID_OPCODE = 0x03
    INVALID_PARAMETER = 0x04


class DataStructure(IntEnum):
    """What Read NVMe-MI Data Structure can return. Figure 90."""

    SUBSYSTEM = 0x00
    CONTROLLER_LIST = 0x02
    CONTROLLER = 0x03


HEALTH_STATUS_CHANGE = 0x02
"""The configuration that clears bits of the Composite Controller Status. 5.2.2."""


class Response(Register):
    """Dword 0 of the completion. Figure 53."""

    STATUS = Bits(7, 0)
    VALUE = Bits(31, 8)


class ReadDataStructure(Register):
    """Dword 0 of Read NVMe-MI Data Structure. Figure 90."""

    CTRLID = Bits(15, 0)
    PORTID = Bits(23, 16)
    DTYP = Bits(31, 24)


class SubsystemPoll(Register):
    """Dword 1 of NVM Subsystem Health Status Poll. Figure 88."""

    CLEAR_STATUS = Bits(31)


class ControllerPoll(Register):
    """Dword 0 of Controller Health Status Poll. Figure 76."""

    SCTLID = Bits(15, 0)
    MAXRENT = Bits(23, 16)  # 0's based
    INCF = Bits(24)
    INCPF = Bits(25)
    INCVF = Bits(26)
    ALL = Bits(31)


class SubsystemInformation(Structure, size=32):
    """NVM Subsystem Information. Figure 93."""

    NUMP = U8(0)  # 0's based
    MJR = U8(1)
    MNR = U8(2)


class ControllerInformation(Structure, size=32):
    """Controller Information. 5.7, data structure type 03h."""

    PORTID = U8(0)
    PRII = U8(5)
    PRI = U16(6)
    VID = U16(8)
    DID = U16(10)
    SSVID = U16(12)
    SSID = U16(14)


class SubsystemStatus(Register, size=1):
    """NVM Subsystem Status. Figure 89."""

    PORT_1_ACTIVE = Bits(2)
    PORT_0_ACTIVE = Bits(3)
    RESET_NOT_REQUIRED = Bits(4)
    FUNCTIONAL = Bits(5)


class ControllerStatus(Register, size=2):
    """Controller status bits, as a state or as what has changed. Figures 79, 80 and 89."""

    READY = Bits(0)
    FATAL = Bits(1)
    SHUTDOWN = Bits(3, 2)
    SUBSYSTEM_RESET = Bits(4)
    ENABLE_CHANGED = Bits(5)
    NAMESPACE_CHANGED = Bits(6)
    FIRMWARE_ACTIVATED = Bits(7)
    STATUS_CHANGED = Bits(8)
    TEMPERATURE_CHANGED = Bits(9)
    USED_CHANGED = Bits(10)
    SPARE_CHANGED = Bits(11)
    WARNING_CHANGED = Bits(12)


class SubsystemHealth(Structure, size=8):
    """NVM Subsystem Health Data Structure. Figure 89."""

    NSS = Nested(0, SubsystemStatus)
    SW = Nested(1, CriticalWarning)  # inverted: 0 means a warning
    CTEMP = U8(2)  # two's complement, degrees Celsius
    PDLU = U8(3)  # percent
    CCS = Nested(4, ControllerStatus)


class ControllerHealth(Structure, size=16):
    """Controller Health Data Structure. Figure 79."""

    CTLID = U16(0)
    CSTS = Nested(2, ControllerStatus)
    CTEMP = U16(4)  # kelvin
    PDLU = U8(6)  # percent
    SPARE = U8(7)  # percent
    CWARN = Nested(8, CriticalWarning)
