"""Why commands can or cannot be sent, on machines that are folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from lab.passthrough.availability import Reason, availability
from lab.passthrough.capabilities import REGISTRY, Registry
from lab.passthrough.host import Host

ROOT_USER = "Name:\tx\nCapEff:\t000001ffffffffff\n"
NOBODY = "Name:\tx\nCapEff:\t0000000000000000\n"
BARE_METAL: Mapping[str, str] = {
    "proc/cpuinfo": "processor\t: 0\nflags\t\t: fpu vme sse2\n",
    "proc/sys/kernel/osrelease": "6.1.0-50-amd64\n",
    "proc/self/status": ROOT_USER,
    "proc/self/mounts": "/dev/sda1 / ext4 rw 0 0\nproc /proc proc rw 0 0\n",
    "proc/swaps": "Filename Type Size Used Priority\n",
    "dev/nvme0": "", "dev/nvme0n1": "", "dev/ng0n1": "", "dev/nvme0n2": "",
    "sys/class/nvme/nvme0/device/vendor": "0x144d\n",
    "sys/class/nvme/nvme0/queue_count": "9\n",
    "sys/class/nvme/nvme0/sqsize": "1023\n",
    "sys/class/block/nvme0n1/queue/max_hw_sectors_kb": "512\n",
    "sys/class/block/nvme0n1/queue/logical_block_size": "4096\n",
    "sys/class/block/nvme0n1/nvme0n1p1/partition": "1\n",
    "sys/class/block/nvme0n2/size": "8\n",
}  # fmt: skip
VIRTUAL = {
    "proc/cpuinfo": "flags\t\t: fpu hypervisor sse2\n",
    "sys/class/dmi/id/sys_vendor": "QEMU\n",
}


def machine(folder: Path, files: Mapping[str, str] | None = None) -> Host:
    """Return bare metal with one controller, changed by ``files``."""
    for name, text in {**BARE_METAL, **(files or {})}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Host(folder)


CASES: dict[str, tuple[str, dict[str, str], Reason, str]] = {
    "bare metal": ("/dev/nvme0n1", {}, Reason.BARE_METAL, "bare metal"),
    "passed through": ("/dev/nvme0n1", VIRTUAL, Reason.PASSED_THROUGH, "vendor 0x144d passed through by QEMU"),
    "emulated": (
        "/dev/nvme0n1", {**VIRTUAL, "sys/class/nvme/nvme0/device/vendor": "0x1b36\n"}, Reason.EMULATED, "QEMU emulates it",
    ),
    "fabrics in a machine": (
        "/dev/nvme0", {**VIRTUAL, "sys/class/nvme/nvme0/device/vendor": ""}, Reason.EMULATED, "no PCI function",
    ),
    "no device": ("/dev/nvme7", {}, Reason.NO_DEVICE, "no device /dev/nvme7"),
    "no capability": ("/dev/ng0n1", {"proc/self/status": NOBODY}, Reason.NO_PERMISSION, "CAP_SYS_ADMIN"),
    "newer kernel": (
        "/dev/ng0n1", {"proc/self/status": NOBODY, "proc/sys/kernel/osrelease": "6.12.1"}, Reason.BARE_METAL, "bare metal",
    ),
    "mounted": (
        "/dev/nvme0n1", {"proc/self/mounts": "/dev/nvme0n1 /mnt/a\\040disk ext4 rw 0 0\n"}, Reason.MOUNTED,
        "/dev/nvme0n1 is mounted on /mnt/a disk",
    ),
    "mounted, by its character device": (
        "/dev/ng0n1", {"proc/self/mounts": "/dev/nvme0n1 /mnt ext4 rw 0 0\n"}, Reason.MOUNTED, "mounted on /mnt",
    ),
    "a partition is mounted": (
        "/dev/nvme0n1", {"proc/self/mounts": "/dev/nvme0n1p1 /home ext4 rw 0 0\n"}, Reason.MOUNTED,
        "/dev/nvme0n1p1 is mounted on /home",
    ),
    "a logical volume on a partition is mounted": (
        "/dev/nvme0n1",
        {
            "sys/class/block/nvme0n1p1/holders/dm-0": "", "sys/class/block/dm-0/dm/name": "vg-root\n",
            "proc/self/mounts": "/dev/mapper/vg-root /srv xfs rw 0 0\n",
        },
        Reason.MOUNTED, "/dev/mapper/vg-root is mounted on /srv",
    ),
    "swap": (
        "/dev/nvme0n1", {"proc/swaps": "Filename Type Size Used Priority\n/dev/nvme0n1p1 partition 1 0 -2\n"}, Reason.MOUNTED,
        "swap",
    ),
    "another namespace is mounted": (
        "/dev/nvme0n2", {"proc/self/mounts": "/dev/nvme0n1 /mnt ext4 rw 0 0\n"}, Reason.BARE_METAL, "bare metal",
    ),
    "the controller of a mounted namespace": (
        "/dev/nvme0", {"proc/self/mounts": "/dev/nvme0n1 /mnt ext4 rw 0 0\n"}, Reason.BARE_METAL, "bare metal",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("path", "files", "reason", "words"), CASES.values(), ids=CASES)
def test_availability_has_its_reason(path: str, files: dict[str, str], reason: Reason, words: str, tmp_path: Path) -> None:
    found = availability(path, machine(tmp_path, files))
    assert found.reason is reason
    assert words in found.sentence


@pytest.mark.parametrize(
    ("reason", "commands", "hardware"),
    [("bare metal", True, True), ("passed through", True, True), ("emulated", True, False), ("no device", False, False),
     ("no capability", False, False), ("mounted", False, False)],
)  # fmt: skip
def test_the_registry_derives_passthrough_from_what_was_found(
    reason: str, commands: bool, hardware: bool, tmp_path: Path
) -> None:
    path, files, _, words = CASES[reason]
    found = {one.name: one for one in REGISTRY.derive(path, machine(tmp_path, files))}
    assert found["nvme.passthrough"].available == hardware
    assert found["nvme.passthrough.commands"].available == commands
    assert words in found["nvme.passthrough"].reason
    limits = {"max_transfer_bytes": 512 * 1024, "block_size": 4096, "io_queues": 8, "queue_depth": 1024}
    assert found["nvme.passthrough"].limits == (limits if commands else {})


@pytest.mark.parametrize(
    ("path", "release", "dword1", "uring"),
    [("/dev/ng0n1", "6.1.0", True, True), ("/dev/ng0n1", "5.15.0", True, False), ("/dev/nvme0n1", "6.1.0", True, False),
     ("/dev/ng0n1", "4.19.1", False, False)],
)  # fmt: skip
def test_what_an_interface_carries_follows_kernel_and_node(
    path: str, release: str, dword1: bool, uring: bool, tmp_path: Path
) -> None:
    found = {one.name: one for one in REGISTRY.derive(path, machine(tmp_path, {"proc/sys/kernel/osrelease": release}))}
    assert (found["nvme.passthrough.dword1"].available, found["nvme.passthrough.uring"].available) == (dword1, uring)


def test_a_capability_is_registered_once() -> None:
    registry = Registry()
    registry.register("own.capability")(lambda facts: (True, facts.node.name, {}))
    with pytest.raises(ValueError, match=r"own\.capability is registered twice"):
        registry.register("own.capability")(lambda facts: (False, facts.node.name, {}))


def test_a_rule_of_ones_own_sees_the_facts(tmp_path: Path) -> None:
    registry = Registry()
    registry.register("own.capability")(lambda facts: (True, facts.node.name, {"kernel": facts.kernel[0]}))
    (found,) = registry.derive("/dev/nvme0", machine(tmp_path))
    assert (found.reason, found.limits) == ("nvme0", {"kernel": 6})
