"""What QEMU's own device really is: a twin of it, in a QEMU of its own without a guest, is read by the lab itself.

The driver under test is judged by what the device answers, and QEMU's trace does not show the data of an Identify. The same
device properties give the same registers and the same Identify data, so a twin with empty disks is asked instead.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace

from lab.data.plan import Controller, DeviceSpec
from lab.data.profile import Profile
from lab.deadline import Deadline
from lab.device.qemu import QemuDevice
from lab.errors import GuestError, GuestTimeoutError
from lab.guest.arguments import GuestSpec
from lab.guest.folder import run_folder
from lab.guest.machine import Machine
from lab.guest.qtest import Qtest
from lab.nvme.commands import Command, Identify
from lab.nvme.completions import Completion
from lab.nvme.identify import SIZE, Cns, IdentifyController, IdentifyControllerNvm, IdentifyNamespace, NamespaceList
from lab.nvme.registers import ACQ, AQA, ASQ, CAP, CC, CRTO, CSTS, VS, doorbell_offset
from lab.toolchain import Qemu

FIRST_SLOT = 4
"""PCI device number of the first controller on pcie.0."""
BAR_STEP = 0x10_0000
ENTRIES = 64
"""Of the admin queues: more than are ever used, so that nothing wraps."""
ASQ_AT, ACQ_AT, DATA_AT = 0x10_0000, 0x10_1000, 0x10_2000
"""From the RAM's first byte on."""
SECONDS = 20.0
POWER_MANAGEMENT, MOST_CAPABILITIES = 0x01, 48
"""The capability that holds the power state, and how many capabilities a function has at most."""


@dataclass(frozen=True)
class Platform:
    """Where the lab finds things without firmware's help."""

    machine: str
    bar: int
    """An address that reaches PCI memory space."""
    ecam: int | None = None


PLATFORMS = {
    "x86_64": Platform("q35", bar=0xE000_0000),
    "aarch64": Platform("virt,highmem=off", bar=0x1000_0000, ecam=0x3F00_0000),  # hw/arm/virt.c: all below the RAM
    "riscv64": Platform("virt", bar=0x4000_0000, ecam=0x3000_0000),  # hw/riscv/virt.c
}


def probe(qemu: Qemu, spec: DeviceSpec) -> dict[str, Profile]:
    """Return the profile of each controller of the device that QEMU makes of ``spec``, by the controller's id."""
    platform = PLATFORMS[qemu.arch]
    with ExitStack() as cleanup:
        images = cleanup.enter_context(run_folder()) / "namespaces"
        images.mkdir()
        device = QemuDevice(_empty(spec), images, qemu.version)
        device.create_images(seed=0)
        places = [{"bus": "pcie.0", "addr": f"{FIRST_SLOT + n:#x}"} for n in range(len(spec.controllers))]
        guest = GuestSpec(
            arch=qemu.arch,
            machine=platform.machine,
            memory=16,
            blockdevs=device.blockdevs,
            devices=(*device.subsystems, *device.devices(places)),
            extra=("-S",),
        )
        with (
            Machine(qemu.command, qemu.env, guest, "tcg", writable=[images]) as machine,
            Qtest(machine, platform.ecam) as qtest,
        ):
            return {c.id: _Twin(qtest, n, platform.bar, guest.ram_base).profile() for n, c in enumerate(spec.controllers)}


def _empty(spec: DeviceSpec) -> DeviceSpec:
    def emptied(controller: Controller) -> Controller:
        return replace(controller, namespaces=tuple(replace(n, areas=()) for n in controller.namespaces))

    return DeviceSpec(controllers=tuple(emptied(controller) for controller in spec.controllers))


class _Twin:
    """One controller, brought up just far enough to be asked Identify."""

    def __init__(self, qtest: Qtest, number: int, bars: int, ram: int) -> None:
        self._qtest = qtest
        self._bdf = (FIRST_SLOT + number) << 3
        self._bar = bars + number * BAR_STEP
        self._ram = ram
        self._sent = 0

    def profile(self) -> Profile:
        qtest, bar = self._qtest, self._bar
        identity, class_code = qtest.read_config(self._bdf, 0x00), qtest.read_config(self._bdf, 0x08) >> 8
        qtest.write_config(self._bdf, 0x10, bar)
        qtest.write_config(self._bdf, 0x14, 0)
        qtest.write_config(self._bdf, 0x04, 0x6)  # memory space and bus master
        qtest.write32(bar + AQA.OFFSET, AQA.of(ASQS=ENTRIES - 1, ACQS=ENTRIES - 1))
        qtest.write64(bar + ASQ.OFFSET, self._ram + ASQ_AT)
        qtest.write64(bar + ACQ.OFFSET, self._ram + ACQ_AT)
        qtest.write32(bar + CC.OFFSET, CC.of(EN=1, IOSQES=6, IOCQES=4))
        deadline = Deadline(SECONDS)
        while not CSTS(qtest.read32(bar + CSTS.OFFSET)).RDY:
            if deadline.expired:
                raise GuestTimeoutError(f"Timed out after {SECONDS:g} s waiting for CSTS.RDY of QEMU's nvme.")
        return Profile(
            cap=CAP(qtest.read64(bar + CAP.OFFSET)),
            vs=VS(qtest.read32(bar + VS.OFFSET)),
            controller=IdentifyController(self._identify(Identify.of(CNS=Cns.CONTROLLER))),
            namespaces={nsid: IdentifyNamespace(self._identify(Identify.of(NSID=nsid))) for nsid in self._active()},
            pci_class=class_code,
            pci_id=(identity & 0xFFFF, identity >> 16),
            nvm=IdentifyControllerNvm(self._identify(Identify.of(CNS=Cns.CSI_CONTROLLER), optional=True)),
            crto=CRTO(qtest.read32(bar + CRTO.OFFSET)),
            power_control=self._power_control(),
        )

    def _power_control(self) -> int:
        """Return where Power Management Control/Status lies; 0 where there is none."""
        at = self._qtest.read_config(self._bdf, 0x34) & 0xFC
        for _ in range(MOST_CAPABILITIES):
            capability = self._qtest.read_config(self._bdf, at) if at else POWER_MANAGEMENT
            if capability & 0xFF == POWER_MANAGEMENT:
                return at + 4 if at else 0
            at = capability >> 8 & 0xFC
        return 0

    def _active(self) -> tuple[int, ...]:
        return NamespaceList(self._identify(Identify.of(CNS=Cns.ACTIVE_NAMESPACES))).ids

    def _identify(self, command: Command, *, optional: bool = False) -> bytes:
        """Return the 4096 bytes that an Identify returns; zeros where it is refused and ``optional``."""
        qtest, slot = self._qtest, self._sent
        qtest.write(self._ram + ASQ_AT + slot * 64, command.but(CID=slot, PRP1=self._ram + DATA_AT))
        self._sent += 1
        qtest.write32(self._bar + doorbell_offset(0, completion=False, dstrd=0), self._sent)
        deadline = Deadline(SECONDS)
        while not (completion := Completion(qtest.read(self._ram + ACQ_AT + slot * 16, 16))).P:
            if deadline.expired:
                raise GuestTimeoutError(f"Timed out after {SECONDS:g} s waiting for the completion of {command}.")
        if not completion.ok:
            if optional:
                return bytes(SIZE)
            raise GuestError(f"QEMU's nvme answered {command} with {completion.text}.")
        return qtest.read(self._ram + DATA_AT, 4096)
