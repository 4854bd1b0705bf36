"""The cache notices what is not as it was built, says so, and removes it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lab.toolchain.cache import Cache
from lab.toolchain.digests import CHUNK, digest


def build(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "firmware.rom").write_bytes(b"\x5a" * 3000)
    (folder / "sub/other").write_bytes(b"other")
    (folder / "link").symlink_to("firmware.rom")


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("whole", [False, True])
def test_a_flipped_bit_is_found_and_its_entry_built_again(tmp_path: Path, whole: bool) -> None:
    cache = Cache(tmp_path)
    entry = cache.entry("trees", "a", build)
    used = entry if whole else entry / "firmware.rom"
    assert cache.heal([used, entry / "link"]) == []
    flip(entry / "firmware.rom", 2999)
    assert cache.heal([used]) == [f"{entry}/firmware.rom has other content than was built"]
    assert not entry.exists()
    assert cache.heal([cache.entry("trees", "a", build)]) == []


def test_damage_elsewhere_in_an_entry_is_not_looked_for(tmp_path: Path) -> None:
    entry = Cache(tmp_path).entry("trees", "a", build)
    flip(entry / "sub/other", 0)
    assert Cache(tmp_path).heal([entry / "firmware.rom"]) == []
    assert Cache(tmp_path).heal([entry]) == [f"{entry}/sub/other has other content than was built"]


def test_a_file_that_is_gone_is_damage(tmp_path: Path) -> None:
    entry = Cache(tmp_path).entry("trees", "a", build)
    (entry / "firmware.rom").unlink()
    assert Cache(tmp_path).heal([entry / "firmware.rom"]) == [f"{entry}/firmware.rom cannot be read: No such file or directory"]


def test_what_is_not_of_the_cache_is_not_touched(tmp_path: Path) -> None:
    own = tmp_path / "own.ko"
    own.write_bytes(b"x")
    assert Cache(tmp_path / "cache").heal([own]) == []
    assert own.exists()


def test_a_hole_is_the_same_as_zeros_and_a_flip_behind_it_is_not(tmp_path: Path) -> None:
    sparse, full = tmp_path / "sparse", tmp_path / "full"
    with sparse.open("wb") as file:
        file.seek(3 * CHUNK)
        file.write(b"end")
    full.write_bytes(bytes(3 * CHUNK) + b"end")
    assert digest(sparse) == digest(full)
    flip(full, CHUNK + 5)
    assert digest(sparse) != digest(full)


def test_what_was_sound_is_read_again_once_its_time_has_changed(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    rom = cache.entry("trees", "a", build) / "firmware.rom"
    assert cache.heal([rom], trust_times=True) == []
    before = rom.stat()
    assert cache.heal([rom], trust_times=True) == []
    flip(rom, 5)
    os.utime(rom, ns=(before.st_atime_ns, before.st_mtime_ns))  # the time of the inode's change stays
    assert cache.heal([rom], trust_times=True) == [f"{rom} has other content than was built"]


def test_the_entry_of_a_path(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert cache.entry_of(tmp_path / "trees/a/usr/bin/qemu") == cache.entry_of(tmp_path / "trees/a") == tmp_path / "trees/a"
    assert cache.entry_of(tmp_path / "trees") is cache.entry_of(Path("/usr/bin/qemu")) is None
