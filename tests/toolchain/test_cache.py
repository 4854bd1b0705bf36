from __future__ import annotations

import errno
import multiprocessing
from pathlib import Path

import pytest

from lab.errors import LabError
from lab.toolchain.cache import Cache, full_disk_named, require_space


def test_an_entry_is_built_once(tmp_path: Path) -> None:
    built: list[Path] = []

    def build(folder: Path) -> None:
        built.append(folder)
        (folder / "content").write_text("x")

    cache = Cache(tmp_path)
    assert cache.entry("kind", "key", build) == cache.entry("kind", "key", build) == tmp_path / "kind" / "key"
    assert len(built) == 1
    assert not list(tmp_path.glob("kind/*.partial"))


def test_a_failed_build_leaves_nothing_and_can_be_repeated(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(LabError, match="full") as caught:
        Cache(tmp_path).entry("kind", "key", fail)
    assert caught.value.remedy
    assert list((tmp_path / "kind").iterdir()) == []
    assert Cache(tmp_path).entry("kind", "key", lambda folder: None).is_dir()


def test_what_a_killed_build_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / "kind" / "key.partial"
    left.mkdir(parents=True)
    (left / "half").touch()
    assert list(Cache(tmp_path).entry("kind", "key", lambda folder: None).iterdir()) == []


def _build_and_count(root: Path) -> None:
    def build(folder: Path) -> None:
        with (root / "builds").open("a") as stream:
            stream.write("x")

    Cache(root).entry("kind", "key", build)


def test_parallel_processes_build_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_build_and_count, args=(tmp_path,)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [w.exitcode for w in workers] == [0] * 4
    assert (tmp_path / "builds").read_text() == "x"


def test_space_is_checked_first(tmp_path: Path) -> None:
    require_space(tmp_path, 1)
    with pytest.raises(LabError, match="1000000000000 MB are needed") as caught:
        require_space(tmp_path, 10**18)
    assert "NVME_LAB_CACHE" in caught.value.remedy


def test_other_errors_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), full_disk_named(tmp_path):
        raise PermissionError("no")
