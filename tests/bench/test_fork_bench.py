from __future__ import annotations

import pytest

from lab.bench.figures import Figure
from lab.bench.fork import bench
from lab.device.qemu import QemuDevice
from lab.errors import LabError
from lab.toolchain import Toolchain


def test_a_figure_as_data() -> None:
    figure = Figure("fork", 0.5, "s", "boot", 4.0)
    assert figure.to_json() == {
        "name": "fork", "value": 0.5, "unit": "s", "against": "boot", "against_value": 4.0, "ratio": 8.0,
    }  # fmt: skip


def test_a_fork_is_faster_and_smaller_than_a_boot(toolchain: Toolchain) -> None:
    figures = {figure.name: figure for figure in bench(toolchain, rounds=1)}
    assert len(figures) == 5
    assert figures["fork to first verified read"].ratio > 4  # 14 on a machine that has nothing else to do
    assert figures["the same, driver pushed and loaded"].ratio > 3
    assert figures["fork to running guest"].ratio > 10
    assert figures["QEMU's processor time of a fork"].ratio > 6
    assert 1 < figures["private memory of a fork"].value < 150


def test_a_wrong_byte_is_no_figure(toolchain: Toolchain, monkeypatch: pytest.MonkeyPatch) -> None:
    create = QemuDevice.create_images
    monkeypatch.setattr(QemuDevice, "create_images", lambda device, seed: create(device, seed + 1))
    with pytest.raises(LabError, match="first read of the benchmark is wrong"):
        bench(toolchain, rounds=1)


def test_without_a_guest_there_is_nothing_to_measure() -> None:
    with pytest.raises(LabError, match="needs QEMU and the Linux guest"):
        bench(Toolchain(qemu=None, linux=None))
