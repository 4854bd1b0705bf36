"""Package closures in the cache: resolved, fetched, verified, unpacked.

Which packages: the lock's, if the cache or a mirror has them; else what the mirror has now, with a warning. That choice
is remembered (``resolved/``), so that a warm cache asks no mirror.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path

from images.recipe import Closure
from lab.errors import LabError
from lab.settings import Settings
from lab.toolchain import lock, mirrors
from lab.toolchain.apt import INSTEAD, Apt, MirrorError, Package
from lab.toolchain.cache import Cache, disk_full, full_disk_named, require_space

Progress = Callable[[str], None]

_UNPACKED_RATIO = 6
"""An unpacked tree takes at most about this many times the size of its .debs (kernel modules: 5.7)."""


@dataclass(frozen=True)
class Fetched:
    """A closure on this machine: the tree that its packages unpack to, and the packages."""

    root: Path
    packages: tuple[Package, ...]

    @property
    def versions(self) -> dict[str, dict[str, str]]:
        return {p.name: {"version": p.version, "sha256": p.sha256} for p in self.packages}


class Closures:
    """Fetches closures into one cache under one user's settings."""

    def __init__(self, settings: Settings, cache: Cache, progress: Progress, lock_file: Path = lock.LOCK_FILE) -> None:
        self._settings = settings
        self._cache = cache
        self._progress = progress
        self._lock_file = lock_file
        self._updated: set[str] = set()

    def fetch(self, name: str, closure: Closure) -> Fetched:
        """The closure, unpacked. A warm cache costs a look at the lock file and at one folder."""
        locked = lock.read(self._lock_file, name, closure)
        if locked is None and self._settings.locked:
            raise LabError(
                f"--locked: the lock file {self._lock_file} has no versions for {name} as its recipe stands.",
                remedy="run without --locked, or update the lock file",
            )
        remembered = None if self._settings.locked else lock.read(self._remembered(name), name, closure)
        for packages in (locked, remembered):
            if packages is not None and self._tree(closure, packages).is_dir():
                return Fetched(self._tree(closure, packages), packages)
        with self._cache.lock(f"fetch.{name}"):
            packages = self._obtain(name, closure, locked, remembered)
            return Fetched(self._unpack(name, closure, packages), packages)

    def resolve(self, closure: Closure) -> tuple[Package, ...]:
        """What the mirror has now, whatever is locked."""
        return self._on_a_mirror(closure.suites, lambda apt: _kept(closure, apt.resolve(closure.packages)))

    def _obtain(
        self, name: str, closure: Closure, locked: tuple[Package, ...] | None, remembered: tuple[Package, ...] | None
    ) -> tuple[Package, ...]:
        """Choose the versions and bring their .debs into the cache."""
        for packages in (locked, remembered):
            if packages is not None and not self._missing(packages):
                return packages
        if self._settings.offline:
            raise LabError(
                f"--offline: the cache {self._cache.root} does not hold the packages of {name}.",
                remedy="run nvme-lab fetch with a network first",
            )
        self._progress(f"{name}: asking the mirror for {' '.join(closure.suites)}")
        return self._on_a_mirror(closure.suites, lambda apt: self._download(apt, name, closure, locked))

    def _download(self, apt: Apt, name: str, closure: Closure, locked: tuple[Package, ...] | None) -> tuple[Package, ...]:
        if locked is not None and apt.has(locked):
            packages = locked
        elif self._settings.locked:
            raise LabError(
                f"--locked: {apt.mirror.uri} no longer has the versions of {name} that {self._lock_file} names.",
                remedy="run without --locked, or update the lock file",
            )
        else:
            packages = _kept(closure, apt.resolve(closure.packages))
            if packages != locked:
                why = "the lock file has no entry for it" if locked is None else "the mirror lacks locked versions"
                self._progress(f"warning: {name} is resolved anew: {why}")
                self._cache.folder("resolved")
                lock.write(self._remembered(name), {name: (closure, packages)})
        missing = self._missing(packages)
        size = sum(p.size for p in missing)
        require_space(self._cache.root, size + _UNPACKED_RATIO * sum(p.size for p in packages))
        self._progress(f"{name}: downloading {len(missing)} packages, {size / 1e6:.1f} MB")
        began = time.monotonic()

        def arrived(there: int) -> None:
            if 0 < there < size:
                left = (time.monotonic() - began) * (size - there) / there
                self._progress(f"{name}: {there / 1e6:.1f} of {size / 1e6:.1f} MB, about {left:.0f} s left")

        apt.download(missing, self._cache.folder("debs"), arrived)
        return packages

    def _on_a_mirror(self, suites: Collection[str], act: Callable[[Apt], tuple[Package, ...]]) -> tuple[Package, ...]:
        """Let ``act`` run on the first mirror that serves these suites."""
        sources = [mirrors.override(self._settings.mirror)] if self._settings.mirror else mirrors.candidates()
        if not sources:
            raise LabError("This machine's apt configuration names no Debian mirror.", remedy=INSTEAD)
        failures: list[MirrorError] = []
        for source in sources:
            key = sha256(repr((source, list(suites))).encode()).hexdigest()[:16]
            with self._cache.lock(f"apt.{key}"), full_disk_named(self._cache.root):
                try:
                    apt = Apt(self._cache.folder("apt", key), source, list(suites))
                    if key not in self._updated:
                        apt.update()
                        self._updated.add(key)
                    return act(apt)
                except MirrorError as error:
                    failures.append(error)
        raise failures[0]

    def _unpack(self, name: str, closure: Closure, packages: tuple[Package, ...]) -> Path:
        def build(folder: Path) -> None:
            require_space(self._cache.root, _UNPACKED_RATIO * sum(p.size for p in packages))
            self._progress(f"{name}: unpacking")
            for package in packages:
                unpack(self._deb(package), folder, closure.exclude)

        return self._cache.entry("trees", lock.content_key(closure, packages), build)

    def _tree(self, closure: Closure, packages: tuple[Package, ...]) -> Path:
        return self._cache.root / "trees" / lock.content_key(closure, packages)

    def _deb(self, package: Package) -> Path:
        return self._cache.root / "debs" / f"{package.sha256}.deb"

    def _missing(self, packages: Collection[Package]) -> list[Package]:
        return [p for p in packages if not self._deb(p).is_file()]

    def _remembered(self, name: str) -> Path:
        return self._cache.root / "resolved" / f"{name}.json"


def unpack(deb: Path, root: Path, exclude: Collection[str] = ()) -> None:
    """Unpack a package over ``root`` as the present user; maintainer scripts do not run."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as dpkg:
        tar = subprocess.run(
            ["tar", "-x", "-C", root, "--no-same-owner", *(f"--exclude=./{path}" for path in exclude)],
            stdin=dpkg.stdout,
            env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
            stderr=subprocess.PIPE,
            check=False,
        )
        assert dpkg.stderr is not None
        said = tar.stderr + dpkg.stderr.read()
    if re.search(rb"No space left|quota exceeded", said):
        raise disk_full(root)
    if tar.returncode or dpkg.returncode:
        raise LabError(f"{deb} cannot be unpacked: {said.decode(errors='replace').strip()}", remedy="delete it and fetch again")


def _kept(closure: Closure, packages: Collection[Package]) -> tuple[Package, ...]:
    def matches(name: str, patterns: list[str]) -> bool:
        return any(fnmatch(name, pattern) for pattern in patterns)

    return tuple(p for p in packages if matches(p.name, closure.keep) and not matches(p.name, closure.drop))
