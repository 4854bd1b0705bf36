"""A mirror that has moved on since the lock was written, or that fails: apt itself against a small signed archive."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from images.recipe import Closure
from lab.settings import Settings
from lab.toolchain import closures, lock, mirrors
from lab.toolchain.apt import Package
from lab.toolchain.cache import Cache
from tests.toolchain.openpgp import SigningKey
from tests.toolchain.repository import Repository, served

HELLO = Closure(suites=["stable"], packages=["hello"])


class Lab:
    """One cache and one lock file on a machine whose apt configuration names ``repositories``."""

    def __init__(self, folder: Path) -> None:
        self.lock_file = folder / "lock.json"
        self.cache = folder / "cache"
        self.said: list[str] = []

    def fetch(self, name: str = "hello", closure: Closure = HELLO, *, locked: bool = False) -> closures.Fetched:
        settings = Settings(cache=self.cache, locked=locked)
        cache = Cache(settings.open_cache())
        return closures.Closures(settings, cache, self.said.append, self.lock_file).fetch(name, closure)

    def write_lock(self, *packages: Package, name: str = "hello", closure: Closure = HELLO) -> None:
        lock.write(self.lock_file, {name: (closure, packages)})

    @property
    def warnings(self) -> list[str]:
        return [line for line in self.said if line.startswith("warning")]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    """The machine's only mirror: hello 1, which depends on libhello 1."""
    key = SigningKey()
    keyring = key.write_keyring(tmp_path / "keyring.gpg")
    with served(tmp_path / "archive", key) as repository:
        source = mirrors.Source(repository.uri, ("stable",), ("main",), str(keyring))
        monkeypatch.setattr(mirrors, "candidates", lambda: [source])
        repository.publish("libhello", "1")
        repository.publish("hello", "1", depends="libhello")
        yield repository


def versions(fetched: closures.Fetched) -> dict[str, str]:
    return {package.name: package.version for package in fetched.packages}


def test_an_empty_cache_is_filled_with_what_the_mirror_has(lab: Lab, archive: Repository) -> None:
    fetched = lab.fetch()
    assert versions(fetched) == {"hello": "1", "libhello": "1"}
    assert (fetched.root / "usr/share/hello").read_text() == "1"


def test_a_closure_resolved_anew_may_find_all_its_packages_in_the_cache(lab: Lab, archive: Repository) -> None:
    """The locked version is gone, and another closure has already brought everything that is there now."""
    old = Package("hello", "0", "0" * 64, 1)
    lab.write_lock(old)
    lab.fetch("other")
    downloads = archive.downloads()
    assert versions(lab.fetch()) == {"hello": "1", "libhello": "1"}
    assert archive.downloads() == downloads
    assert len([line for line in lab.warnings if "hello" in line]) >= 1
