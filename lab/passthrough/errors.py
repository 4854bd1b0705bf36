"""What a passthrough refuses, each with a reason that a program can read."""

from __future__ import annotations

import errno


class PassthroughError(Exception):
    """A command that never reached the device, or whose answer never came. ``reason`` is a word for programs."""

    reason = "refused"


class NoDeviceError(PassthroughError):
    """There is no such device node, or the device has gone."""

    reason = "no-device"


class NoPermissionError(PassthroughError):
    """The operating system does not let this user send the command."""

    reason = "no-permission"


class MountedError(PassthroughError):
    """A file system lives on the namespace; the message names its mount point."""

    reason = "mounted"


class NeedsYesError(PassthroughError):
    """The command destroys data and was not confirmed; the message names what would be lost."""

    reason = "needs-yes"


class BadLengthError(PassthroughError):
    """The buffer is not as long as the command moves, or the device would write past its end."""

    reason = "bad-length"


class WrongNamespaceError(PassthroughError):
    """The command names another namespace than the opened one."""

    reason = "wrong-namespace"


class ClosedError(PassthroughError):
    """The device was closed before the command."""

    reason = "closed"


class TimedOutError(PassthroughError):
    """The controller did not answer in time; the command may have been carried out or not."""

    reason = "timeout"


class NotOfferedError(PassthroughError):
    """The kernel, or the interface, cannot carry this command."""

    reason = "not-offered"


BY_ERRNO: dict[int, type[PassthroughError]] = {
    errno.ENOENT: NoDeviceError, errno.ENXIO: NoDeviceError, errno.ENODEV: NoDeviceError,
    errno.EACCES: NoPermissionError, errno.EPERM: NoPermissionError,
    errno.EBADF: ClosedError,
    errno.EINTR: TimedOutError, errno.ETIMEDOUT: TimedOutError, errno.ETIME: TimedOutError,
    errno.ENOTTY: NotOfferedError, errno.EOPNOTSUPP: NotOfferedError, errno.ENOSYS: NotOfferedError,
}  # fmt: skip
"""What the kernel's errors mean here. EINTR is how its NVMe driver answers for a command that it cancelled after a time-out
(drivers/nvme/host/ioctl.c, NVME_REQ_CANCELLED): the wait itself cannot be interrupted."""


def from_os(error: OSError, what: str) -> PassthroughError:
    """Return the error that stands for one of the operating system's; ``what`` was tried."""
    name = errno.errorcode.get(error.errno or 0, str(error.errno))
    return BY_ERRNO.get(error.errno or 0, PassthroughError)(f"{what}: {name}, {error.strerror}")
