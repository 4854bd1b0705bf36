"""Whom nvmectl takes a controller from, and whom it does not: on a sysfs that is made up."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.reference import vfio
from lab.reference.errors import Refused

ADDRESS = "0000:01:00.0"


@pytest.fixture
def pci(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a bus with one controller that the driver nvme has, with the disk nvme0n1, and vfio-pci loaded."""
    function = tmp_path / "devices" / ADDRESS
    (function / "nvme/nvme0/nvme0n1").mkdir(parents=True)
    (function / "class").write_text("0x010802\n")
    other = tmp_path / "devices/0000:00:1f.2"
    other.mkdir()
    (other / "class").write_text("0x010601\n")
    for driver in ("nvme", "vfio-pci"):
        (tmp_path / "drivers" / driver).mkdir(parents=True)
    (function / "driver").symlink_to(tmp_path / "drivers/nvme")
    (tmp_path / "mounts").write_text("tmpfs /tmp tmpfs rw 0 0\n")
    monkeypatch.setattr(vfio, "PCI", tmp_path)
    monkeypatch.setattr(vfio, "MOUNTS", tmp_path / "mounts")
    return tmp_path


def test_only_nvme_controllers_are_found(pci: Path) -> None:
    assert vfio.controllers() == [ADDRESS]


@pytest.mark.parametrize("source", ["/dev/nvme0n1", "/dev/nvme0n1p2"])
@pytest.mark.parametrize("force", [False, True])
def test_a_mounted_disk_is_never_taken_away(pci: Path, source: str, force: bool) -> None:
    (pci / "mounts").write_text(f"{source} /home ext4 rw 0 0\n")
    with pytest.raises(Refused, match=f"holds {source}, which is mounted at /home: unmount it first"):
        vfio.bind(ADDRESS, force=force)
    assert not (pci / "devices" / ADDRESS / "driver_override").exists()


def test_another_drivers_controller_is_taken_by_force_only(pci: Path) -> None:
    with pytest.raises(Refused, match=r"the driver nvme has 0000:01:00\.0; --force takes the controller away from it"):
        vfio.bind(ADDRESS)
    assert not (pci / "devices" / ADDRESS / "driver_override").exists()
    vfio.bind(ADDRESS, force=True)
    assert (pci / "drivers/nvme/unbind").read_text() == ADDRESS
    assert (pci / "devices" / ADDRESS / "driver_override").read_text() == "vfio-pci"
    assert (pci / "drivers_probe").read_text() == ADDRESS


def test_a_free_controller_is_taken_and_one_of_ours_left_as_it_is(pci: Path) -> None:
    driver = pci / "devices" / ADDRESS / "driver"
    driver.unlink()
    vfio.bind(ADDRESS)
    assert (pci / "drivers_probe").read_text() == ADDRESS
    (pci / "drivers_probe").unlink()
    driver.symlink_to(pci / "drivers/vfio-pci")
    vfio.bind(ADDRESS)
    assert not (pci / "drivers_probe").exists()


def test_what_is_not_there_is_named(pci: Path) -> None:
    with pytest.raises(Refused, match=r"there is no PCI function 0000:02:00\.0; NVMe controllers here: 0000:01:00\.0"):
        vfio.bind("0000:02:00.0")
    (pci / "devices" / ADDRESS / "driver").unlink()
    (pci / "drivers/vfio-pci").rmdir()
    with pytest.raises(Refused, match="this kernel has no vfio-pci: load the modules"):
        vfio.bind(ADDRESS)
    with pytest.raises(Refused, match="in no IOMMU group"):
        vfio.Vfio(ADDRESS)


def test_what_cannot_be_opened_is_not_kept(pci: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a group the kernel gives one descriptor at a time: a forgotten one would make every later try fail."""
    device_files = pci / "vfio"
    device_files.mkdir()
    monkeypatch.setattr(vfio, "VFIO", device_files)
    for name in ("vfio", "7"):
        (device_files / name).touch()
    (pci / "groups/7").mkdir(parents=True)
    (pci / "devices" / ADDRESS / "iommu_group").symlink_to(pci / "groups/7")
    with pytest.raises(Refused, match="cannot be opened by VFIO: Inappropriate ioctl"):
        vfio.Vfio(ADDRESS)
    opened = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert not [path for path in opened if path.startswith(str(device_files))]
