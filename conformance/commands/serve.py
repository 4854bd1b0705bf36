"""``nvme-lab serve``: the programmable controller on a socket, for anybody's QEMU or test suite."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

from conformance.run.folders import default_folder, shown
from conformance.run.signals import SIGNALS
from lab.data.device_file import DeviceFile, default_device, read_device
from lab.data.plan import Controller, DeviceSpec, Namespace
from lab.device.images import image
from lab.errors import UsageError
from lab.guest.folder import run_folder
from lab.testing import ServedRecording

SECTOR = 512
MEMORY = "1G"


@click.command()
@click.option("--spec", type=click.Path(path_type=Path), metavar="FILE",
              help="the device specification, TOML [default: one controller, one namespace of 64 MiB]")  # fmt: skip
@click.option("--disk", type=click.Path(path_type=Path), metavar="FILE",
              help="a raw image for the first namespace; made if missing, and kept for the next time")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="new folder for the evidence")
@click.option("--sockets", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
              help="folder for the sockets [default: a private one]")  # fmt: skip
@click.option("--seconds", type=click.FloatRange(0, threading.TIMEOUT_MAX), metavar="N",
              help="end after so long [default: at Ctrl-C]")  # fmt: skip
def serve(spec: Path | None, disk: Path | None, out: Path | None, sockets: Path | None, seconds: float | None) -> None:
    """Serve a device with its faults by the vfio-user protocol, until Ctrl-C. What it sees is recorded.

    Prints the line to type for QEMU 10.1 or newer, and the sockets for other vfio-user clients.

    \b
    nvme-lab serve
    nvme-lab serve --spec device.toml --disk disk.img
    """
    described = read_device(spec) if spec else _default(disk)
    folder = out or _serve_folder()
    if folder.exists():
        raise UsageError(f"{folder} exists already.", remedy="name a new folder with --out")
    with ExitStack() as cleanup:
        images = cleanup.enter_context(_with_disk(described.device, disk)) if disk else None
        if sockets:
            sockets.mkdir(parents=True, exist_ok=True)
        recording = ServedRecording(
            described.device, *described.faults, folder=folder.absolute(), driver="served", images=images,
            sockets=sockets.absolute() if sockets else None,
        )  # fmt: skip
        stop = cleanup.enter_context(_stopped_by_signals())
        with recording:
            click.echo("\n".join(_lines(recording)))
            stop.wait(seconds)
        place = shown(folder.absolute())
        click.echo(f"Evidence: {place}\nThe conversation: nvme-lab wire {place}\nThe verdicts: nvme-lab judge {place}")


@contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """Yield an event that the signals of `interrupting` set: however early they come, the evidence is closed in order."""
    stop = threading.Event()
    caught = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in caught}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _lines(recording: ServedRecording) -> Iterator[str]:
    """Yield what a user needs to connect."""
    for id, path in recording.sockets.items():
        yield f"controller {id}: {path}"
    yield "QEMU 10.1 or newer (vfio-user needs the guest's memory in a shared file):"
    options = [f"-machine q35,memory-backend=ram -object memory-backend-memfd,id=ram,size={MEMORY},share=on -m {MEMORY}"]
    for path in recording.sockets.values():
        device = {"driver": "vfio-user-pci", "socket": {"type": "unix", "path": str(path)}}
        options.append(f"-device '{json.dumps(device)}'")
    yield "  qemu-system-x86_64 " + " \\\n    ".join(options)
    yield "Ctrl-C ends it."


def _serve_folder() -> Path:
    folder = default_folder(Path.cwd())
    return folder.with_name(f"serve-{folder.name}")


def _default(disk: Path | None) -> DeviceFile:
    """Return the device of no file, as large as the disk that is there."""
    if disk is None or not disk.exists():
        return default_device()
    return default_device(max(_size(disk) // SECTOR, 1))


def _size(disk: Path) -> int:
    if not disk.is_file():
        raise UsageError(f"--disk {disk}: this is no file", remedy="name a raw image, or a new file")
    return disk.stat().st_size


@contextmanager
def _with_disk(device: DeviceSpec, disk: Path) -> Iterator[Path]:
    """Yield a folder of images in which the first namespace is the user's file; UsageError if it has another size."""
    controller, namespace = _first(device)
    wanted = namespace.blocks * (namespace.block_size + namespace.metadata_size)
    try:
        if not disk.exists():
            with disk.open("xb") as file:
                file.truncate(wanted)
        if not os.access(disk, os.R_OK | os.W_OK):
            raise UsageError(f"--disk {disk}: it cannot be read and written", remedy="change its permissions")
    except OSError as error:
        raise UsageError(f"--disk {disk}: {error.strerror}") from error
    if (found := _size(disk)) != wanted:
        raise UsageError(
            f"--disk {disk} has {found} bytes, and namespace {namespace.nsid} of the specification {wanted}",
            remedy=f"set blocks = {found // namespace.block_size} in the specification, or name another disk",
        )
    with run_folder() as folder:
        image(folder, controller.id, namespace.nsid).symlink_to(disk.absolute())
        yield folder


def _first(device: DeviceSpec) -> tuple[Controller, Namespace]:
    for controller in device.controllers:
        for namespace in controller.namespaces:
            return controller, namespace
    raise UsageError("--disk: the specification has no namespace", remedy="add [[controller.namespace]]")
