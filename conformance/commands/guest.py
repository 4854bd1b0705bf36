"""``nvme-lab guest``: a script or program of the user in the Linux guest, in front of a device of the user's choice."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from conformance.commands.options import machine, settings
from conformance.commands.run import EMULATED
from conformance.run.folders import default_folder, shown
from lab import drivers
from lab.data.device_file import default_device, read_device
from lab.data.evidence import Evidence
from lab.data.manifest import DriverManifest
from lab.data.plan import Action, DeviceKind, Scenario
from lab.deadline import Deadline
from lab.device import lab as lab_device
from lab.device import qemu as qemu_device
from lab.drivers.linux_guest import connect
from lab.errors import GuestTimeoutError, LabError, UsageError
from lab.guest.machine import Machine
from lab.guest.ssh import Result
from lab.recording.record import record
from lab.toolchain import Toolchain, prepare

SECONDS = 120.0
"""How long a script may run unless --seconds says otherwise."""
IN_GUEST = "/run/user-script"
TIMED_OUT = 124
"""The exit status of a script that was too slow, as timeout(1) has it."""


@click.command()
@click.option("--script", type=click.Path(path_type=Path, dir_okay=False), required=True, metavar="FILE",
              help="a shell or Python script with #!, or a static executable")  # fmt: skip
@click.option("--spec", type=click.Path(path_type=Path), metavar="FILE",
              help="the device specification, TOML [default: one controller, one namespace of 64 MiB]")  # fmt: skip
@click.option("--device", type=click.Choice(EMULATED), default="lab", show_default=True, help="device in front of the guest")
@click.option("--driver", default="linux", show_default=True, metavar="NAME|FILE", help="a driver of adapter linux")
@click.option(
    "--seconds", type=click.FloatRange(min=1), metavar="N", default=SECONDS, show_default=True, help="time limit of the script"
)
@click.option(
    "--seed", type=click.IntRange(min=0), metavar="N", default=0, show_default=True, help="draws the pattern in the areas"
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="new folder for the evidence")
@machine
def guest(
    script: Path,
    spec: Path | None,
    device: DeviceKind,
    driver: str,
    seconds: float,
    seed: int,
    out: Path | None,
    **options: Any,
) -> int:
    """Run a script in the Linux guest, with the driver loaded on your device; return the script's exit status.

    Its output is shown, and kept in the evidence as script.out and script.err.
    A script that takes too long ends with status 124.

    \b
    nvme-lab guest --script test.sh
    nvme-lab guest --script test.sh --spec device.toml --device lab --out evidence
    """
    if not script.is_file():
        raise UsageError(f"--script {script}: there is no such file")
    described = read_device(spec) if spec else default_device()
    manifest = drivers.find(driver)
    if manifest.adapter != "linux":
        raise UsageError(
            f"the driver {driver!r} has no Linux guest for a script", remedy="--driver linux, or a manifest of that adapter"
        )
    folder = (out or _guest_folder()).absolute()
    if folder.exists():
        raise UsageError(f"{folder} exists already.", remedy="name a new folder with --out")
    wants, sources = tuple(drivers.wants(manifest)), drivers.sources([manifest])
    toolchain = prepare(settings(options), wants, lambda text: click.echo(text, err=True), sources)
    scenario = Scenario(
        id="testing/script", stage="testing", title=f"the script {script.name}", seed=seed, device=described.device,
        actions=(Action("load"),), faults=described.faults,
    )  # fmt: skip
    _check(scenario, device, manifest, toolchain)
    ran: list[Result] = []

    def visit(machine: Machine) -> None:
        ran.append(_run(script, seconds, manifest, toolchain, machine))

    record(manifest, scenario, device, folder, toolchain=toolchain, shell=True, visit=visit)
    click.echo(f"Evidence: {shown(folder)}", err=True)
    end = Evidence(folder).end
    if not ran:
        raise LabError(end.reason if end and end.reason else "the guest did not get as far as the script")
    result = ran[0]
    (folder / "script.out").write_bytes(result.stdout)
    (folder / "script.err").write_bytes(result.stderr)
    sys.stdout.buffer.write(result.stdout)
    sys.stdout.flush()
    sys.stderr.buffer.write(result.stderr)
    sys.stderr.flush()
    return result.status


def _run(script: Path, seconds: float, manifest: DriverManifest, toolchain: Toolchain, machine: Machine) -> Result:
    """Push the script and run it."""
    linux = toolchain.guest_for(manifest.needs)
    assert linux is not None
    deadline = Deadline(seconds)
    with connect(linux, machine, deadline) as ssh:
        ssh.put(script, IN_GUEST, 0o755, deadline=deadline)
        try:
            return ssh.run(IN_GUEST, deadline=deadline)
        except GuestTimeoutError as late:
            return Result(TIMED_OUT, b"", f"{late.what}\n".encode())


def _check(scenario: Scenario, device: DeviceKind, manifest: DriverManifest, toolchain: Toolchain) -> None:
    """Raise UsageError for a device that cannot serve the specification."""
    qemu = toolchain.qemu_for(manifest.boot.arch)
    version = qemu.version if qemu else ()
    if device == "lab":
        obstacle = lab_device.unservable(scenario.device, version, scenario.faults)
    else:
        obstacle = "QEMU's own device serves no faults" if scenario.faults else qemu_device.unservable(scenario.device, version)
    if obstacle:
        raise UsageError(f"The device {device} cannot serve this: {obstacle}.", remedy="change the specification, or --device")


def _guest_folder() -> Path:
    folder = default_folder(Path.cwd())
    return folder.with_name(f"guest-{folder.name}")
