"""The buffer of IOCTL_STORAGE_PROTOCOL_COMMAND, there and back. Its layout is proven in test_layouts.py."""

from __future__ import annotations

import struct

import pytest

from lab.passthrough import commands, windows
from lab.passthrough.errors import NoDeviceError, NotOfferedError, PassthroughError
from lab.passthrough.request import Request


def head(buffer: bytes) -> dict[str, int]:
    return dict(zip(windows.FIELDS, struct.unpack_from("<17I", buffer), strict=True))


def answered(request: Request, status: int, completion: bytes, data: bytes = b"", returned: int = 0) -> bytes:
    """Return the buffer as Windows would fill it."""
    buffer = bytearray(windows.marshal(request))
    struct.pack_into("<I", buffer, windows.FIELDS.index("ReturnStatus") * 4, status)
    struct.pack_into("<I", buffer, windows.FIELDS.index("FixedProtocolReturnData") * 4, returned)
    buffer[windows.ERROR_OFFSET : windows.DATA_OFFSET] = completion
    buffer[windows.DATA_OFFSET : windows.DATA_OFFSET + len(data)] = data
    return bytes(buffer)


OK = bytes(16)
LBA_OUT_OF_RANGE = struct.pack("<IIIHH", 7, 9, 0, 0, (1 << 14 | 0x80) << 1)


def test_a_read_asks_for_its_bytes_behind_the_completion() -> None:
    request = commands.read(1, 5, 2, 512)
    buffer = windows.marshal(request)
    header = head(buffer)
    assert buffer[80:144] == request.command
    assert (header["Version"], header["Length"], header["ProtocolType"], header["CommandLength"]) == (1, 84, 3, 64)
    assert (header["DataFromDeviceTransferLength"], header["DataFromDeviceBufferOffset"]) == (1024, 160)
    assert (header["DataToDeviceTransferLength"], header["DataToDeviceBufferOffset"]) == (0, 0)
    assert (header["ErrorInfoOffset"], header["ErrorInfoLength"], header["CommandSpecific"], header["Flags"]) == (144, 16, 2, 0)
    assert len(buffer) == 160 + 1024


def test_a_write_carries_its_bytes() -> None:
    buffer = windows.marshal(commands.write(1, 5, b"ab" * 256, 512))
    header = head(buffer)
    assert (
        header["DataToDeviceTransferLength"],
        header["DataToDeviceBufferOffset"],
        header["DataFromDeviceTransferLength"],
    ) == (
        512,
        160,
        0,
    )
    assert buffer[160:] == b"ab" * 256


def test_an_admin_command_is_for_the_adapter() -> None:
    header = head(windows.marshal(commands.identify()))
    assert (header["Flags"], header["CommandSpecific"]) == (0x8000_0000, 1)


@pytest.mark.parametrize(("timeout_ms", "seconds"), [(0, 10), (1, 1), (1000, 1), (1001, 2), (600_000, 600)])
def test_time_outs_are_whole_seconds(timeout_ms: int, seconds: int) -> None:
    request = Request(commands.flush(1).command, "io", timeout_ms=timeout_ms)
    assert head(windows.marshal(request))["TimeOutValue"] == seconds


def test_metadata_cannot_be_carried() -> None:
    with pytest.raises(NotOfferedError, match="no metadata"):
        windows.marshal(commands.read(1, 0, 1, 512, metadata_size=8))


def test_an_answer_has_completion_and_data() -> None:
    request = commands.read(1, 5, 1, 512)
    answer = windows.unmarshal(request, answered(request, 1, OK, b"x" * 512)).check()
    assert answer.data == b"x" * 512


def test_all_status_bits_and_both_dwords_come_back() -> None:
    request = commands.read(1, 5, 1, 512)
    answer = windows.unmarshal(request, answered(request, 2, LBA_OUT_OF_RANGE))
    assert (answer.status_field, answer.completion.DW0, answer.completion.DW1) == (0x4080, 7, 9)
    assert (answer.completion.SCT, answer.completion.SC, answer.completion.DNR) == (0, 0x80, 1)


def test_dword_0_is_also_where_windows_repeats_it() -> None:
    request = commands.flush(1)
    assert windows.unmarshal(request, answered(request, 1, OK, returned=5)).completion.DW0 == 5


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [(4, NoDeviceError, "NO_DEVICE"), (0xFF, NotOfferedError, "NOT_SUPPORTED"), (3, PassthroughError, "INVALID_REQUEST"),
     (2, PassthroughError, "ERROR"), (0x77, PassthroughError, "INVALID_REQUEST")],
)  # fmt: skip
def test_a_command_without_a_completion_is_an_error(status: int, error: type[PassthroughError], words: str) -> None:
    request = commands.flush(1)
    with pytest.raises(error, match=f"Windows did not carry out Flush: {words}"):
        windows.unmarshal(request, answered(request, status, OK))


def test_a_buffer_cut_short_is_an_error() -> None:
    with pytest.raises(PassthroughError, match="has 100 bytes"):
        windows.unmarshal(commands.flush(1), bytes(100))
