"""The same requests for Windows: the buffer of IOCTL_STORAGE_PROTOCOL_COMMAND, as pure functions that run on any system.

STORAGE_PROTOCOL_COMMAND (winioctl.h) is a head of `HEAD.size` bytes, the 64-byte command, room for the 16-byte completion, then
the data. Windows itself decides which commands it lets through. Tests prove every offset against mingw-w64's headers.
"""

from __future__ import annotations

import struct
from enum import IntEnum

from lab.nvme.completions import Completion
from lab.passthrough.errors import NoDeviceError, NotOfferedError, PassthroughError, TimedOutError
from lab.passthrough.request import Answer, Request

CONTROL_CODE = 0x2D << 16 | 3 << 14 | 0x4F0 << 2
"""IOCTL_STORAGE_PROTOCOL_COMMAND: device type, access for reading and writing, function, buffered (CTL_CODE of winioctl.h)."""
HEAD = struct.Struct("<20I")
FIELDS = (
    "Version", "Length", "ProtocolType", "Flags", "ReturnStatus", "ErrorCode", "CommandLength", "ErrorInfoLength",
    "DataToDeviceTransferLength", "DataFromDeviceTransferLength", "TimeOutValue", "ErrorInfoOffset",
    "DataToDeviceBufferOffset", "DataFromDeviceBufferOffset", "CommandSpecific", "Reserved0", "FixedProtocolReturnData",
)  # fmt: skip
"""The members of the head in order, four bytes each; three reserved ones follow, and then the command."""
COMMAND_OFFSET = HEAD.size
LENGTH = 84
"""sizeof(STORAGE_PROTOCOL_COMMAND), which goes into Length: the head and, with its padding, one byte of the command."""
VERSION, NVME, COMMAND_LENGTH, ERROR_LENGTH = 1, 3, 64, 16
"""STORAGE_PROTOCOL_STRUCTURE_VERSION, ProtocolTypeNvme, STORAGE_PROTOCOL_COMMAND_LENGTH_NVME, a completion's size."""
ADAPTER_REQUEST = 0x8000_0000
"""STORAGE_PROTOCOL_COMMAND_FLAG_ADAPTER_REQUEST: the command is for the controller, not for a namespace."""
ADMIN, NVM = 1, 2
"""STORAGE_PROTOCOL_SPECIFIC_NVME_ADMIN_COMMAND and …_NVM_COMMAND."""
DEFAULT_SECONDS = 10
DWORD = 4
"""Bytes: data begins on such a boundary."""


class ReturnStatus(IntEnum):
    """STORAGE_PROTOCOL_STATUS_…: how the port driver got on."""

    PENDING = 0
    SUCCESS = 1
    ERROR = 2
    INVALID_REQUEST = 3
    NO_DEVICE = 4
    BUSY = 5
    DATA_OVERRUN = 6
    INSUFFICIENT_RESOURCES = 7
    THROTTLED_REQUEST = 8
    NOT_SUPPORTED = 0xFF


ERRORS: dict[ReturnStatus, type[PassthroughError]] = {
    ReturnStatus.NO_DEVICE: NoDeviceError, ReturnStatus.NOT_SUPPORTED: NotOfferedError, ReturnStatus.PENDING: TimedOutError,
}  # fmt: skip
"""What a status without a completion means; all others are refusals."""

ERROR_OFFSET = COMMAND_OFFSET + COMMAND_LENGTH
DATA_OFFSET = ERROR_OFFSET + ERROR_LENGTH


def marshal(request: Request) -> bytes:
    """Return the buffer for DeviceIoControl, input and output at once. NotOfferedError for what Windows cannot carry."""
    if request.metadata_size:
        raise NotOfferedError("IOCTL_STORAGE_PROTOCOL_COMMAND carries no metadata buffer")
    length = request.data_length
    outwards = request.to_controller and length > 0
    inwards = not request.to_controller and length > 0
    head = HEAD.pack(
        VERSION, LENGTH, NVME, ADAPTER_REQUEST if request.queue == "admin" else 0, 0, 0, COMMAND_LENGTH, ERROR_LENGTH,
        length if outwards else 0, length if inwards else 0, _seconds(request), ERROR_OFFSET,
        DATA_OFFSET if outwards else 0, DATA_OFFSET if inwards else 0,
        ADMIN if request.queue == "admin" else NVM, 0, 0, 0, 0, 0,
    )  # fmt: skip
    data = request.data if outwards else bytes(length)
    return head + bytes(request.command) + bytes(ERROR_LENGTH) + data + bytes(-len(data) % DWORD)


def unmarshal(request: Request, buffer: bytes) -> Answer:
    """Return the answer in the buffer that DeviceIoControl has filled.

    The completion is the error information, of which Windows fills DW3 in any case; FixedProtocolReturnData repeats DW0.
    PassthroughError where the command never got a completion.
    """
    if len(buffer) < DATA_OFFSET:
        raise PassthroughError(f"the buffer has {len(buffer)} bytes, and the answer takes {DATA_OFFSET}")
    values = dict(zip(FIELDS, HEAD.unpack(buffer[:COMMAND_OFFSET]), strict=False))
    status = _return_status(values["ReturnStatus"])
    done = Completion(buffer[ERROR_OFFSET:DATA_OFFSET])
    if status not in (ReturnStatus.SUCCESS, ReturnStatus.ERROR) or (status is ReturnStatus.ERROR and done.ok):
        kind = ERRORS.get(status, PassthroughError)
        raise kind(f"Windows did not carry out {request.name}: {status.name} (error {values['ErrorCode']:#x})")
    begin = values["DataFromDeviceBufferOffset"]
    data = buffer[begin : begin + values["DataFromDeviceTransferLength"]] if begin else b""
    if not done.DW0:
        done = done.but(DW0=values["FixedProtocolReturnData"])
    return Answer(done, data, dw1_known=True)


def _return_status(value: int) -> ReturnStatus:
    try:
        return ReturnStatus(value)
    except ValueError:
        return ReturnStatus.INVALID_REQUEST


def _seconds(request: Request) -> int:
    """Return the time-out in whole seconds, at least one."""
    return max(-(-request.timeout_ms // 1000), 1) if request.timeout_ms else DEFAULT_SECONDS
