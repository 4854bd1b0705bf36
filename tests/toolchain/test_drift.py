"""A mirror that has moved on since the lock was written, or that fails: apt itself against small signed archives."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from images.recipe import Closure
from lab.errors import LabError
from lab.settings import Settings
from lab.toolchain import apt, closures, lock, mirrors
from lab.toolchain.apt import Package
from lab.toolchain.cache import Cache
from lab.toolchain.debs import unpack
from tests.toolchain.openpgp import SigningKey
from tests.toolchain.repository import Repository, served

HELLO = Closure(suites=["stable"], packages=["hello"])
LIBRARY = Closure(suites=["stable"], packages=["libhello"])
DAY = 86400.0


class Lab:
    """One cache and one lock file on a machine whose apt configuration names ``archives``."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, servers: ExitStack) -> None:
        self.lock_file = folder / "lock.json"
        self.cache = folder / "cache"
        self.said: list[str] = []
        self._folder = folder
        self._servers = servers
        self._key = SigningKey()
        self._keyring = str(self._key.write_keyring(folder / "keyring.gpg"))
        self.mirrors: list[Repository] = []
        monkeypatch.setattr(mirrors, "candidates", lambda: [self._source(mirror) for mirror in self.mirrors])
        monkeypatch.setattr(mirrors, "default_keyring", lambda folder: self._keyring)

    def _source(self, archive: Repository) -> mirrors.Source:
        return mirrors.Source(archive.uri, ("stable",), ("main",), self._keyring)

    def archive(self, name: str, key: SigningKey | None = None) -> Repository:
        """Serve an archive with hello 1, which depends on libhello 1; the machine does not know it."""
        archive = self._servers.enter_context(served(self._folder / name, key or self._key))
        archive.publish("libhello", "1")
        archive.publish("hello", "1", depends="libhello")
        return archive

    def mirror(self, name: str) -> Repository:
        """Serve such an archive and name it in the machine's apt configuration."""
        self.mirrors.append(self.archive(name))
        return self.mirrors[-1]

    def fetch(
        self, name: str = "hello", closure: Closure = HELLO, *, locked: bool = False, offline: bool = False, snapshot: str = ""
    ) -> closures.Fetched:
        """Fetch a closure as a new process would."""
        settings = Settings(cache=self.cache, locked=locked, offline=offline, snapshot=snapshot or None)
        cache = Cache(settings.open_cache())
        return closures.Closures(settings, cache, self.said.append, self.lock_file).fetch(name, closure)

    def write_lock(self, fetched: closures.Fetched, name: str = "hello", closure: Closure = HELLO) -> None:
        """Lock what was fetched, and empty the cache."""
        lock.write(self.lock_file, {name: (closure, fetched.packages)})
        self.cache.rename(self.cache.with_name(f"cache-{time.monotonic_ns()}"))
        self.said.clear()

    @property
    def warnings(self) -> list[str]:
        return [line for line in self.said if line.startswith("warning")]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setattr(apt, "RETRY_PAUSES", (0.0, 0.0, 0.0))
    with ExitStack() as servers:
        yield Lab(tmp_path, monkeypatch, servers)


@pytest.fixture
def mirror(lab: Lab) -> Repository:
    """Return the machine's only mirror."""
    return lab.mirror("mirror")


def versions(fetched: closures.Fetched) -> dict[str, str]:
    return {package.name: package.version for package in fetched.packages}


def test_an_empty_cache_is_filled_with_what_the_mirror_has(lab: Lab, mirror: Repository) -> None:
    fetched = lab.fetch()
    assert versions(fetched) == {"hello": "1", "libhello": "1"}
    assert (fetched.root / "usr/share/hello").read_text() == "1"


def test_locked_versions_that_the_mirror_still_has_are_taken_without_a_word(lab: Lab, mirror: Repository) -> None:
    lab.write_lock(lab.fetch())
    assert versions(lab.fetch(locked=True)) == {"hello": "1", "libhello": "1"}
    assert not lab.warnings


def test_locked_versions_that_are_gone_are_resolved_anew_with_one_warning(lab: Lab, mirror: Repository) -> None:
    lab.write_lock(lab.fetch())
    mirror.publish("hello", "2", depends="libhello")
    assert versions(lab.fetch()) == {"hello": "2", "libhello": "1"}
    assert len(lab.warnings) == 1
    assert "no mirror has the wanted version of hello 1" in lab.warnings[0]


def test_a_closure_resolved_anew_may_find_all_its_packages_in_the_cache(lab: Lab, mirror: Repository) -> None:
    """Another closure has already brought everything that the mirror has now."""
    lab.write_lock(lab.fetch())
    mirror.publish("hello", "2", depends="libhello")
    lab.fetch("other")
    downloads = mirror.downloads()
    assert versions(lab.fetch()) == {"hello": "2", "libhello": "1"}
    assert mirror.downloads() == downloads


