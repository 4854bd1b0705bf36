"""Which controller and namespace a Linux device node stands for: its name says it (drivers/nvme/host/core.c, multipath.c).

``nvme0`` is a controller, ``nvme0n1`` a namespace as a block device, ``nvme0n1p2`` a partition of it, ``ng0n1`` the namespace
as a character device; ``nvme0c1n1`` and ``ng0c1n1`` are one path (controller 1) to a namespace of subsystem 0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

Kind = Literal["controller", "namespace", "generic", "partition"]

_NAME = re.compile(r"(?P<stem>nvme|ng)(?P<instance>\d+)(?:c(?P<path>\d+))?(?:n(?P<head>\d+))?(?:p(?P<partition>\d+))?")


@dataclass(frozen=True)
class Node:
    """What the name of a node says.

    ``instance`` is the number after nvme or ng: of the controller, or of the subsystem where its namespaces have several
    paths. ``head`` counts namespaces and need not be the NSID: only the kernel knows that.
    """

    name: str
    kind: Kind
    instance: int
    head: int | None = None
    path: int | None = None  # the controller that a path goes over
    partition: int | None = None

    @property
    def controller(self) -> int:
        """The controller's number: nvme0c1n1 goes over nvme1."""
        return self.instance if self.path is None else self.path

    @property
    def block_name(self) -> str:
        """The block device of the same namespace; "" for a controller."""
        if self.head is None:
            return ""
        path = "" if self.path is None else f"c{self.path}"
        return f"nvme{self.instance}{path}n{self.head}"


def parse(path: str) -> Node:
    """Return what a device path stands for; ValueError for one that is no NVMe node."""
    name = PurePosixPath(path).name
    found = _NAME.fullmatch(name)
    parts = found.groupdict() if found else {}
    number = {key: int(parts[key]) if parts.get(key) else None for key in ("instance", "head", "path", "partition")}
    kind = _kind(parts.get("stem", ""), number)
    instance = number["instance"]
    if kind is None or instance is None:
        raise ValueError(f"{path} is no NVMe device: expected /dev/nvme0, /dev/nvme0n1, /dev/ng0n1 or /dev/nvme0c0n1")
    return Node(name, kind, instance, number["head"], number["path"], number["partition"])


def _kind(stem: str, number: dict[str, int | None]) -> Kind | None:
    if number["head"] is None:
        alone = stem == "nvme" and number["path"] is None and number["partition"] is None
        return "controller" if alone else None
    if number["partition"] is not None:
        return "partition" if stem == "nvme" else None
    return "namespace" if stem == "nvme" else "generic"
