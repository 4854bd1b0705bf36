from __future__ import annotations

import pytest

from lab.passthrough.paths import parse


@pytest.mark.parametrize(
    ("path", "kind", "controller", "head", "block_name"),
    [
        ("/dev/nvme0", "controller", 0, None, ""),
        ("/dev/nvme12n3", "namespace", 12, 3, "nvme12n3"),
        ("/dev/ng0n1", "generic", 0, 1, "nvme0n1"),
        ("/dev/nvme0c1n2", "namespace", 1, 2, "nvme0c1n2"),
        ("/dev/ng3c4n5", "generic", 4, 5, "nvme3c4n5"),
        ("nvme1n1p2", "partition", 1, 1, "nvme1n1"),
    ],
)
def test_a_name_gives_controller_and_namespace(
    path: str, kind: str, controller: int, head: int | None, block_name: str
) -> None:
    node = parse(path)
    assert (node.kind, node.controller, node.head, node.block_name) == (kind, controller, head, block_name)


@pytest.mark.parametrize(
    "path", ["/dev/sda", "/dev/nvme", "/dev/ng0", "/dev/nvme0c1", "/dev/ng0n1p1", "/dev/nvme0p1", "/dev/nvme-fabrics", ""]
)
def test_what_is_no_nvme_device_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"no NVMe device: expected /dev/nvme0"):
        parse(path)