def test_locked_versions_count_as_there_when_mirror_and_cache_have_them_together(lab: Lab, mirror: Repository) -> None:
    lab.write_lock(lab.fetch())
    lab.fetch("library", LIBRARY)
    mirror.publish("libhello", "2")
    downloads = len(mirror.downloads())
    lab.said.clear()
    assert versions(lab.fetch(locked=True)) == {"hello": "1", "libhello": "1"}
    assert mirror.downloads()[downloads:] == ["hello"]
    assert not lab.warnings


@pytest.mark.parametrize("pattern", ["/dists/stable/*Release*", "*/Packages*", "*.deb"])
@pytest.mark.parametrize("kind", ["503", "drop", "corrupt"])
def test_a_failure_that_passes_is_retried_and_reported(lab: Lab, mirror: Repository, pattern: str, kind: str) -> None:
    mirror.misbehave(pattern, kind, times=2)
    assert versions(lab.fetch()) == {"hello": "1", "libhello": "1"}
    retries = [line for line in lab.warnings if "of 4 follows in" in line]
    assert retries
    assert mirror.uri in retries[0]


def test_a_mirror_that_stays_busy_is_named_after_the_last_attempt(lab: Lab, mirror: Repository) -> None:
    mirror.misbehave("*.deb", "503")
    with pytest.raises(LabError, match=r"503.*Service Unavailable") as caught:
        lab.fetch()
    assert mirror.uri in str(caught.value)
    assert mirror.downloads().count("libhello") == 4


def test_wrong_bytes_never_reach_the_cache(lab: Lab, mirror: Repository) -> None:
    mirror.misbehave("*/libhello_1_*", "corrupt")
    with pytest.raises(LabError) as caught:
        lab.fetch()
    assert mirror.uri in str(caught.value)
    assert "libhello" in str(caught.value)
    assert len(list((lab.cache / "debs").iterdir())) == 1, "hello itself arrived as promised"


def test_a_mirror_that_dies_in_the_middle_is_followed_by_the_next(lab: Lab) -> None:
    first, second = lab.mirror("first"), lab.mirror("second")
    for archive in (first, second):
        archive.sign("stable", time.time() - (DAY if archive is second else 0))
    first.misbehave("*/libhello_1_*", "drop")
    assert versions(lab.fetch()) == {"hello": "1", "libhello": "1"}
    assert second.downloads() == ["libhello"], "what had arrived from the first is not fetched again"
    assert any(first.uri in line for line in lab.warnings)


def test_a_mirror_that_does_not_answer_is_followed_by_the_next(lab: Lab) -> None:
    dead, alive = lab.mirror("dead"), lab.mirror("alive")
    dead.misbehave("*", "500")
    assert versions(lab.fetch()) == {"hello": "1", "libhello": "1"}
    assert alive.downloads()


def test_the_first_failure_is_reported_where_no_mirror_answers(lab: Lab) -> None:
    first, second = lab.mirror("first"), lab.mirror("second")
    first.misbehave("*", "404")
    second.misbehave("*", "404")
    with pytest.raises(LabError) as caught:
        lab.fetch()
    assert first.uri in str(caught.value)


def test_of_two_mirrors_the_stale_one_is_left_behind(lab: Lab) -> None:
    stale, fresh = lab.mirror("stale"), lab.mirror("fresh")
    stale.sign("stable", time.time() - 9 * DAY)
    fresh.publish("hello", "2", depends="libhello")
    assert versions(lab.fetch()) == {"hello": "2", "libhello": "1"}


def test_a_stale_mirror_still_has_the_locked_versions(lab: Lab) -> None:
    fresh, stale = lab.mirror("fresh"), lab.mirror("stale")
    lab.write_lock(lab.fetch())
    stale.sign("stable", time.time() - 9 * DAY)
    fresh.publish("hello", "2", depends="libhello")
    assert versions(lab.fetch(locked=True)) == {"hello": "1", "libhello": "1"}
    assert stale.downloads() == ["hello"]
    assert not lab.warnings


def test_lists_of_a_mirror_may_promise_what_it_no_longer_has(lab: Lab) -> None:
    ahead, whole = lab.mirror("ahead"), lab.mirror("whole")
    ahead.publish("hello", "2", depends="libhello")
    ahead.misbehave("*/hello_2_*", "404")
    whole.sign("stable", time.time() - DAY)
    assert versions(lab.fetch()) == {"hello": "1", "libhello": "1"}


def test_a_snapshot_serves_locked_versions_that_the_mirror_has_dropped(lab: Lab, mirror: Repository) -> None:
    """Its lists have long expired."""
    first = lab.fetch()
    lab.write_lock(first)
    snapshot = lab.archive("snapshot")
    snapshot.valid_until = "Sat, 01 Jan 2022 00:00:00 UTC"
    snapshot.sign("stable", time.time() - 400 * DAY)
    mirror.publish("hello", "2", depends="libhello")
    with pytest.raises(LabError, match="--locked: no mirror has the wanted version of hello 1") as caught:
        lab.fetch(locked=True)
    assert "--snapshot" in caught.value.remedy
    assert lab.fetch(locked=True, snapshot=snapshot.uri).packages == first.packages
    assert snapshot.downloads() == ["hello"], "the mirror has the rest"


