"""The images behind a device's namespaces: raw files whose bytes are those of the blocks, metadata behind them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from lab.data.content import areas
from lab.data.plan import Controller, DeviceSpec, Namespace
from lab.errors import LabError

CHUNK = 1 << 16
"""Bytes that are copied at once: what is zero in whole chunks takes no space."""


def image(folder: Path, controller: str, nsid: int) -> Path:
    """Return the path of a namespace's image: the evidence's ``namespaces/CONTROLLER-NSID.img``."""
    return folder / f"{controller}-{nsid}.img"


def owners(spec: DeviceSpec) -> Iterator[tuple[str, Controller, Namespace]]:
    """Yield (owner's id, controller, namespace): a shared namespace belongs to the first controller that has it."""
    first: dict[int, str] = {}
    for controller in spec.controllers:
        for namespace in controller.namespaces:
            owner = first.setdefault(namespace.nsid, controller.id) if namespace.shared else controller.id
            yield owner, controller, namespace


def _copy_sparsely(source: Path, image: Path) -> None:
    """Copy a file over the beginning of an image, and leave out what is zero there."""
    with source.open("rb") as read, image.open("r+b") as write:
        size = os.fstat(write.fileno()).st_size
        while (data := read.read(CHUNK)) and write.tell() < size:
            if data.count(0) == len(data):
                write.seek(len(data), os.SEEK_CUR)
            else:
                write.write(data[: size - write.tell()])


def create_images(spec: DeviceSpec, folder: Path, seed: int) -> None:
    """Create sparse files with the pattern in the namespaces' areas; a shared one has a name for each controller."""
    for owner, controller, namespace in owners(spec):
        path = image(folder, controller.id, namespace.nsid)
        try:
            if owner != controller.id:
                os.link(image(folder, owner, namespace.nsid), path)
                continue
            with path.open("xb") as file:
                file.truncate(namespace.blocks * (namespace.block_size + namespace.metadata_size))
                for offset, data in areas(seed, namespace):
                    file.seek(offset)
                    file.write(data)
                if namespace.protection:  # of blocks that were never written: all ones. NVM 1.0, 5.2
                    file.seek(namespace.blocks * namespace.block_size)
                    file.write(b"\xff" * (namespace.blocks * namespace.metadata_size))
            if namespace.contents:
                _copy_sparsely(Path(namespace.contents), path)
        except OSError as error:
            raise LabError(
                f"The image {path} cannot be made: {error.strerror}", remedy="free some space, or use another folder"
            ) from error
