"""What a guest is made of, and QEMU's command line for it. Pure: nothing is started or opened here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from lab.architectures import ARCHITECTURES

Json: TypeAlias = Mapping[str, object]
"""An object of QMP, or of an option of QEMU that takes JSON."""

MIB = 1 << 20
FIRST_ROOT_PORT = 0x10
"""PCI device number of ``rp0`` on pcie.0. Fixed, so that addresses do not depend on what else is plugged."""
CHANNEL = "nvme-lab"
"""The name of the virtio-serial port, which the guest's kernel shows in /sys/class/virtio-ports."""
PREFETCHABLE = 1 << 30
"""Bytes of prefetchable memory that firmware keeps free behind each root port: so much only fits above 4 GiB."""
DEBUG_CONSOLE = 0xE9
"""The port of isa-debugcon, where Bochs had it: what is written there is shown."""
EXIT_PORT = 0xF4
"""The port of isa-debug-exit: a value n that is written there ends QEMU with the exit status 2n + 1."""
SANDBOX = ("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny")
"""What QEMU never needs is denied to it by the kernel."""
OUTPUTS = ("serial", "serial2", "debug-console")
"""Where a PC's system may print, beside its screen: COM1, COM2, and port E9h."""
MAX_ROOT_PORTS = 15
"""Device numbers 10h to 1Eh; q35's own ICH9 sits at 1Fh."""


@dataclass(frozen=True)
class GuestSpec:
    """A guest as data. The defaults suit a Linux guest into which devices are plugged over QMP."""

    arch: str = "x86_64"
    machine: str = "q35"
    cpu: str = "max"
    smp: int = 1
    memory: int = 256
    """RAM in MiB."""
    memory_file: Path | None = None
    """The file that holds the RAM, shared with all that map it (vfio-user, GuestMemory); QEMU creates it."""
    memory_fill: bytes = b""
    """What the RAM in `memory_file` holds at the start, again and again; else zeros."""
    memory_private: bool = False
    """What the guest writes to its RAM stays in QEMU: the file is only where it starts from."""
    state: Path | None = None
    """A saved state (`Machine.save`) from which the guest resumes, instead of booting."""
    kernel: Path | None = None
    initrd: Path | None = None
    append: str = ""
    disk: Path | None = None
    """A raw image of the hard disk that is booted from; what is written to it is forgotten."""
    iso: Path | None = None
    """An ISO image of the optical disc that is booted from."""
    floppy: Path | None = None
    """A raw image of the floppy disk that is booted from; what is written to it is forgotten."""
    bios: Path | None = None
    flash: Path | None = None
    """A firmware in the machine's flash memory; what the guest writes there is forgotten."""
    strict_boot: bool = False
    """Firmware leaves alone what it is not to boot from; else SeaBIOS looks for a system on NVMe disks, and so uses them."""
    console: Literal["serial", "serial2", "debug-console"] = "serial"
    """What `Machine.console` is connected to."""
    heard: tuple[str, ...] = ()
    """Further outputs (`OUTPUTS`) that are recorded, each in a file of its own (`Machine.outputs`)."""
    screen: bool = False
    """A standard VGA card, whose picture and text QMP can read (`lab.guest.screen`)."""
    debug_exit: bool = False
    """The guest may end QEMU with an exit code (`EXIT_PORT`, `Machine.exit_code`)."""
    paused: bool = False
    """Nothing runs before QMP's cont."""
    root_ports: int = 0
    """Empty PCI Express root ports ``rp0``, ``rp1``, … for hot-plug."""
    counted_clock: bool = False
    """The guest's clock moves by 1 ns with each instruction (QEMU's -icount), under TCG and with one processor only."""
    iommu: bool = False
    """A strict Intel IOMMU with interrupt remapping."""
    network: bool = False
    """A network card whose only way out is a forwarded loopback port (`Endpoints.ssh`) to the guest's port 22. No IPv6, and no
    announcement to a network that is not there: under TCG each costs a fork the time to translate the kernel's code for it."""
    channel: bool = False
    """A virtio-serial port named `CHANNEL`, whose other end is `Machine.channel`."""
    vmgenid: bool = False
    """A generation id, by which a restored guest learns to reseed its random numbers."""
    blockdevs: tuple[Json, ...] = ()
    devices: tuple[Json, ...] = ()
    """Present at start, for guests that cannot hot-plug; both in QMP's own words, backends before devices."""
    trace: tuple[str, ...] = ()
    """Trace event names or patterns (``pci_nvme_*``) that are enabled from the start."""
    translated: str = ""
    """Addresses (``0x1000+0x200``, ``0x1000..0x11ff``) whose code is logged when it is first run, to where the trace goes."""
    sandbox: bool = True
    """Deny QEMU what it never needs: new privileges, children, obsolete system calls."""
    extra: tuple[str, ...] = ()

    @property
    def ram_base(self) -> int:
        """The physical address of the RAM's first byte."""
        return ARCHITECTURES[self.arch].ram_base