def test_nothing_is_resolved_anew_while_a_snapshot_has_the_locked_versions(lab: Lab, mirror: Repository) -> None:
    lab.write_lock(lab.fetch())
    snapshot = lab.archive("snapshot")
    mirror.publish("hello", "2", depends="libhello")
    assert versions(lab.fetch(snapshot=snapshot.uri))["hello"] == "1"
    assert not lab.warnings


def test_what_the_snapshot_lacks_too_is_resolved_anew_on_the_mirror(lab: Lab, mirror: Repository) -> None:
    lab.write_lock(lab.fetch())
    mirror.publish("hello", "2", depends="libhello")
    snapshot = lab.archive("snapshot")
    snapshot.withdraw("hello")
    assert versions(lab.fetch(snapshot=snapshot.uri))["hello"] == "2"


def test_expired_lists_of_a_mirror_are_refused(
    lab: Lab, mirror: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(apt, "_MACHINE", tmp_path)  # this machine's own configuration may allow them
    mirror.valid_until = "Sat, 01 Jan 2022 00:00:00 UTC"
    mirror.sign("stable", time.time() - 400 * DAY)
    with pytest.raises(LabError, match="expired"):
        lab.fetch()


def test_lists_signed_with_another_key_are_refused(lab: Lab) -> None:
    lab.mirrors.append(lab.archive("forged", SigningKey()))
    with pytest.raises(LabError, match="a key that this machine does not know"):
        lab.fetch()


@pytest.fixture
def backports(mirror: Repository) -> Repository:
    """Backports of everything: hello 3 needs its data of the same version, and any libhello."""
    mirror.publish("hello-data", "1")
    for name, depends in (("libhello", ""), ("hello-data", ""), ("hello", "libhello, hello-data (= 3)")):
        mirror.publish(name, "3", suite="stable-backports", depends=depends)
    return mirror


def test_of_backports_only_what_is_needed_is_taken(lab: Lab, backports: Repository) -> None:
    closure = Closure(suites=["stable", "stable-backports"], packages=["hello"], newest=["hello-*"])
    assert versions(lab.fetch(closure=closure)) == {"hello": "3", "hello-data": "3", "libhello": "1"}


def test_backports_are_preferred_for_all_where_stable_will_not_do(lab: Lab, backports: Repository) -> None:
    closure = Closure(suites=["stable", "stable-backports"], packages=["hello"])
    assert versions(lab.fetch(closure=closure)) == {"hello": "3", "hello-data": "3", "libhello": "3"}


def test_a_damaged_package_in_the_cache_is_fetched_again(lab: Lab, mirror: Repository) -> None:
    fetched = lab.fetch()
    damage(lab, fetched.packages[0])
    without_documents = HELLO.model_copy(update={"exclude": ["usr/share/doc"]})
    assert (lab.fetch(closure=without_documents).root / "usr/share/hello").read_text() == "1"
    assert mirror.downloads().count("hello") == 2
    assert any("damaged" in line for line in lab.warnings)


def test_a_damaged_package_in_the_cache_is_not_unpacked_offline(lab: Lab, mirror: Repository) -> None:
    lab.write_lock(lab.fetch())
    damage(lab, lab.fetch().packages[0])
    without_documents = HELLO.model_copy(update={"exclude": ["usr/share/doc"]})
    with pytest.raises(LabError, match="--offline"):
        lab.fetch(closure=without_documents, offline=True)


def damage(lab: Lab, package: Package) -> None:
    """Flip a bit in the middle of a package in the cache."""
    file = lab.cache / "debs" / f"{package.sha256}.deb"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_pins_of_this_machine_do_not_count(
    lab: Lab, mirror: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pins = tmp_path / "pins"
    pins.mkdir()
    (pins / "all.pref").write_text("Package: *\nPin: origin 127.0.0.1\nPin-Priority: -1\n")
    configuration = tmp_path / "etc/apt.conf.d"
    configuration.mkdir(parents=True)
    (configuration / "pins").write_text(f'Dir::Etc::preferencesparts "{pins}";\n')
    monkeypatch.setattr(apt, "_MACHINE", configuration.parent)
    assert versions(lab.fetch()) == {"hello": "1", "libhello": "1"}


def test_no_file_is_setuid_whatever_the_package_and_the_umask_say(lab: Lab, mirror: Repository) -> None:
    mirror.publish("hello", "1", files={"usr/bin/hello": b"x"}, modes={"usr/bin/hello": 0o6777})
    before = os.umask(0o077)
    try:
        program = lab.fetch().root / "usr/bin/hello"
    finally:
        os.umask(before)
    assert program.stat().st_mode & 0o7777 == 0o755
    assert program.parent.stat().st_mode & 0o7777 == 0o755


def test_a_package_that_is_none_is_named(tmp_path: Path) -> None:
    deb = tmp_path / "bad.deb"
    deb.write_text("not a package")
    with pytest.raises(LabError, match="cannot be unpacked"):
        unpack(deb, tmp_path)
