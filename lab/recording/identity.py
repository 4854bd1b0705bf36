"""What distinguishes one recording from another: the driver, the device, the scenario, the versions, the machine."""

from __future__ import annotations

import os
import platform
from datetime import date
from hashlib import sha256

from lab.data.identity import AcceleratorIdentity, DriverIdentity, Identity, QemuIdentity
from lab.data.manifest import DriverManifest
from lab.data.plan import DeviceKind, Scenario
from lab.drivers import Adapter
from lab.guest.accelerator import Accelerator
from lab.toolchain import Qemu, Toolchain
from lab.toolchain.qemu import dotted
from lab.version import lab_version


def identify(
    manifest: DriverManifest, driver: Adapter, scenario: Scenario, device: DeviceKind, toolchain: Toolchain, *, shell: bool
) -> Identity:
    """Return the identity of a recording; `in_guest` adds the machine that it runs in, where there is one."""
    files = dict(driver.files)
    if manifest.python.file:
        files["python.file"] = manifest.folder / manifest.python.file
    return Identity(
        driver=DriverIdentity(
            name=manifest.name,
            adapter=manifest.adapter,
            base=manifest.base,
            release=manifest.release,
            package=toolchain.package_of(manifest.needs),
            path=str(manifest.path),
            manifest=sha256(manifest.model_dump_json(exclude={"path"}).encode()).hexdigest(),
            files={name: sha256(path.read_bytes()).hexdigest() for name, path in sorted(files.items())},
            variables=dict(manifest.variables),
            actions=tuple(sorted(driver.actions)),
            stages=manifest.stages,
            profiles=manifest.profiles,
            stops=manifest.stops,
            unit=manifest.limits.unit,
            passes_through=manifest.limits.passes_through,
            boots_from_nvme=manifest.boot.nvme,
            known=tuple(known for known in manifest.known if known.excuses_on(date.today())),
        ),
        device=device,
        scenario=scenario.to_json(),
        seed=scenario.seed,
        versions=toolchain.versions,
        host={
            "system": platform.system(),
            "release": platform.release(),
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
        },
        lab=lab_version(),
        shell=shell,
    )


def in_guest(identity: Identity, qemu: Qemu, accelerator: Accelerator) -> Identity:
    """Return the identity of a recording whose driver runs in a guest."""
    return identity.model_copy(
        update={
            "accelerator": AcceleratorIdentity(name=accelerator.name, reason=accelerator.reason),
            "qemu": QemuIdentity(version=dotted(qemu.version), origin=qemu.origin, sha256=qemu.sha256),
        }
    )
