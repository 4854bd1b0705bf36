"""A Linux kernel alone, as a user has it: what it needs to be heard, to find its drivers, and what is said if it lacks that."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from conformance.commands import run_command
from conformance.commands.observe import _target
from conformance.onboarding import linux_boot
from conformance.onboarding.observation import Boot, BootImage, Observer
from conformance.onboarding.observe_report import Report, advice
from conformance.onboarding.recognise import Recognised, recognise
from conformance.onboarding.rungs import RUNGS, Rung
from conformance.onboarding.steps_seen import Seen
from images.cpio import Archive
from lab.architectures import AARCH64
from lab.toolchain import LinuxGuest, Toolchain

BZIMAGE = bytes(0x202) + b"HdrS" + bytes(512)
LINUX, OTHER = Recognised("a Linux kernel (bzImage)", "kernel"), Recognised("a 64-bit ELF kernel with a PVH entry", "kernel")
PANIC = "[    6.2] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\n"
INIT = """#!/usr/bin/busybox sh
export PATH=/usr/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read -r module; do insmod "$module"; done < /etc/nvme-lab/preload
insmod /nvme-core.ko && insmod /nvme.ko
exec sleep 1000
"""


@pytest.mark.parametrize(
    ("found", "words", "append"),
    [
        (LINUX, None, {"append": "console=ttyS0 panic=-1"}),
        (LINUX, "nvme.poll_queues=1", {"append": "nvme.poll_queues=1 console=ttyS0 panic=-1"}),
        (LINUX, "console=ttyS1 panic=5", {"append": "console=ttyS1 panic=5"}),
        (Recognised("a Linux kernel (Image) for arm64", "kernel", arch=AARCH64), None, {"append": "console=ttyAMA0 panic=-1"}),
        (OTHER, None, {}),
        (OTHER, "quiet", {"append": "quiet"}),
    ],
)
def test_the_users_words_are_kept_and_a_console_is_added(found: Recognised, words: str | None, append: dict[str, str]) -> None:
    assert linux_boot.append(found, words) == append


def options(**given: Any) -> dict[str, Any]:
    keys = ("kernel", "disk", "iso", "floppy", "firmware", "initrd", "append", "machine", "cpu", "memory", "arch")
    return {**dict.fromkeys(keys), "cpus": 1, "extra": (), **given}


def test_a_bzimage_is_heard_however_it_is_given(tmp_path: Path) -> None:
    kernel = tmp_path / "vmlinuz-6.1"
    kernel.write_bytes(BZIMAGE)
    assert recognise(kernel).is_linux
    for image, given in ((kernel, options(append="a=1")), (None, options(kernel=kernel, append="a=1"))):
        target, _, _ = _target(image, None, None, given)
        assert (target.boot["kernel"], target.boot["append"]) == (str(kernel), "a=1 console=ttyS0 panic=-1")


@pytest.mark.parametrize(("mib", "memories"), [(0, ["256M", "1G"]), (40, ["1G"]), (120, ["2G"])])
def test_an_initrd_has_the_memory_to_be_unpacked(tmp_path: Path, mib: int, memories: list[str]) -> None:
    initrd = tmp_path / "initrd"
    with initrd.open("wb") as file:
        file.truncate(mib << 20)
    variants = list(BootImage({"initrd": str(initrd)}, tmp_path).variants())
    assert list(dict.fromkeys(one["memory"] for one in variants)) == memories
    assert {one["memory"] for one in BootImage({"initrd": str(initrd)}, tmp_path, memory="64M").variants()} == {"64M"}


def test_initrds_are_found_by_the_kernels_version_first(tmp_path: Path) -> None:
    kernel = tmp_path / "vmlinuz-6.1.0-50-amd64"
    for name in ("initrd.gz", "initrd.img-6.1.0-50-amd64", "initrd.img-5.10"):
        (tmp_path / name).touch()
    found = [path.name for path in linux_boot.initrds_beside(kernel)]
    assert found == ["initrd.img-6.1.0-50-amd64", "initrd.gz"]
    assert [path.name for path in linux_boot.initrds_beside(tmp_path / "linux")] == ["initrd.gz"]


class RootlessObserver(Observer):
    """Boots nothing: each boot ends as that of a Linux without a root file system."""

    def boot(self, rung: Rung, *, suffix: str = "", quiet: float = 0.0) -> Boot:
        del suffix, quiet
        return Boot(rung, Path("evidence"), Seen(), 1.0, "ended", "the guest reset the machine", {"COM1": PANIC})


def test_a_linux_without_a_root_is_booted_once_and_told_what_it_lacks(tmp_path: Path) -> None:
    observer = RootlessObserver("x", BootImage({}, tmp_path), tmp_path, Toolchain(None, None), lambda _: None)
    plain = observer.plain()
    assert len(observer.tried) == 1
    kernel = tmp_path / "linux"
    said = list(advice(Report("x", "linux", {}, (plain,), kernel=kernel)))
    assert said[-1] == "A distribution's kernel has its drivers in an initrd: give it with --initrd FILE."
    assert not any("triple fault" in sentence for sentence in said)
    (tmp_path / "initrd.gz").touch()
    assert f"--initrd {tmp_path / 'initrd.gz'}." in list(advice(Report("x", "linux", {}, (plain,), kernel=kernel)))[-1]
    assert "--memory 2G" in list(advice(Report("x", "linux", {}, (plain,), kernel=kernel, has_initrd=True)))[-1]


@pytest.fixture
def guest(toolchain: Toolchain) -> LinuxGuest:
    assert toolchain.linux is not None
    assert toolchain.linux.packed is not None
    return toolchain.linux


def observed(toolchain: Toolchain, folder: Path, **boot: str) -> Observer:
    words = linux_boot.append(LINUX, None)
    return Observer("linux", BootImage({**boot, **words}, folder), folder, toolchain, lambda _: None)


def test_debians_kernel_alone_has_no_driver(toolchain: Toolchain, guest: LinuxGuest, tmp_path: Path) -> None:
    observer = observed(toolchain, tmp_path, kernel=str(guest.packed))
    plain = observer.plain()
    assert (plain.how, plain.is_rootless, len(observer.tried)) == ("ended", True, 1)
    assert "--initrd" in " ".join(advice(Report("linux", "", {}, (plain,))))


def test_debians_kernel_with_an_initrd_is_judged(toolchain: Toolchain, guest: LinuxGuest, tmp_path: Path) -> None:
    archive = Archive()
    archive.file("init", INIT.encode(), 0o755)
    for module in guest.modules:
        archive.file(module.name, module.read_bytes())
    (tmp_path / "initrd").write_bytes(guest.initrd.read_bytes() + archive.to_bytes())
    plain = observed(toolchain, tmp_path, kernel=str(guest.packed), initrd=str(tmp_path / "initrd")).plain()
    assert plain.rung is RUNGS[0]
    assert set(plain.seen.steps) >= {"detect", "admin-queue", "identify", "io-queues", "read"}
    assert not [verdict.check.id for verdict in plain.verdicts if verdict.outcome.name == "FAIL"]


def test_init_takes_an_initrd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vmlinuz").write_bytes(BZIMAGE)
    with (tmp_path / "initrd.gz").open("wb") as file:
        file.truncate(40 << 20)
    assert run_command(("init", "vmlinuz", "--initrd", "initrd.gz", "--append", "a=1", "--no-boot")) == 0
    boot = tomllib.loads((tmp_path / "vmlinuz.toml").read_text())["boot"]
    assert (boot["kernel"], boot["initrd"], boot["memory"]) == ("vmlinuz", "initrd.gz", "1G")
    assert boot["append"] == "a=1 console=ttyS0 panic=-1"