@dataclass(frozen=True)
class Endpoints:
    """File descriptors that QEMU inherits: connected sockets, and the writing end of a pipe for its trace."""

    qmp: int
    console: int
    trace: int | None = None
    channel: int | None = None
    heard: tuple[int, ...] = ()
    """One for each of `GuestSpec.heard`, opened for writing."""
    ssh: str = "tcp:127.0.0.1:0"
    """What QEMU forwards to the guest's port 22, in the words of its ``hostfwd``."""

    def inherited(self) -> list[int]:
        """Return all descriptors that QEMU must inherit."""
        return [fd for fd in (self.qmp, self.console, self.trace, self.channel, *self.heard) if fd is not None]


def arguments(spec: GuestSpec, endpoints: Endpoints, accelerator: str) -> list[str]:
    """Return QEMU's arguments, without the command itself. ``accelerator`` as for ``-accel``: ``tcg,thread=multi``."""
    if spec.root_ports > MAX_ROOT_PORTS:
        raise ValueError(f"{spec.root_ports} root ports asked for; pcie.0 has room for {MAX_ROOT_PORTS}")
    return [argument for option in _options(spec, endpoints, accelerator) for argument in option]


def _options(spec: GuestSpec, endpoints: Endpoints, accelerator: str) -> Iterator[tuple[str, ...]]:
    yield "-nodefaults", "-no-user-config", "-no-reboot"
    yield "-display", "none"
    yield "-msg", "timestamp=on"
    if spec.sandbox:
        yield SANDBOX
    if spec.counted_clock and accelerator.startswith("tcg") and spec.smp == 1:
        yield "-accel", "tcg,thread=single"
        yield "-icount", "shift=0,sleep=off"
    else:
        yield "-accel", accelerator
    yield "-machine", _machine(spec)
    yield "-cpu", spec.cpu
    yield "-smp", str(spec.smp)
    yield "-m", str(spec.memory)
    if spec.memory_file:
        yield "-object", _json({"qom-type": "memory-backend-file", "id": "ram", "size": spec.memory * MIB,
                                "mem-path": str(spec.memory_file), "share": not spec.memory_private})  # fmt: skip
    yield "-chardev", f"socket,id=qmp,fd={endpoints.qmp}"
    yield "-qmp", "chardev:qmp"
    yield "-chardev", f"socket,id=console,fd={endpoints.console}"
    yield from _outputs(spec, endpoints)
    if spec.screen:
        yield "-vga", "std"
    if spec.channel:
        yield "-chardev", f"socket,id=channel,fd={endpoints.channel}"
    yield from _boot(spec)
    if spec.network:
        yield "-netdev", f"user,id=net0,ipv6=off,restrict=on,hostfwd={endpoints.ssh}-:22"
    yield from (("-blockdev", _json(blockdev)) for blockdev in spec.blockdevs)
    yield from (("-device", _json(device)) for device in _devices(spec))
    if spec.state:
        yield "-incoming", "defer"
    yield from (("-trace", f"enable={pattern}") for pattern in spec.trace)
    if spec.translated:
        yield "-d", "in_asm", "-dfilter", spec.translated
    if endpoints.trace is not None:
        yield "-D", f"/dev/fd/{endpoints.trace}"
    if spec.paused:
        yield ("-S",)
    yield spec.extra


