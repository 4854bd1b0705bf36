"""Which versions are taken: the lock, the mirror and the options against each other, on a mirror made of two packages."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from pathlib import Path

import pytest

from images.recipe import Closure
from lab.errors import LabError
from lab.settings import Settings
from lab.toolchain import closures, lock, mirrors
from lab.toolchain.apt import MirrorError, Package, file_sha256
from lab.toolchain.cache import Cache

CLOSURE = Closure(suites=["suite"], packages=["hello"], drop=["unwanted*"])


class FakeMirror:
    """Serves what is in ``packages``; stands in for apt."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.packages: dict[Package, Path] = {}
        self.asked = 0

    def publish(self, name: str, version: str) -> Package:
        """Replace the older versions of ``name``, as mirrors do."""
        tree = self.folder / f"{name}-{version}"
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "usr/share/doc").mkdir(parents=True)
        (tree / "usr" / name).write_text(version)
        control = f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: x\nDescription: x\n"
        (tree / "DEBIAN/control").write_text(control)
        deb = self.folder / f"{name}_{version}.deb"
        subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, deb], check=True, capture_output=True)
        self.packages = {p: f for p, f in self.packages.items() if p.name != name}
        package = Package(name, version, file_sha256(deb), deb.stat().st_size)
        self.packages[package] = deb
        return package

    def __call__(
        self, folder: Path, mirror: mirrors.Source, suites: Sequence[str], progress: Callable[[str], None], architecture: str
    ) -> FakeMirror:
        assert architecture == "amd64"
        self.mirror = mirror
        return self

    def dates(self) -> tuple[datetime, ...]:
        return ()

    def update(self) -> None:
        self.asked += 1
        if "dead" in self.mirror.uri:
            raise MirrorError(f"{self.mirror.uri} does not answer")

    def resolve(self, packages: Sequence[str], newest: Sequence[str]) -> tuple[Package, ...]:
        return tuple(sorted(self.packages))

    def available(self, packages: Collection[Package]) -> set[Package]:
        return set(packages) & set(self.packages)

    def download(self, packages: Collection[Package], store: Path, arrived: Callable[[int], None]) -> None:
        for package in packages:
            arrived(package.size)
            (store / f"{package.sha256}.deb").write_bytes(self.packages[package].read_bytes())


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeMirror:
    fake = FakeMirror(tmp_path / "mirror")
    monkeypatch.setattr(closures, "Apt", fake)
    monkeypatch.setattr(mirrors, "candidates", lambda: [mirrors.Source("http://m.example", (), ())])
    fake.publish("hello", "1")
    fake.publish("unwanted-doc", "1")
    return fake


