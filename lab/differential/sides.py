"""Two devices made of one DeviceSpec, and the host that drives either of them: the same memory, the same addresses.

The host is no `lab.reference` driver, since it must break rules; and it is the same for both, so that what differs is the
device's doing.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from lab.controller.dma import LocalMemory
from lab.controller.in_process import InProcess
from lab.data.plan import Controller, DeviceSpec
from lab.data.profile import Profile
from lab.deadline import Deadline
from lab.device.images import create_images, image
from lab.device.probe import probe
from lab.device.qemu import QemuDevice
from lab.errors import GuestTimeoutError
from lab.guest.arguments import MIB, GuestSpec
from lab.guest.machine import Machine
from lab.guest.qtest import Qtest
from lab.nvme.commands import Command, CreateIoCq, CreateIoSq, DeleteIoSq, SetFeatures
from lab.nvme.completions import Completion
from lab.nvme.features import Fid
from lab.nvme.identify import IdentifyNamespace
from lab.nvme.registers import ACQ, AQA, ASQ, CC, CSTS, doorbell_offset
from lab.reference import pci
from lab.toolchain import Qemu

PAGE = 4096
RAM = 32 * MIB
ADMIN_SQ, ADMIN_CQ = 0x10_0000, 0x10_2000
RINGS, RING_STEP = 0x11_0000, 0x4000
"""Where the rings of I/O queue n are: the submission ring at RINGS + n * RING_STEP, the completion ring 2000h behind it."""
LISTS, LIST_PAGES = 0x18_0000, 16
DATA, DATA_PAGES = 0x20_0000, 64
ENTRIES = 32
QUEUES = (1, 2)
"""The I/O queues that there are from the start."""
SECONDS = 5.0
"""For one answer of QEMU."""
BDF = 4 << 3
BAR0, BAR = 0x10, 0xE000_0000
READY = CC.of(EN=1, IOSQES=6, IOCQES=4)


class Side(Protocol):
    """One device as the host reaches it."""

    name: str
    ram: memoryview
    """From address 0 on."""

    def read32(self, offset: int) -> int:
        """Read 4 bytes."""

    def write32(self, offset: int, value: int) -> None:
        """Write 4 bytes."""

    def config_read(self, offset: int, size: int) -> int:
        """Read configuration space."""

    def config_write(self, offset: int, size: int, value: int) -> None:
        """Write configuration space."""


class ModelSide:
    """The programmable controller in this process: whatever it does is done when a write returns."""

    name = "model"

    def __init__(self, device: InProcess) -> None:
        """Take the model in this process."""
        self._function = device.function
        self._function.on_interrupt = lambda _: True
        self.ram = device.memory.arena

    def read32(self, offset: int) -> int:
        """Read 4 bytes."""
        return self._function.read(offset, 4)

    def write32(self, offset: int, value: int) -> None:
        """Write 4 bytes."""
        self._function.write(offset, 4, value)

    def config_read(self, offset: int, size: int) -> int:
        """Read configuration space."""
        return self._function.config_read(offset, size)

    def config_write(self, offset: int, size: int, value: int) -> None:
        """Write configuration space."""
        self._function.config_write(offset, size, value)


class QemuSide:
    """QEMU's own device in a machine that stands still."""

    name = "qemu"

    def __init__(self, qtest: Qtest, ram: memoryview) -> None:
        """Take QEMU's device, and the RAM that it shares."""
        self._qtest, self.ram = qtest, ram
        qtest.write_config(BDF, BAR0, BAR)
        qtest.write_config(BDF, BAR0 + 4, 0)

    def read32(self, offset: int) -> int:
        """Read 4 bytes."""
        return self._qtest.read32(BAR + offset)

    def write32(self, offset: int, value: int) -> None:
        """Write 4 bytes."""
        self._qtest.write32(BAR + offset, value)

    def config_read(self, offset: int, size: int) -> int:
        """Read configuration space."""
        return self._qtest.read_config(BDF, offset & ~3) >> (offset & 3) * 8 & (1 << size * 8) - 1

    def config_write(self, offset: int, size: int, value: int) -> None:
        """Write configuration space."""
        shift, mask = (offset & 3) * 8, (1 << size * 8) - 1
        old = self._qtest.read_config(BDF, offset & ~3)
        self._qtest.write_config(BDF, offset & ~3, old & ~(mask << shift) | value << shift)


@dataclass
class QtestRing:
    """The host's side of a queue pair."""

    sq: int
    cq: int
    entries: int = ENTRIES
    tail: int = 0
    head: int = 0
    phase: int = 1


