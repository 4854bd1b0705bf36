"""Kernel modules, by the system calls of insmod and rmmod."""

import ctypes
import errno
import os
import subprocess
import time
from pathlib import Path

from lab.drivers.linux_agent.answers import RefusedError
from lab.drivers.linux_agent.buffers import OpenFile
from lab.drivers.linux_agent.sysfs import POLL_SECONDS

LIBC = ctypes.CDLL(None, use_errno=True)
FINIT_MODULE, DELETE_MODULE = 313, 176  # of x86-64, arch/x86/entry/syscalls/syscall_64.tbl
MODULE_ERRORS = {
    errno.ENOEXEC: "not a module for this kernel",
    errno.ENOENT: "unknown symbol, or unknown parameter",
    errno.ESRCH: "wrong version of a symbol",
    errno.EBUSY: "in use",
    errno.EAGAIN: "in use",
}
"""What these mean for a module (init_module(2)); all others mean what they mean elsewhere."""
NOTHING = "nls_ascii"
"""A module that does nothing and that is not needed."""


def insert(modules: list[tuple[str, str]]) -> None:
    """Load modules, (file, parameters) each. RefusedError with the reason of the kernel."""
    for module, parameters in modules:
        with OpenFile(Path(module), os.O_RDONLY) as file:
            _module_call(FINIT_MODULE, module, file, parameters.encode(), 0)


def remove(module: str, timeout_seconds: float) -> None:
    """Unload a module; one that is in use is waited for. RefusedError with the reason of the kernel."""
    _module_call(DELETE_MODULE, module, module.encode(), os.O_NONBLOCK, timeout_seconds=timeout_seconds)


def _module_call(call: int, module: str, *arguments: int | bytes, timeout_seconds: float = 0) -> None:
    """Make the system call of insmod or rmmod; running these programs would double the time in which a fork loads a driver.

    A module that is in use is waited for, as ``modprobe -r --wait`` does: newer kernels read the partitions of a disk and close
    it again on a work queue, after its driver has been loaded.
    """
    end = time.monotonic() + timeout_seconds
    while LIBC.syscall(call, *arguments):
        number = ctypes.get_errno()
        if number != errno.EAGAIN or time.monotonic() > end:
            raise RefusedError(f"{Path(module).name}: {MODULE_ERRORS.get(number, os.strerror(number))}")
        time.sleep(POLL_SECONDS)


def wait_for_probes() -> None:
    """Wait until the kernel has ended all probes, the search for namespaces included.

    The kernel waits itself whenever a module is removed or loaded (kernel/module/main.c), so an empty one is loaded.
    """
    if LIBC.syscall(DELETE_MODULE, NOTHING.encode(), os.O_NONBLOCK):
        subprocess.run(["modprobe", NOTHING])
