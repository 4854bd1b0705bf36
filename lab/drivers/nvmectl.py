"""``nvmectl`` on this machine: the tool of `lab.reference` on a temporary device, in process or in QEMU."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from lab.controller.in_process import InProcess
from lab.data.plan import Controller, DeviceSpec, Namespace
from lab.device.qemu import QemuDevice
from lab.drivers.reference import QTEST_MEMORY
from lab.drivers.reference_in_process import Host, InProcessTransport
from lab.drivers.reference_qtest import Ram, find
from lab.errors import LabError, UsageError
from lab.guest.arguments import MIB, GuestSpec
from lab.guest.folder import run_folder
from lab.guest.machine import Machine
from lab.guest.qtest import Qtest
from lab.nvme.identify import Oacs
from lab.reference import controller as driver
from lab.reference import nvmectl
from lab.reference.service import Open
from lab.reference.settings import Settings as DriverSettings
from lab.settings import Settings
from lab.toolchain import prepare

BLOCKS = 1 << 15
"""Blocks of the temporary disk: 16 MiB."""
MANAGEMENT = {"OACS": Oacs.of(FORMAT=1, NAMESPACE_MANAGEMENT=1, NVME_MI=1)}
"""What the programmable controller offers besides; QEMU's device cannot be given OACS."""
BLOCK_SIZE = 512
SLOT = 4


def _spec(image: Path | None, identify: Mapping[str, int]) -> DeviceSpec:
    blocks = BLOCKS
    if image is not None:
        try:
            blocks, rest = divmod(image.stat().st_size, BLOCK_SIZE)
        except OSError as error:
            raise UsageError(f"the image {image} cannot be used: {error.strerror}") from error
        if rest or not blocks:
            raise UsageError(f"the image {image} is not a whole number of blocks of {BLOCK_SIZE} bytes")
    controller = Controller(serial="NVMECTL", namespaces=(Namespace(blocks=blocks),), identify=dict(identify))
    return DeviceSpec(controllers=(controller,))


@contextmanager
def _images(image: Path | None) -> Iterator[Path]:
    """Make a folder whose nv0-1.img is a link to the user's image, if there is one."""
    with run_folder() as folder:
        if image is not None:
            (folder / "nv0-1.img").symlink_to(image.resolve())
        yield folder


@contextmanager
def in_process(options: argparse.Namespace) -> Iterator[Open]:
    """Open the programmable controller in this process."""
    host = Host()
    spec = _spec(options.image, MANAGEMENT)
    with _images(options.image) as folder, InProcess(spec, folder, memory=host.memory) as device:
        yield lambda: [InProcessTransport(host, device, function) for function in device.functions.values()]


@contextmanager
def programmable_controller(settings: DriverSettings | None = None) -> Iterator[driver.Controller]:
    """Bring up the reference driver on a programmable controller in this process, with an empty disk of 16 MiB."""
    with in_process(argparse.Namespace(image=None)) as functions:
        controller = driver.Controller(functions()[0], settings)
        try:
            controller.start()
            yield controller
        finally:
            controller.close()


@contextmanager
def over_qtest(options: argparse.Namespace) -> Iterator[Open]:
    """Open QEMU's own device in a machine whose processor never starts."""
    spec = _spec(options.image, {})
    qemu = prepare(Settings(), ["qemu"], lambda line: print(line, file=sys.stderr)).qemu
    assert qemu is not None
    with _images(options.image) as folder:
        device = QemuDevice(spec, folder, qemu.version)
        if options.image is None:
            device.create_images(seed=0)
        guest = GuestSpec(
            memory=QTEST_MEMORY,
            memory_file=folder / "memory",
            blockdevs=device.blockdevs,
            devices=(*device.subsystems, *device.devices([{"bus": "pcie.0", "addr": f"{SLOT:#x}"}])),
            extra=("-S",),
        )
        with Machine(qemu.command, qemu.env, guest, "tcg", writable=[folder]) as machine, Qtest(machine) as qtest:
            ram = Ram(folder / "memory", QTEST_MEMORY * MIB)
            yield lambda: list(find(qtest, ram))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the console script."""
    try:
        return nvmectl.main(arguments, {"in-process": in_process, "qtest": over_qtest})
    except LabError as error:
        print(f"nvmectl: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