class Host:
    """A minimal driver of one side: rings, doorbells, completions."""

    def __init__(self, side: Side) -> None:
        """Take a side whose controller is not started yet."""
        self.side = side
        self.rings: dict[int, QtestRing] = {}
        side.config_write(pci.COMMAND, 2, pci.MEMORY_SPACE | pci.BUS_MASTER)
        msix = next(at for kind, at in _capabilities(side) if kind == pci.MSIX)
        side.config_write(msix + 2, 2, pci.MSIX_ENABLE)  # all its vectors are still masked

    def start(self) -> None:
        """Reset both controllers; create new admin queues and `QUEUES`, and forget everything in between."""
        side = self.side
        side.write32(CC.OFFSET, 0)
        self._until_ready(0)
        side.ram[ADMIN_SQ:DATA] = bytes(DATA - ADMIN_SQ)
        self.rings = {0: QtestRing(ADMIN_SQ, ADMIN_CQ)}
        side.write32(AQA.OFFSET, AQA.of(ASQS=ENTRIES - 1, ACQS=ENTRIES - 1))
        for register, address in ((ASQ, ADMIN_SQ), (ACQ, ADMIN_CQ)):
            side.write32(register.OFFSET, address)
            side.write32(register.OFFSET + 4, 0)
        side.write32(CC.OFFSET, READY)
        self._until_ready(1)
        self._must(SetFeatures.of(FID=Fid.ASYNC_EVENT_CONFIG))  # QEMU keeps it over a reset, and sends unexpected events
        for qid in QUEUES:
            sq = RINGS + qid * RING_STEP
            self._must(CreateIoCq.of(QID=qid, QSIZE=ENTRIES - 1, PC=1, PRP1=sq + 0x2000))
            self._must(CreateIoSq.of(QID=qid, QSIZE=ENTRIES - 1, PC=1, CQID=qid, PRP1=sq))

    def _must(self, command: Command) -> None:
        (completion,) = self.do(0, [command], 1)
        assert completion.ok, completion.text

    def _until_ready(self, ready: int) -> None:
        deadline = Deadline(SECONDS)
        while CSTS(self.side.read32(CSTS.OFFSET)).RDY != ready:
            if deadline.expired:
                raise GuestTimeoutError(f"Timed out after {SECONDS:g} s waiting for CSTS.RDY={ready} of {self.side.name}.")

    def do(self, qid: int, commands: Sequence[Command], expected: int | None) -> list[Completion]:
        """Submit commands by one doorbell; return the completions. Wait for so many; None takes what is there."""
        ring, ram = self.rings[qid], self.side.ram
        for command in commands:
            at = ring.sq + ring.tail * Command.SIZE
            ram[at : at + Command.SIZE] = command
            ring.tail = (ring.tail + 1) % ring.entries
        if commands:
            self.side.write32(doorbell_offset(qid, completion=False, dstrd=0), ring.tail)
        completions: list[Completion] = []
        deadline = Deadline(SECONDS)
        cids = {command.CID for command in commands}
        while expected is None or sum(completion.CID in cids for completion in completions) < expected:
            found = self._next(ring)
            if found is not None:
                completions.append(found)
            elif expected is None or deadline.expired:
                break
            else:
                os.sched_yield()
        if completions:
            self.side.write32(doorbell_offset(qid, completion=True, dstrd=0), ring.head)
        for command in commands:
            self._follow(command, completions)
        return completions

    def _next(self, ring: QtestRing) -> Completion | None:
        at = ring.cq + ring.head * Completion.SIZE
        if self.side.ram[at + 14] & 1 != ring.phase:
            return None
        ring.head += 1
        if ring.head == ring.entries:
            ring.head, ring.phase = 0, ring.phase ^ 1
        return Completion(bytes(self.side.ram[at : at + Completion.SIZE]))

    def _follow(self, command: Command, completions: Iterable[Completion]) -> None:
        """Take note of queues that were created or deleted."""
        if not isinstance(command, CreateIoSq | DeleteIoSq) or not any(c.ok and c.CID == command.CID for c in completions):
            return
        if isinstance(command, DeleteIoSq):
            self.rings.pop(command.QID, None)
        elif command.CQID == command.QID:  # only those are used whose completion ring is their own
            self.rings[command.QID] = QtestRing(command.PRP1, command.PRP1 + 0x2000, command.entries)


def _capabilities(side: Side) -> Iterator[tuple[int, int]]:
    """Yield (capability id, offset) of each capability."""
    offset = side.config_read(pci.CAPABILITIES, 1)
    while offset:
        yield side.config_read(offset, 1), offset
        offset = side.config_read(offset + 1, 1)


