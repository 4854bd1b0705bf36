"""What a device refuses before the kernel sees it, and what becomes of the kernel's answers; the kernel is a function here."""

from __future__ import annotations

import errno
import fcntl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.nvme.commands import Read
from lab.passthrough import commands, structures
from lab.passthrough.device import Device
from lab.passthrough.errors import (
    BadLengthError,
    ClosedError,
    MountedError,
    NeedsYesError,
    NoDeviceError,
    NoPermissionError,
    NotOfferedError,
    PassthroughError,
    TimedOutError,
    WrongNamespaceError,
)
from lab.passthrough.host import Host
from lab.passthrough.interfaces import Interface
from lab.passthrough.lengths import Format
from lab.passthrough.queue import Queue
from lab.passthrough.request import CommandFailedError, Request
from lab.passthrough.structures import Ioctl

NSID = 3


class Kernel:
    """Answers ioctls of a namespace of 512-byte blocks; keeps the opcodes that it got."""

    def __init__(self) -> None:
        self.opcodes: list[int] = []
        self.status, self.result, self.error = 0, 0, 0
        self.release = threading.Event()
        self.release.set()

    def ioctl(self, _descriptor: int, number: int, raw: bytearray | None = None) -> int:
        if raw is None:
            assert number == structures.ID
            return NSID
        if raw[0] == 0x06 and raw[40] == 0:
            return 0
        assert self.release.wait(10)
        self.opcodes.append(raw[0])
        if self.error:
            raise OSError(self.error, "as the test has it")
        if number in (Ioctl.IO64_CMD, Ioctl.ADMIN64_CMD):
            raw[72:80] = self.result.to_bytes(8, "little")
        return self.status


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(fcntl, "ioctl", made.ioctl)
    return made


@pytest.fixture
def device(kernel: Kernel, tmp_path: Path) -> Iterator[Device]:
    """Open a namespace node of a machine on which nothing is mounted."""
    (tmp_path / "nvme0n1").touch()
    with Device(str(tmp_path / "nvme0n1"), host=Host(tmp_path)) as opened:
        opened.format = Format(512)
        yield opened


def test_all_status_bits_and_both_dwords_come_back(kernel: Kernel, device: Device) -> None:
    kernel.status, kernel.result = 0x7281, 0x1122_3344_5566_7788
    answer = device.submit(commands.read(NSID, 0, 1, 512))
    assert (answer.status_field, answer.completion.DW0, answer.completion.DW1) == (0x7281, 0x5566_7788, 0x1122_3344)
    assert (answer.completion.SCT, answer.completion.SC, answer.completion.DNR) == (2, 0x81, 1)
    with pytest.raises(CommandFailedError, match="do not retry"):
        answer.check()


def test_the_narrow_interfaces_say_what_they_do_not_carry(device: Device) -> None:
    one = device.submit(commands.read(NSID, 0, 1, 512), interface=Interface.IO_CMD)
    none = device.submit(commands.read(NSID, 0, 1, 512), interface=Interface.SUBMIT_IO)
    assert (one.dw0_known, one.dw1_known, none.dw0_known) == (True, False, False)
    with pytest.raises(NotOfferedError, match="Read, Write and Compare only"):
        device.submit(commands.flush(NSID), interface=Interface.SUBMIT_IO)


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (commands.read(NSID + 1, 0, 1, 512), WrongNamespaceError),
        (commands.format_nvm(NSID), NeedsYesError),
        (commands.read(NSID, 0, 1, 4096), BadLengthError),
    ],
)
def test_what_must_not_be_sent_never_gets_to_the_kernel(
    request_: Request, error: type[PassthroughError], kernel: Kernel, device: Device
) -> None:
    with pytest.raises(error):
        device.submit(request_)
    assert kernel.opcodes == []


def test_a_yes_sends_it(kernel: Kernel, device: Device) -> None:
    device.submit(commands.format_nvm(NSID), yes=True)
    assert kernel.opcodes == [0x80]


def test_a_format_of_all_namespaces_does_not_go_through_the_node_of_one(device: Device) -> None:
    with pytest.raises(WrongNamespaceError):
        device.submit(commands.format_nvm(0xFFFF_FFFF), yes=True)


def test_what_is_mounted_meanwhile_is_not_written(kernel: Kernel, device: Device, tmp_path: Path) -> None:
    mounts = tmp_path / "proc/self/mounts"
    mounts.parent.mkdir(parents=True)
    mounts.write_text("/dev/nvme0n1 /srv ext4 rw 0 0\n")
    with pytest.raises(MountedError, match="mounted on /srv"):
        device.submit(commands.write(NSID, 0, bytes(512), 512))
    assert kernel.opcodes == []
    with pytest.raises(MountedError):
        Device(device.path, host=Host(tmp_path))
    Device(device.path, host=Host(tmp_path), mounted_too=True).close()


def test_a_closed_device_sends_nothing(kernel: Kernel, device: Device) -> None:
    device.close()
    with pytest.raises(ClosedError):
        device.submit(commands.read(NSID, 0, 1, 512))
    assert kernel.opcodes == []


@pytest.mark.parametrize(
    ("number", "error"),
    [(errno.EINTR, TimedOutError), (errno.EACCES, NoPermissionError), (errno.ENOTTY, NotOfferedError),
     (errno.ENODEV, NoDeviceError), (errno.EINVAL, PassthroughError)],
)  # fmt: skip
def test_an_error_of_the_kernel_has_its_reason(
    number: int, error: type[PassthroughError], kernel: Kernel, device: Device
) -> None:
    kernel.error = number
    with pytest.raises(error, match=f"Read by io64: {errno.errorcode[number]}"):
        device.submit(commands.read(NSID, 0, 1, 512))


def test_a_node_that_is_not_there_is_no_device(tmp_path: Path) -> None:
    with pytest.raises(NoDeviceError):
        Device(str(tmp_path / "nvme5n1"), host=Host(tmp_path))


def test_a_partition_is_no_namespace(tmp_path: Path) -> None:
    with pytest.raises(NotOfferedError, match="whole namespace /dev/nvme0n1"):
        Device(str(tmp_path / "nvme0n1p1"), host=Host(tmp_path))


def test_a_prepared_request_is_sent_as_often_as_asked(kernel: Kernel, device: Device) -> None:
    prepared = device.prepare(commands.read(NSID, 0, 1, 512))
    assert [prepared.status() for _ in range(3)] == [0, 0, 0]
    assert prepared.send().completion.ok
    assert kernel.opcodes == [Read.OPCODE] * 4


def test_a_queue_keeps_many_outstanding_and_waits_for_them_at_its_end(kernel: Kernel, device: Device) -> None:
    kernel.release.clear()
    with Queue(device, depth=4, uring=False) as queue:
        promises = [queue.submit(commands.read(NSID, lba, 1, 512)) for lba in range(4)]
        assert not any(promise.done() for promise in promises)
        kernel.release.set()
    assert all(promise.result().completion.ok for promise in promises)
    assert len(kernel.opcodes) == 4
    with pytest.raises(ClosedError):
        queue.submit(commands.read(NSID, 0, 1, 512))


def test_a_queue_refuses_what_the_device_refuses(device: Device) -> None:
    with Queue(device, depth=1, uring=False) as queue, pytest.raises(NeedsYesError):
        queue.submit(commands.format_nvm(NSID))


def test_an_io_uring_needs_a_character_device(device: Device) -> None:
    with pytest.raises(NotOfferedError, match="character device"):
        Queue(device, uring=True)
