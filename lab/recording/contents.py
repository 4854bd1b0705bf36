"""What a manifest's [disk] makes of a scenario's namespaces."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lab.data import filesystems
from lab.data.filesystems import partitioned
from lab.data.image_forms import require_raw
from lab.data.manifest import DriverManifest
from lab.data.plan import Controller, Namespace, Scenario
from lab.drivers.base import mebibytes, own_file
from lab.errors import UsageError

MIB = 1 << 20


MADE = f"{{{filesystems.GPT}}}"
"""In disk.contents: a disk with partitions that the lab makes."""


def with_contents(manifest: DriverManifest, scenario: Scenario) -> Scenario:
    """Return the scenario with the manifest's image in the first namespace of each controller that has its block size.

    UsageError where there is no such file. Namespaces with metadata, or of other blocks than 512 bytes, stay as they are, for
    no partition table or boot sector would be understood there; and so do those with a file system of the scenario's.
    """
    contents = manifest.disk.contents
    if not contents:
        return scenario
    size = mebibytes(manifest.disk.size) * MIB
    if contents == MADE:
        made: dict[str, Any] = {"filesystem": filesystems.GPT}
        least = partitioned.least_blocks(filesystems.partition_sizes()) * 512
    elif contents.startswith("{"):
        what = f"{manifest.path}: disk.contents: the lab makes no disk that is called {contents}"
        raise UsageError(what, remedy=f"give {MADE}, or the name of a file")
    else:
        path = own_file(manifest, "disk.contents", contents).absolute()
        require_raw(path, f"{manifest.path}: disk.contents")
        made, least = {"contents": str(path), "filesystem": ""}, path.stat().st_size
    blocks = -(-max(size, least) // 512)

    def filled(controller: Controller) -> Controller:
        first, *others = controller.namespaces
        is_fixed = first.filesystem not in ("", filesystems.GPT)
        if first.block_size != 512 or first.metadata_size or is_fixed or not first.attached:
            return controller
        held: Namespace = replace(first, blocks=max(blocks, first.blocks), areas=(), **made)
        return replace(controller, namespaces=(held, *others))

    device = scenario.device
    return replace(scenario, device=replace(device, controllers=tuple(map(filled, device.controllers))))