def _outputs(spec: GuestSpec, endpoints: Endpoints) -> Iterator[tuple[str, ...]]:
    """Yield the outputs that are recorded, and what is connected to the serial ports, COM1 first."""
    connected: dict[str, str] = {spec.console: "console"}
    for number, (output, fd) in enumerate(zip(spec.heard, endpoints.heard, strict=True)):
        yield "-add-fd", f"fd={fd},set={number}"
        yield "-chardev", f"file,id={output},path=/dev/fdset/{number}"
        connected[output] = output
    ports = [connected.get("serial"), connected.get("serial2")]
    for port in ports if ports[1] else ports[:1]:
        if port or ports[1]:
            yield "-serial", f"chardev:{port}" if port else "null"


def _machine(spec: GuestSpec) -> str:
    irqchip = ",kernel-irqchip=split" if spec.iommu else ""  # interrupt remapping needs the I/O APIC in user space
    memory = ",memory-backend=ram" if spec.memory_file else ""
    return spec.machine + irqchip + memory


def _boot(spec: GuestSpec) -> Iterator[tuple[str, ...]]:
    if spec.strict_boot:
        yield "-boot", "strict=on"
    if spec.disk:
        escaped = str(spec.disk).replace(",", ",,")
        yield "-drive", f"if=none,id=boot,format=raw,snapshot=on,file={escaped}"
    if spec.iso:
        file = {"driver": "file", "filename": str(spec.iso)}
        yield "-blockdev", _json({"driver": "raw", "node-name": "boot", "read-only": True, "file": file})
    if spec.floppy:
        escaped = str(spec.floppy).replace(",", ",,")
        yield "-drive", f"if=floppy,format=raw,snapshot=on,file={escaped}"
        yield "-global", "isa-fdc.bootindexA=0"
    if spec.bios:
        yield "-bios", str(spec.bios)
    if spec.flash:
        escaped = str(spec.flash).replace(",", ",,")
        yield "-drive", f"if=pflash,unit=0,format=raw,snapshot=on,file={escaped}"
    if spec.kernel:
        yield "-kernel", str(spec.kernel)
    if spec.initrd:
        yield "-initrd", str(spec.initrd)
    if spec.append:
        yield "-append", spec.append


def _devices(spec: GuestSpec) -> Iterator[Json]:
    """Yield the devices in the order in which QEMU must see them.

    An IOMMU covers only what comes after it, and a bus comes before its devices.
    """
    if spec.iommu:
        yield {"driver": "intel-iommu", "intremap": "on", "caching-mode": True}
    if "debug-console" in (spec.console, *spec.heard):
        chardev = "console" if spec.console == "debug-console" else "debug-console"
        yield {"driver": "isa-debugcon", "iobase": DEBUG_CONSOLE, "chardev": chardev}
    if spec.debug_exit:
        yield {"driver": "isa-debug-exit", "iobase": EXIT_PORT, "iosize": 4}
    is_pc = ARCHITECTURES[spec.arch].is_pc
    if spec.disk and is_pc:
        yield {"driver": "ide-hd", "drive": "boot", "bus": "ide.0", "bootindex": 0}
    elif spec.disk:
        yield {"driver": "virtio-blk-pci", "drive": "boot", "bootindex": 0}
    if spec.iso and is_pc:
        yield {"driver": "ide-cd", "drive": "boot", "bus": "ide.0", "bootindex": 0}
    elif spec.iso:
        yield {"driver": "virtio-scsi-pci", "id": "scsi"}
        yield {"driver": "scsi-cd", "drive": "boot", "bus": "scsi.0", "bootindex": 0}
    for n in range(spec.root_ports):
        yield {"driver": "pcie-root-port", "id": f"rp{n}", "bus": "pcie.0", "addr": f"{FIRST_ROOT_PORT + n:#x}",
               "chassis": n + 1, "slot": n + 1, "pref64-reserve": PREFETCHABLE}  # fmt: skip
    if spec.vmgenid:
        yield {"driver": "vmgenid", "guid": "auto"}
    if spec.network:
        yield {"driver": "virtio-net-pci", "id": "nic0", "netdev": "net0", "romfile": "", "guest_announce": False}
    if spec.channel:
        yield {"driver": "virtio-serial-pci", "id": "ports0", "max_ports": 2}  # the first is reserved for a console
        yield {"driver": "virtserialport", "bus": "ports0.0", "nr": 1, "chardev": "channel", "name": CHANNEL}
    yield from spec.devices


def _json(value: Json) -> str:
    return json.dumps(value, separators=(",", ":"))
