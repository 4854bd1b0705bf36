"""Can commands be sent to this device, and what do they reach? The answer is one of a few reasons, with a sentence for people.

Bare metal and passed-through devices are hardware. An emulated device takes commands too, but a hypervisor answers them. That
is no passthrough to hardware, and `Availability.hardware` is false. All of it is read from files (`lab.passthrough.host`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from lab.passthrough.host import EMULATORS, Host
from lab.passthrough.paths import Node, parse

CAP_SYS_ADMIN = 21
"""Bit of CapEff; needed for passthrough before Linux 6.2 (linux/capability.h, drivers/nvme/host/ioctl.c)."""
UNPRIVILEGED_SINCE = (6, 2)
"""From this kernel on every user with write access to the node may send harmless commands."""


class Reason(StrEnum):
    """Why commands can, or cannot, be sent."""

    BARE_METAL = "bare-metal"
    PASSED_THROUGH = "passed-through-device"
    EMULATED = "emulated-device"
    NO_DEVICE = "no-device"
    NO_PERMISSION = "no-permission"
    MOUNTED = "mounted"


HARDWARE = frozenset({Reason.BARE_METAL, Reason.PASSED_THROUGH})


@dataclass(frozen=True)
class Availability:
    """What was found out about one device node."""

    reason: Reason
    sentence: str

    @property
    def commands(self) -> bool:
        """Return whether the node takes commands."""
        return self.reason in HARDWARE or self.reason is Reason.EMULATED

    @property
    def hardware(self) -> bool:
        """Return whether commands reach a real controller: this is nvme.passthrough."""
        return self.reason in HARDWARE


def availability(path: str, host: Host | None = None) -> Availability:
    """Return whether commands can be sent to a device node; ValueError for a path that cannot be an NVMe device."""
    host = host or Host()
    node = parse(path)
    if not host.exists(f"/dev/{node.name}"):
        return Availability(Reason.NO_DEVICE, f"there is no device /dev/{node.name}")
    denied = _denied(node, host)
    if denied:
        return Availability(Reason.NO_PERMISSION, denied)
    used = in_use(node, host) if node.kind != "controller" else ""
    if used:
        return Availability(Reason.MOUNTED, used)
    return _reached(node, host)


def in_use(node: Node, host: Host) -> str:
    """Return in words what the operating system does with the node's blocks: a mount with its mount point, or swap."""
    if mount := host.mount_of(node):
        return f"{mount.source} is mounted on {mount.point}"
    if swap := host.swap_of(node):
        return f"{swap} is in use as swap"
    return ""


def _denied(node: Node, host: Host) -> str:
    if not host.may_open(f"/dev/{node.name}"):
        return f"this user may not read and write /dev/{node.name}"
    if kernel_release(host) < UNPRIVILEGED_SINCE and not has_capability(host, CAP_SYS_ADMIN):
        return "passthrough needs CAP_SYS_ADMIN on kernels before 6.2"
    return ""


def _reached(node: Node, host: Host) -> Availability:
    hypervisor = host.hypervisor
    if not hypervisor:
        return Availability(Reason.BARE_METAL, "bare metal: commands reach the controller")
    vendor = host.pci_vendor(node)
    if vendor in EMULATORS:
        return Availability(Reason.EMULATED, f"{EMULATORS[vendor]} emulates it in a virtual machine of {hypervisor}")
    if not vendor:
        return Availability(Reason.EMULATED, f"it is no PCI function, in a virtual machine of {hypervisor}")
    return Availability(Reason.PASSED_THROUGH, f"a controller of PCI vendor {vendor} passed through by {hypervisor}")


def kernel_release(host: Host) -> tuple[int, int]:
    """Return the kernel's version, such as (6, 1); (0, 0) where it does not say."""
    numbers = host.text("/proc/sys/kernel/osrelease").split(".")[:2]
    return (int(numbers[0]), int(numbers[1])) if len(numbers) == 2 and all(map(str.isdigit, numbers)) else (0, 0)


def has_capability(host: Host, number: int) -> bool:
    """Return whether this process has a capability (proc_pid_status(5), CapEff)."""
    status = dict(line.split(":\t", 1) for line in host.text("/proc/self/status").splitlines() if ":\t" in line)
    return bool(int(status.get("CapEff", "0"), 16) >> number & 1)
