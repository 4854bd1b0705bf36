"""From a scenario to its device, whichever kind of device it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.data.plan import DeviceKind, Scenario
from lab.data.profile import write_profiles
from lab.device.device import Device
from lab.device.lab import LabDevice
from lab.device.modelled_profile import modelled_profiles
from lab.device.probe import probe
from lab.device.qemu import QemuDevice
from lab.errors import LabError
from lab.toolchain import Qemu


@contextmanager
def open_device(kind: DeviceKind, scenario: Scenario, qemu: Qemu, evidence: Path, sockets: Path) -> Iterator[Device]:
    """Yield the scenario's device with its images; what the device really is stands in the evidence folder.

    ``sockets`` is a folder with a short name. LabError where this kind of device cannot be what the scenario asks for.
    """
    images = evidence / "namespaces"
    if kind == "lab":
        served = LabDevice(
            scenario.device, images, qemu.version, sockets=sockets, records=evidence / "device", faults=scenario.faults
        )
        served.create_images(scenario.seed)
        with served:
            write_profiles(evidence, served.server.call(modelled_profiles))
            yield served
        return
    if scenario.faults:
        raise LabError("QEMU's own device serves no faults", remedy="use --device lab")
    device = QemuDevice(scenario.device, images, qemu.version)
    write_profiles(evidence, probe(qemu, scenario.device))
    device.create_images(scenario.seed)
    yield device