class Pair:
    """Both sides of one device, and their images."""

    def __init__(self, spec: DeviceSpec, folder: Path, hosts: Mapping[str, Host]) -> None:
        """Make the images of both sides."""
        self.spec, self._folder = spec, folder
        self.model, self.qemu = hosts["model"], hosts["qemu"]
        self._fresh = {nsid: self._image("model", nsid).read_bytes() for nsid in self.nsids}

    @property
    def nsids(self) -> tuple[int, ...]:
        """Return the ids of all namespaces."""
        return tuple(ns.nsid for ns in self.spec.controllers[0].namespaces)

    def images_differ(self) -> int | None:
        """Return the first namespace whose images differ."""
        for nsid in self.nsids:
            if self._image("model", nsid).read_bytes() != self._image("qemu", nsid).read_bytes():
                return nsid
        return None

    def restore_images(self) -> None:
        """Restore the images of the start. Neither device keeps blocks in a cache of its own."""
        for nsid, content in self._fresh.items():
            for side in ("model", "qemu"):
                with self._image(side, nsid).open("r+b") as file:
                    file.write(content)

    def write(self, address: int, data: bytes) -> None:
        """Write the same bytes into both memories."""
        for host in (self.model, self.qemu):
            host.side.ram[address : address + len(data)] = data

    def data(self) -> tuple[bytes, bytes]:
        """Return both memories, as far as commands may write them.

        Page 0, to which forgotten pointers point, and the data buffers.
        """
        model, qemu = (
            bytes(host.side.ram[:PAGE]) + bytes(host.side.ram[DATA : DATA + DATA_PAGES * PAGE])
            for host in (self.model, self.qemu)
        )
        return model, qemu

    def write_data(self, content: bytes) -> None:
        """Write what `data` returns into both memories."""
        self.write(0, content[:PAGE])
        self.write(DATA, content[PAGE:])

    def _image(self, side: str, nsid: int) -> Path:
        return image(self._folder / side, self.spec.controllers[0].id, nsid)


def dressed(controller: Controller, profile: Profile) -> Controller:
    """Return a controller that announces all that ``profile`` does: only its behaviour can differ."""
    own = controller.namespaces[0]
    common = profile.namespaces[own.nsid]
    return replace(
        controller,
        cap={name: value for name, value in profile.cap.fields().items() if name not in ("SIZE",)},
        identify=profile.controller.fields(),
        identify_namespace={name: getattr(common, name) for name in _COMMON if name in IdentifyNamespace.FIELDS},
    )


_COMMON = ("NSFEAT", "NLBAF", "MC", "DPC", "DPS", "NMIC", "RESCAP", "FPI", "DLFEAT", "MSSRL", "MCL", "MSRC",
           "NPDG", "NPDA", "ENDGID", "LBAF", "NVMCAP")  # fmt: skip
"""Identify Namespace fields that are the same for all namespaces of QEMU's device."""


@contextmanager
def pair(qemu: Qemu, spec: DeviceSpec, folder: Path, seed: int) -> Iterator[Pair]:
    """Yield both devices, started, with images in ``folder``. ``spec`` has one controller."""
    profile = probe(qemu, spec)[spec.controllers[0].id]
    for name in ("model", "qemu"):
        (folder / name).mkdir()
        create_images(spec, folder / name, seed)
    device = QemuDevice(spec, folder / "qemu", qemu.version)
    guest = GuestSpec(
        memory=RAM // MIB,
        memory_file=folder / "ram",
        blockdevs=device.blockdevs,
        devices=(*device.subsystems, *device.devices([{"bus": "pcie.0", "addr": "4"}])),
        extra=("-S",),
    )
    model_spec = DeviceSpec(controllers=(dressed(spec.controllers[0], profile),))
    with ExitStack() as cleanup:
        machine = cleanup.enter_context(Machine(qemu.command, qemu.env, guest, "tcg", writable=[folder / "qemu"]))
        qtest = cleanup.enter_context(Qtest(machine))
        with (folder / "ram").open("r+b") as file:
            ram = memoryview(mmap.mmap(file.fileno(), RAM))
        model = cleanup.enter_context(InProcess(model_spec, folder / "model", memory=LocalMemory(RAM, base=0)))
        sides: dict[str, Any] = {"model": ModelSide(model), "qemu": QemuSide(qtest, ram)}
        yield Pair(spec, folder, {name: Host(side) for name, side in sides.items()})
