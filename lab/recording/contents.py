"""What a manifest's [disk] makes of a scenario's namespaces."""

from __future__ import annotations

from dataclasses import replace

from lab.data.image_forms import require_raw
from lab.data.manifest import DriverManifest
from lab.data.plan import Controller, Namespace, Scenario
from lab.drivers.base import mebibytes, own_file

MIB = 1 << 20


def with_contents(manifest: DriverManifest, scenario: Scenario) -> Scenario:
    """Return the scenario with the manifest's image in the first namespace of each controller that has its block size.

    UsageError where there is no such file. Namespaces with metadata, or of other blocks than 512 bytes, stay as they are, for
    no partition table or boot sector would be understood there; and so do those with a file system of the scenario's.
    """
    if not manifest.disk.contents:
        return scenario
    path = own_file(manifest, "disk.contents", manifest.disk.contents).absolute()
    require_raw(path, f"{manifest.path}: disk.contents")
    size = max(mebibytes(manifest.disk.size) * MIB, path.stat().st_size)

    def filled(controller: Controller) -> Controller:
        first, *others = controller.namespaces
        if first.block_size != 512 or first.metadata_size or first.filesystem or not first.attached:
            return controller
        held: Namespace = replace(first, contents=str(path), blocks=max(-(-size // 512), first.blocks), areas=())
        return replace(controller, namespaces=(held, *others))

    device = scenario.device
    return replace(scenario, device=replace(device, controllers=tuple(map(filled, device.controllers))))
