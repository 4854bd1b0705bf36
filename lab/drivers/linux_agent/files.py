"""Files of a file system on a namespace, which is mounted read-only for each of them."""

import ctypes
import os
import subprocess
from pathlib import Path

from lab.drivers.linux_agent.answers import Fields
from lab.drivers.linux_agent.modules import LIBC
from lab.drivers.linux_agent.sysfs import find_disk

MOUNT_POINT = Path("/mnt/nvme-lab")
MS_RDONLY = 1  # linux/mount.h
OPTIONS = {"ext4": b"norecovery", "xfs": b"norecovery"}
"""Mounted read-only, XFS still clears stale blocks of its log (fs/xfs/xfs_log_recover.c), unless it leaves the log alone."""


def mount(request: Fields) -> bytes:
    """Return the bytes of ``file``. OSError with the kernel's errno if it cannot be mounted or read."""
    node, _ = find_disk(request)
    kind = request["filesystem"]
    subprocess.run(["modprobe", kind], check=False)  # what is built in needs none; what is missing mount(2) says
    MOUNT_POINT.mkdir(parents=True, exist_ok=True)
    if LIBC.mount(node.encode(), bytes(MOUNT_POINT), kind.encode(), MS_RDONLY, OPTIONS.get(kind)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    try:
        return Path(MOUNT_POINT, str(request["file"])).read_bytes()
    finally:
        LIBC.umount(bytes(MOUNT_POINT))
