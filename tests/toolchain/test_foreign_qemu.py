"""QEMU for guests of another architecture."""

from __future__ import annotations

from lab.drivers import find, wants
from lab.toolchain import Toolchain


def test_each_architecture_has_its_own(toolchain: Toolchain) -> None:
    ours, arm = toolchain.qemu_for("x86_64"), toolchain.qemu_for("aarch64")
    assert ours is toolchain.qemu
    assert ours is not None
    assert ours.arch == "x86_64"
    assert arm is not None
    assert arm.arch == "aarch64"
    assert any(part.endswith("qemu-system-aarch64") for part in arm.command)
    assert toolchain.versions["qemu-aarch64"]["sha256"] == arm.sha256


def test_unrequested_packages_are_not_there() -> None:
    assert Toolchain(None, None).qemu_for("aarch64") is None


def test_a_manifest_wants_the_qemu_of_its_guest() -> None:
    assert wants(find("u-boot-arm64")) == ("qemu-aarch64", "u-boot")
    assert wants(find("seabios")) == ("qemu",)
