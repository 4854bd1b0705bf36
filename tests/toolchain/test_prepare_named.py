"""What the user names needs neither a mirror nor a cache that holds anything."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import paramiko
import pytest

from lab.errors import UsageError
from lab.settings import Settings
from lab.toolchain import prepare

KERNEL = b"\x7fELF Linux version 6.9.1-mine (me@here) more"


@pytest.fixture
def named(tmp_path: Path) -> Settings:
    (tmp_path / "vmlinux").write_bytes(KERNEL)
    (tmp_path / "initrd").write_bytes(b"070701 image")
    return Settings(cache=tmp_path / "cache", kernel=tmp_path / "vmlinux", image=tmp_path / "initrd", offline=True, locked=True)


def test_a_named_kernel_and_image_are_used_with_keys_of_their_own(named: Settings) -> None:
    assert named.image is not None
    toolchain = prepare(named, {"linux-guest"}, print)
    linux = toolchain.linux
    assert linux is not None
    assert toolchain.qemu is None
    assert linux.vmlinux.read_bytes() == KERNEL
    assert linux.release == "6.9.1-mine"
    assert linux.modules == ()
    assert linux.initrd.read_bytes().startswith(named.image.read_bytes() + b"070701")
    assert linux.initrd.stat().st_mode & 0o077 == linux.private_key.stat().st_mode & 0o077 == 0
    assert paramiko.Ed25519Key.from_private_key_file(str(linux.private_key)).get_name() == "ssh-ed25519"
    assert toolchain.versions["kernel"] == {"version": str(named.kernel), "sha256": sha256(KERNEL).hexdigest()}


def test_the_second_time_gives_the_same_keys(named: Settings) -> None:
    assert prepare(named, {"linux-guest"}, print).linux == prepare(named, {"linux-guest"}, print).linux


def test_a_named_file_that_is_not_there(named: Settings, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere"):
        prepare(Settings(cache=tmp_path, kernel=tmp_path / "nowhere", image=named.image), {"linux-guest"}, print)


def test_an_unknown_want_names_the_nearest(named: Settings) -> None:
    with pytest.raises(UsageError, match="'u-boot'"):
        prepare(named, {"uboot"}, print)
