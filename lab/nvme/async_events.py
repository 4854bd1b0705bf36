"""What the completion of an Asynchronous Event Request reports. Base 2.0, 5.2."""

from __future__ import annotations

from enum import IntEnum

from lab.nvme.fields import Bits, Register


class EventType(IntEnum):
    """Asynchronous Event Type."""

    ERROR = 0
    SMART = 1
    NOTICE = 2
    IMMEDIATE = 3
    ONE_SHOT = 4
    IO_COMMAND_SET = 6
    VENDOR = 7


class ErrorEvent(IntEnum):
    """Asynchronous Event Information of an error."""

    INVALID_DOORBELL_REGISTER = 0
    INVALID_DOORBELL_VALUE = 1
    DIAGNOSTIC_FAILURE = 2
    PERSISTENT_INTERNAL_ERROR = 3
    TRANSIENT_INTERNAL_ERROR = 4
    FIRMWARE_LOAD_ERROR = 5


class SmartEvent(IntEnum):
    """Asynchronous Event Information of a SMART / health status."""

    RELIABILITY = 0
    TEMPERATURE = 1
    SPARE = 2


class NoticeEvent(IntEnum):
    """Asynchronous Event Information of a notice."""

    NAMESPACE_ATTRIBUTE_CHANGED = 0x00
    FIRMWARE_ACTIVATION_STARTING = 0x01
    TELEMETRY_LOG_CHANGED = 0x02
    ANA_CHANGE = 0x03
    PREDICTABLE_LATENCY_CHANGE = 0x04
    LBA_STATUS_ALERT = 0x05
    ENDURANCE_GROUP_CHANGE = 0x06
    DISCOVERY_LOG_CHANGE = 0xF0


class IoCommandSetEvent(IntEnum):
    """Asynchronous Event Information of an I/O command specific status."""

    RESERVATION_LOG = 0
    SANITIZE_COMPLETED = 1
    SANITIZE_UNEXPECTED_DEALLOCATION = 2


INFORMATION: dict[EventType, type[IntEnum]] = {
    EventType.ERROR: ErrorEvent,
    EventType.SMART: SmartEvent,
    EventType.NOTICE: NoticeEvent,
    EventType.IO_COMMAND_SET: IoCommandSetEvent,
}
"""Event type to the meaning of its information byte."""


class AsyncEvent(Register):
    """Dword 0 of the completion."""

    AET = Bits(2, 0)  # type
    AEI = Bits(15, 8)  # information
    LID = Bits(23, 16)  # the log page with more about it, whose reading clears the event

    @property
    def text(self) -> str:
        """``NOTICE NAMESPACE_ATTRIBUTE_CHANGED``; numbers where a name is not known."""
        try:
            kind = EventType(self.AET)
            return f"{kind.name} {INFORMATION[kind](self.AEI).name}"
        except (KeyError, ValueError):
            return f"event type {self.AET}, information {self.AEI:#x}"
