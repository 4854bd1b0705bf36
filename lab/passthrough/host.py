"""What the machine says of NVMe in /sys and /proc. ``root`` is / or, in tests, a folder that stands for it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from lab.passthrough.paths import Node

EMULATORS = {
    "0x1b36": "QEMU", "0x1234": "QEMU", "0x15ad": "VMware", "0x80ee": "VirtualBox", "0x1ae0": "Google", "0x1d0f": "Amazon",
    "0x1414": "Microsoft",
}  # fmt: skip
"""PCI vendor ids of controllers that a hypervisor makes up (pci.ids)."""


@dataclass(frozen=True)
class Mount:
    """A mounted file system."""

    source: str
    point: str


class Host:
    """One machine, as far as files show it."""

    def __init__(self, root: Path = Path("/")) -> None:
        """Look at the files below ``root``, which tests replace."""
        self._root = root

    def text(self, path: str) -> str:
        """Return what a file holds, without the line's end; "" where there is none."""
        try:
            return (self._root / path.lstrip("/")).read_text(errors="replace").rstrip("\n\0")
        except OSError:
            return ""

    def exists(self, path: str) -> bool:
        """Return whether there is such a file."""
        return (self._root / path.lstrip("/")).exists()

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder; none where there is no such folder."""
        try:
            return sorted(path.name for path in (self._root / folder.lstrip("/")).iterdir())
        except OSError:
            return []

    def may_open(self, path: str) -> bool:
        """Return whether this user may open the node for reading and writing."""
        return os.access(self._root / path.lstrip("/"), os.R_OK | os.W_OK)

    # -- the machine ----------------------------------------------------------------------------------------------------

    @property
    def hypervisor(self) -> str:
        """The hypervisor's name, from the computer's vendor; "" on bare metal.

        The processor says whether there is one (CPUID's hypervisor bit, /proc/cpuinfo), the firmware's tables say which.
        """
        flags = next((line for line in self.text("/proc/cpuinfo").splitlines() if line.startswith("flags")), "")
        if "hypervisor" not in flags.split():
            return ""
        return self.text("/sys/class/dmi/id/sys_vendor") or "a hypervisor without a name"

    @property
    def mounts(self) -> list[Mount]:
        """Every mounted file system (proc(5), /proc/self/mounts: blanks in names are octal escapes)."""
        lines = (line.split() for line in self.text("/proc/self/mounts").splitlines())
        return [Mount(_unescaped(words[0]), _unescaped(words[1])) for words in lines if len(words) > 1]

    # -- one device -----------------------------------------------------------------------------------------------------

    def pci_vendor(self, node: Node) -> str:
        """Return the PCI vendor id of the node's controller, such as 0x1b36; "" where it is no PCI function."""
        return self.text(f"/sys/class/nvme/nvme{node.controller}/device/vendor")

    def block_devices(self, node: Node) -> list[str]:
        """Return the block devices of the node's blocks: its own, its partitions, what is stacked on them (dm-0, md0)."""
        disks = [node.block_name] if node.block_name else self._disks_of(node)
        found: list[str] = []
        pending = disks
        while pending:
            name = pending.pop(0)
            if name in found:
                continue
            found.append(name)
            below = f"/sys/class/block/{name}"
            pending += [part for part in self.names(below) if self.exists(f"{below}/{part}/partition")]
            pending += self.names(f"{below}/holders")
        return found

    def _disks_of(self, node: Node) -> list[str]:
        """Return the disks of a controller, those of its subsystem where namespaces have several paths included."""
        own = self.text(f"/sys/class/nvme/nvme{node.controller}/subsysnqn")
        disks = [name for name in self.names("/sys/class/block") if re.fullmatch(r"nvme\d+n\d+", name)]
        mine = f"nvme{node.controller}n"
        return [d for d in disks if d.startswith(mine) or (own and self.text(f"/sys/class/block/{d}/device/subsysnqn") == own)]

    def mount_of(self, node: Node) -> Mount | None:
        """Return the first file system on the node's blocks; None if nothing is mounted from them."""
        devices = {f"/dev/{name}" for name in self.block_devices(node)}
        mappers = {f"/dev/mapper/{self.text(f'/sys/class/block/{name}/dm/name')}" for name in self.block_devices(node)}
        return next((mount for mount in self.mounts if mount.source in devices | mappers), None)

    def swap_of(self, node: Node) -> str:
        """Return the swap device on the node's blocks; "" if none."""
        devices = {f"/dev/{name}" for name in self.block_devices(node)}
        lines = self.text("/proc/swaps").splitlines()[1:]
        return next((line.split()[0] for line in lines if line.split()[0] in devices), "")


def _unescaped(text: str) -> str:
    r"""Return a name of /proc/self/mounts as it is: ``\040`` is a blank."""
    head, *escapes = text.split("\\")
    return head + "".join(chr(int(part[:3], 8)) + part[3:] if part[:3].isdigit() else f"\\{part}" for part in escapes)