class Lab:
    """One cache and one lock file; ``said`` is what the user saw."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock_file = folder / "lock.json"
        self.said: list[str] = []

    def fetch(
        self, closure: Closure = CLOSURE, *, locked: bool = False, offline: bool = False, mirror: str | None = None
    ) -> closures.Fetched:
        settings = Settings(cache=self.folder / "cache", locked=locked, offline=offline, mirror=mirror)
        cache = Cache(settings.open_cache())
        return closures.Closures(settings, cache, self.said.append, self.lock_file).fetch("hello", closure)

    def write_lock(self, *packages: Package, closure: Closure = CLOSURE) -> None:
        lock.write(self.lock_file, {"hello": (closure, packages)})

    @property
    def warnings(self) -> list[str]:
        return [line for line in self.said if line.startswith("warning")]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def hello(mirror: FakeMirror) -> Package:
    return next(p for p in mirror.packages if p.name == "hello")


def test_the_locked_versions_are_taken_while_the_mirror_has_them(mirror: FakeMirror, lab: Lab) -> None:
    lab.write_lock(hello(mirror))
    fetched = lab.fetch(locked=True)
    assert (fetched.root / "usr/hello").read_text() == "1"
    assert fetched.versions == {"hello": {"version": "1", "sha256": hello(mirror).sha256}}
    assert not lab.warnings


def test_a_warm_cache_asks_no_mirror(mirror: FakeMirror, lab: Lab) -> None:
    first = lab.fetch()
    asked = mirror.asked
    assert lab.fetch(offline=True) == first
    assert mirror.asked == asked


def test_versions_that_are_gone_are_resolved_anew_with_a_warning(mirror: FakeMirror, lab: Lab) -> None:
    lab.write_lock(hello(mirror))
    mirror.publish("hello", "2")
    assert (lab.fetch().root / "usr/hello").read_text() == "2"
    assert len(lab.warnings) == 1
    assert "hello" in lab.warnings[0]


def test_locked_makes_versions_that_are_gone_an_error(mirror: FakeMirror, lab: Lab) -> None:
    lab.write_lock(hello(mirror))
    mirror.publish("hello", "2")
    with pytest.raises(LabError, match="--locked: no mirror has the wanted version of hello 1") as caught:
        lab.fetch(locked=True)
    assert "--snapshot" in caught.value.remedy


def test_locked_does_not_use_what_was_resolved_anew_before(mirror: FakeMirror, lab: Lab) -> None:
    old = hello(mirror)
    mirror.publish("hello", "2")
    lab.fetch()
    lab.write_lock(old)
    with pytest.raises(LabError, match="--locked: no mirror has the wanted version of hello 1"):
        lab.fetch(locked=True)


def test_locked_without_an_entry_is_an_error(mirror: FakeMirror, lab: Lab) -> None:
    with pytest.raises(LabError, match="has no versions for hello"):
        lab.fetch(locked=True)


def test_a_lock_for_another_recipe_does_not_count(mirror: FakeMirror, lab: Lab) -> None:
    lab.write_lock(hello(mirror), closure=CLOSURE.model_copy(update={"packages": ["other"]}))
    with pytest.raises(LabError, match="has no versions for hello"):
        lab.fetch(locked=True)


def test_locked_debs_in_the_cache_serve_offline(mirror: FakeMirror, lab: Lab) -> None:
    lab.write_lock(hello(mirror))
    lab.fetch()
    without_documents = CLOSURE.model_copy(update={"exclude": ["usr/share/doc"]})
    mirror.publish("hello", "2")
    root = lab.fetch(without_documents, offline=True, locked=True).root
    assert (root / "usr/hello").read_text() == "1"
    assert not (root / "usr/share/doc").exists()


def test_offline_with_an_empty_cache_is_an_error(mirror: FakeMirror, lab: Lab) -> None:
    with pytest.raises(LabError, match="--offline"):
        lab.fetch(offline=True)
    assert mirror.asked == 0


def test_dropped_packages_are_neither_fetched_nor_unpacked(mirror: FakeMirror, lab: Lab) -> None:
    fetched = lab.fetch()
    assert [p.name for p in fetched.packages] == ["hello"]
    assert not (fetched.root / "usr/unwanted-doc").exists()


def test_the_next_mirror_is_tried_and_the_first_failure_reported(
    mirror: FakeMirror, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = [mirrors.Source(f"http://{name}.example", (), ()) for name in ("dead1", "alive")]
    monkeypatch.setattr(mirrors, "candidates", lambda: sources)
    assert lab.fetch().packages
    monkeypatch.setattr(mirrors, "candidates", lambda: [sources[0]])
    with pytest.raises(LabError, match="dead1"):
        lab.fetch(CLOSURE.model_copy(update={"packages": ["other"]}))


def test_without_a_mirror_the_ways_out_are_named(mirror: FakeMirror, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirrors, "candidates", list)
    with pytest.raises(LabError) as caught:
        lab.fetch()
    assert all(option in caught.value.remedy for option in ("--qemu", "--kernel", "--image", "--mirror"))
    assert lab.fetch(mirror="http://mine.example").packages
    assert mirror.mirror.uri == "http://mine.example"


def test_a_spoilt_lock_file_is_named(mirror: FakeMirror, lab: Lab) -> None:
    lab.lock_file.write_text(json.dumps({"schema": 1, "closures": {"hello": {}}}))
    with pytest.raises(LabError, match=str(lab.lock_file)):
        lab.fetch()


def test_writing_the_lock_keeps_other_entries(lab: Lab) -> None:
    one, two = Package("a", "1", "0" * 64, 1), Package("b", "2", "1" * 64, 2)
    lock.write(lab.lock_file, {"one": (CLOSURE, [one])})
    lock.write(lab.lock_file, {"two": (CLOSURE, [two])})
    assert lock.read(lab.lock_file, "one", CLOSURE) == (one,)
    assert lock.read(lab.lock_file, "two", CLOSURE) == (two,)
