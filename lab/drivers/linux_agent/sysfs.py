"""What Linux shows in sysfs of NVMe functions, controllers and disks."""

import os
import time
from pathlib import Path

from lab.drivers.linux_agent.answers import Fields, RefusedError

CLASS, BLOCK, FUNCTIONS = "/sys/class/nvme", "/sys/block", "/sys/bus/pci/devices"
NVME_CLASS = "0x0108"
ATTRIBUTE_BYTES = 4096
"""The most that an attribute holds: a page."""
UNSETTLED = {"", "new", "connecting", "resetting", "deleting", "deleting (no IO)"}
"""States of a controller on its way to another one (drivers/nvme/host/sysfs.c, nvme_sysfs_show_state); none yet, or none any
more, while the kernel adds or removes it: it is listed before it has attributes (drivers/base/core.c, device_add)."""
WORKING = "+nvme-"
"""In the name of a kernel worker that does work of the driver."""
SCAN_SECONDS = 5
"""For a scan for namespaces that commands get in the way of: it may wait for a time-out of the driver."""
POLL_SECONDS = 0.01
"""How often the agent looks for what the kernel does not report."""


def read_attribute(path: str | Path) -> str:
    """Return a sysfs attribute without its newline; "" where there is none.

    Three system calls and nothing else, here and in `names_in` (see `lab.drivers.linux_agent`).
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return ""
    try:
        return os.read(descriptor, ATTRIBUTE_BYTES).decode(errors="replace").rstrip("\n")
    except OSError:
        return ""
    finally:
        os.close(descriptor)


def names_in(folder: str, prefix: str) -> list[str]:
    """Return the names in a folder that begin with ``prefix``."""
    try:
        return [name for name in os.listdir(folder) if name.startswith(prefix)]  # noqa: PTH208 (see read_attribute)
    except OSError:
        return []


def controllers() -> list[Path]:
    """Return the driver's controllers."""
    return [Path(CLASS, name) for name in sorted(names_in(CLASS, "nvme"), key=numbers_of)]


def disks() -> list[Path]:
    """Return the disks of all namespaces."""
    return [Path(BLOCK, name) for name in sorted(disk_names(), key=numbers_of)]


def disk_names() -> list[str]:
    """Return the names of all disks; the paths of a multipath disk (nvme0c0n1) are not among them."""
    return [name for name in names_in(BLOCK, "nvme") if "c" not in name]


def numbers_of(name: str) -> list[int]:
    """Return ``nvme1n2`` as 1, 2."""
    return [int(number) for number in name.removeprefix("nvme").split("n")]


def nvme_functions() -> list[Path]:
    """Return the PCI functions of class 01 (mass storage), subclass 08 (NVM)."""
    return [
        Path(FUNCTIONS, name)
        for name in names_in(FUNCTIONS, "")
        if read_attribute(f"{FUNCTIONS}/{name}/class").startswith(NVME_CLASS)
    ]


def wait_settled() -> None:
    """Wait until no controller is between two states. The lab's deadline bounds it."""
    while any(read_attribute(f"{CLASS}/{name}/state") in UNSETTLED for name in names_in(CLASS, "nvme")):
        time.sleep(POLL_SECONDS)


def wait_scanned() -> None:
    """Wait until the driver has looked for namespaces, or has had the time to.

    The kernel does not report it, but names each worker after the queue whose work it does, with a plus while it does it
    (kernel/workqueue.c, wq_worker_comm); the driver's queues are nvme-wq, nvme-reset-wq and nvme-delete-wq.
    """
    end = time.monotonic() + SCAN_SECONDS
    while time.monotonic() < end:
        names = (read_attribute(f"/proc/{number}/comm") for number in names_in("/proc", "") if number.isdecimal())
        if not any(WORKING in name for name in names):
            break
        time.sleep(POLL_SECONDS)


def find_disk(request: Fields) -> tuple[str, int]:
    """Return the node of the namespace that the request means by ``serial`` and ``nsid``, and its block size."""
    wanted = str(request["nsid"]), request["serial"].strip()
    for name in disk_names():
        about = f"{BLOCK}/{name}"
        size = read_attribute(f"{about}/queue/logical_block_size")  # "" while the disk is still being made
        if size and (read_attribute(f"{about}/nsid"), read_attribute(f"{about}/device/serial").strip()) == wanted:
            return f"/dev/{name}", int(size)
    raise RefusedError(f"no disk for namespace {request['nsid']} of {request['serial']}")
