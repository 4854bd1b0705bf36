"""The Linux guest of three adapters: what it is made of, how an agent gets into it, and how that is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from lab.data.manifest import DriverManifest
from lab.data.plan import Scenario
from lab.deadline import Deadline
from lab.drivers.base import mebibytes
from lab.errors import GuestError, LabError, UsageError
from lab.guest.arguments import GuestSpec
from lab.guest.channel import Channel, Frame
from lab.guest.machine import Machine
from lab.guest.ssh import Ssh
from lab.toolchain import LinuxGuest, Toolchain

IN_GUEST = "/run/nvme-lab"
"""The folder in the guest for all that is pushed."""
HIGH_BARS = "pci=no_e820"
"""Firmware puts prefetchable memory where QEMU's map of a computer with an AMD processor has a reserved hole; without this
Linux would not use it, and no BAR would lie above 4 GiB."""
STRICT_IOMMU = "intel_iommu=on iommu.strict=1"
"""What is no longer mapped is closed to the device at once, and not when there is time."""
KERNEL_OPTIONS = "oops=panic ipv6.disable=1 psi=0 audit=0 lsm= cgroup_disable=memory"
"""A driver that crashed is not asked on. What the others turn off has nothing to do in a guest with one user and one task, and
each fork would pay for the translation of its code."""
WARM_UP_ROUNDS = 20
"""So often the agent is asked before its guest is saved: Python runs code of which it knows the types by other paths than new
code, and memory that was touched once is there. Each fork would pay for that with the translation of the kernel's code."""
SMBIOS_TYPES: Mapping[int, str] = {1: "system", 2: "board"}
"""Types of SMBIOS structures, by which drivers tell computers (System Management BIOS 3.0, 7.2, 7.3) → what scenarios say."""
ROOT_PORTS = 4
"""More than most scenarios need, so that they are forks of one template."""


def linux_guest(manifest: DriverManifest, toolchain: Toolchain) -> LinuxGuest:
    """Return the Linux guest that the manifest needs; UsageError where it names a kernel besides."""
    if manifest.boot.kernel:
        raise UsageError(
            f"{manifest.path}: boot.kernel: the adapter {manifest.adapter} boots the lab's own Linux guest",
            remedy='leave it out and name the kernel with --kernel, or give adapter = "generic-serial"',
        )
    guest = toolchain.guest_for(manifest.needs)
    if guest is None:
        raise LabError(
            f"{manifest.path}: the adapter {manifest.adapter} needs a Linux guest, and none was prepared",
            remedy='add needs = ["linux-guest"] to the manifest',
        )
    return guest


def linux_spec(
    manifest: DriverManifest, guest: LinuxGuest, scenario: Scenario, *append: str, iommu: bool, channel: bool
) -> GuestSpec:
    """Return the guest of a scenario, without the device.

    ``append`` are kernel options besides the guest's and the manifest's own.
    """
    boot, asked = manifest.boot, scenario.guest
    options = guest.append, HIGH_BARS, STRICT_IOMMU if iommu else "", *append, boot.append
    return GuestSpec(
        machine=boot.machine,
        cpu=boot.cpu,
        smp=asked.get("cpus", boot.cpus),
        memory=asked.get("memory", mebibytes(boot.memory)),
        kernel=guest.vmlinux,
        initrd=guest.initrd,
        append=" ".join(filter(None, options)),
        root_ports=max(ROOT_PORTS, len(scenario.device.controllers)),
        iommu=iommu,
        network=True,
        channel=channel,
        vmgenid=True,
        extra=(*boot.options, *_smbios(asked)),
    )


def _smbios(asked: Mapping[str, Any]) -> Iterator[str]:
    """Yield QEMU's options for the computer and the board that a machine presents itself as, MAKER/NAME each."""
    for number, key in SMBIOS_TYPES.items():
        if key in asked:
            maker, name = asked[key].split("/")
            yield from ("-smbios", f"type={number},manufacturer={maker},product={name}")


def code(program: bytes, *files: str | Path) -> str:
    """Identify a program and the code that settles a guest (`lab.guest.template.SnapshotPreparer.cache_key`).

    ``files`` are modules besides this one.
    """
    return sha256(program + b"".join(Path(file).read_bytes() for file in (*files, __file__))).hexdigest()


def connect(guest: LinuxGuest, machine: Machine, deadline: Deadline) -> Ssh:
    """Return a connection to the SSH server in the guest, which ``machine`` runs. The caller closes it."""
    return Ssh.connect(machine.ssh_address(), guest.private_key, guest.host_key, machine.check, deadline)


def start_agent(guest: LinuxGuest, machine: Machine, command: str, program: bytes, deadline: Deadline) -> None:
    """Run the command with the program of the agent as its input. GuestError with its last output if it fails."""
    with connect(guest, machine, deadline) as ssh:
        result = ssh.run(command, program, deadline=deadline)
    if result.status:
        last = result.stderr.decode(errors="replace").strip()
        raise GuestError(f"The lab's agent does not start in the guest: {last}", last=last)


def ask_agent(channel: Channel, request: Mapping[str, Any], data: bytes, deadline: Deadline) -> Frame:
    """Return the agent's answer and the bytes after it.

    GuestError with the agent's last output if it failed; else as `Channel.ask`.
    """
    answer = channel.ask(request, data, deadline=deadline)
    if "failure" in answer.head:
        last = answer.head["failure"].strip()
        raise GuestError(f"The lab's agent in the guest failed at {request['action']}: {last}", last=last)
    return answer
