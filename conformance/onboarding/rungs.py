"""The fixed ladder of devices that ``nvme-lab observe`` puts before a system, and what each one is for.

The plain one is first, then those that have told most: where time runs out the last ones are left out.

A rung asks nothing: the system boots, does what it does, and the wire is judged. What a driver does on a rung is compared with
what it does on the plain one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from conformance.suite.scenario import LOAD, Draw
from lab.data.filesystems import GPT
from lab.data.plan import Controller, DeviceKind, DeviceSpec, Fault, Namespace, Scenario
from lab.nvme.commands import CreateIoCq, Read

STAGE = "observe"
PLAIN = "plain"
DISK_BLOCKS = (1 << 30) // 512
"""A gibibyte, sparse: systems draw small disks wrongly, or make no file system on them."""
PATTERN_BLOCKS = 2048
"""Blocks at the start of a disk without file systems that hold a pattern, with a partition table in the first."""

Stimulus = Literal["", "power-button", "reset"]


@dataclass(frozen=True)
class Rung:
    """One boot: a device, faults in it, and what happens to the system at the end."""

    name: str
    title: str
    device: Callable[[Draw], DeviceSpec]
    faults: tuple[Fault, ...] = ()
    hostile: bool = False  # a driver may refuse the device, or fail on it in good order
    checks: tuple[str, ...] = ()  # what is judged beside the invariants
    kind: DeviceKind = "lab"
    stimulus: Stimulus = ""
    counts: Literal["", "namespaces", "controllers"] = ""  # what of it the driver has found is told
    without: tuple[str, ...] = ()  # steps that the device does not allow, or for which its disk has no file system
    stale_memory: bool = False  # memory holds what looks like completions before the system starts

    def scenario(self, seed: int) -> Scenario:
        """Return the rung as a scenario: the driver comes up, and nothing else is asked of it."""
        draw = Draw(seed, f"{STAGE}/{self.name}")
        return Scenario(
            id=f"{STAGE}/{self.name}", stage=STAGE, title=self.title, seed=draw.fill(), device=self.device(draw),
            actions=(LOAD,), faults=self.faults, hostile=self.hostile,
            guest={"stale_memory": True} if self.stale_memory else {},
        )  # fmt: skip


def _disk(nsid: int = 1, *, block_size: int = 512) -> Namespace:
    """Return a disk with a pattern and a partition table, and no file system."""
    blocks = DISK_BLOCKS * 512 // block_size
    return Namespace(nsid=nsid, blocks=blocks, block_size=block_size, areas=((0, PATTERN_BLOCKS * 512 // block_size),))


def _disks(*nsids: int) -> tuple[Namespace, ...]:
    """Return disks of 512-byte blocks, the first with file systems in its partitions."""
    first, *others = nsids
    return (Namespace(nsid=first, blocks=DISK_BLOCKS, filesystem=GPT), *map(_disk, others))


def _one(**controller: object) -> Callable[[Draw], DeviceSpec]:
    """Return a device of one controller with one disk, unless it says otherwise."""

    def device(draw: Draw) -> DeviceSpec:
        given: dict[str, object] = {"serial": draw.serial(), "namespaces": _disks(1), **controller}
        return DeviceSpec(controllers=(Controller(**given),))  # type: ignore[arg-type]  # fields of Controller by name

    return device


def _two(draw: Draw) -> DeviceSpec:
    disks = {"nv0": _disks(1), "nv1": (_disk(),)}
    return DeviceSpec(controllers=tuple(Controller(id=id, serial=draw.serial(), namespaces=held) for id, held in disks.items()))


RUNGS: tuple[Rung, ...] = (
    Rung(PLAIN, "one namespace of 512-byte blocks, 1 GiB", _one()),
    Rung("4kn", "a namespace of 4096-byte blocks", _one(namespaces=(_disk(block_size=4096),)), without=("write",)),
    Rung("mqes-1", "rings of 2 entries (MQES 1)", _one(cap={"MQES": 1})),
    Rung("stride", "doorbells 4 KiB apart (DSTRD 10)", _one(cap={"DSTRD": 10}), checks=("detect/doorbell-span",)),
    Rung("sparse", "namespaces 2, 8 and 145", _one(namespaces=_disks(2, 8, 145)), counts="namespaces"),
    Rung("slow-ready", "CSTS.RDY takes 700 ms", _one(cap={"TO": 12}),
         (Fault(name="slow", behaviour="slow-ready", arguments={"ms": 700}),), checks=("admin-queue/ready-wait",)),
    Rung("stale-memory", "memory that holds old bytes, as after a warm start", _one(), stale_memory=True),
    Rung("out-of-order", "completions come out of order", _one(mdts=1),
         (Fault(name="late", behaviour="out-of-order", queue="io", opcode=Read.OPCODE),)),
    Rung("create-fails", "every Create I/O Completion Queue fails", _one(),
         (Fault(name="refused", behaviour="status", queue="admin", opcode=CreateIoCq.OPCODE, arguments={"sc": 6, "dnr": 1}),),
         hostile=True),
    Rung("two", "two controllers", _two, counts="controllers"),
    Rung("version-1.0", "a controller of NVMe 1.0", _one(version="1.0"), checks=("identify/cns2-by-version",),
         without=("multi-namespace",)),  # Identify of the active namespaces came with NVMe 1.1
    Rung("never-ready", "CSTS.RDY never becomes 1", _one(cap={"TO": 2}), (Fault(name="dead", behaviour="never-ready"),),
         hostile=True, checks=("admin-queue/ready-bound",)),
    Rung("forty", "forty namespaces", _one(namespaces=_disks(*range(1, 41))), counts="namespaces"),
    Rung("mqes-7", "rings of at most 8 entries (MQES 7)", _one(cap={"MQES": 7})),
    Rung("large-pages", "the smallest page is 8 KiB (MPSMIN 1)", _one(cap={"MPSMIN": 1}), hostile=True),
    Rung("media-error", "every Read fails with Unrecovered Read Error", _one(),
         (Fault(name="bad", behaviour="status", queue="io", opcode=Read.OPCODE, arguments={"sct": 2, "sc": 0x81}),),
         hostile=True),
    Rung("all-ones", "all registers read all ones: the device is gone", _one(),
         (Fault(name="gone", behaviour="removed", arguments={"config": False}),), hostile=True),
    Rung("qemu", "QEMU's own nvme device", _one(), kind="qemu"),
    Rung("reset", "the machine is reset while the system runs", _one(), stimulus="reset"),
    Rung("power", "the power button is pressed while the system runs", _one(), stimulus="power-button"),
)  # fmt: skip
