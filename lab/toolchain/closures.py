"""Package closures in the cache: resolved, fetched, verified, unpacked, proven complete.

Which packages: the lock's, if the cache, a mirror or the snapshot has them; else what the mirror has now, with a warning. That
choice is remembered (``resolved/``), so that a warm cache asks no mirror.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from images.recipe import Closure
from lab.errors import LabError
from lab.settings import Settings
from lab.toolchain import contents, lock, mirrors
from lab.toolchain.apt import INSTEAD, NATIVE, Apt, MirrorError, Package
from lab.toolchain.cache import Cache, full_disk_named, require_space
from lab.toolchain.debs import Debs, control, unpack
from lab.toolchain.mirrors import Source

LOG = logging.getLogger(__name__)

Progress = Callable[[str], None]

_UNPACKED_RATIO = 6
"""An unpacked tree takes at most about this many times the size of its .debs (kernel modules: 5.7)."""
_RELATIONSHIPS = ("Depends", "Pre-Depends", "Provides")


@dataclass(frozen=True)
class Fetched:
    """A closure on this machine: the tree that its packages unpack to, and the packages."""

    root: Path
    packages: tuple[Package, ...]

    @property
    def versions(self) -> dict[str, dict[str, str]]:
        """Return each package's version and SHA-256 by its name."""
        return {p.name: {"version": p.version, "sha256": p.sha256} for p in self.packages}


class Closures:
    """Fetches closures into one cache under one user's settings."""

    def __init__(self, settings: Settings, cache: Cache, progress: Progress, lock_file: Path = lock.LOCK_FILE) -> None:
        """Take the settings, a cache to unpack into, and the lock file with the versions of packages."""
        self._settings = settings
        self._cache = cache
        self._progress = progress
        self._lock_file = lock_file
        self._debs = Debs(cache.folder("debs"), progress)
        self._failed: dict[str, MirrorError] = {}
        self._updated: set[str] = set()

    def fetch(self, name: str, closure: Closure) -> Fetched:
        """Return the closure, unpacked. A warm cache costs a look at the lock file and at one folder."""
        locked = lock.read(self._lock_file, name, closure)
        if locked is None and self._settings.locked:
            raise LabError(
                f"--locked: the lock file {self._lock_file} has no versions for {name} as its recipe stands.",
                remedy="run without --locked, or update the lock file",
            )
        remembered = None if self._settings.locked else lock.read(self._remembered(name), name, closure)
        for packages in (locked, remembered):
            if packages is not None and self._tree(closure, packages).is_dir():
                LOG.debug("%s: %s", name, self._tree(closure, packages))
                return Fetched(self._tree(closure, packages), packages)
        with self._cache.lock(f"fetch.{name}"):
            packages = self._obtain(name, closure, locked, remembered)
            return Fetched(self._unpack(name, closure, packages), packages)

    def resolve(self, closure: Closure) -> tuple[Package, ...]:
        """Return what the mirror that is most up to date has now, whatever is locked."""
        return next(self._resolutions(closure))

    def _obtain(
        self, name: str, closure: Closure, locked: tuple[Package, ...] | None, remembered: tuple[Package, ...] | None
    ) -> tuple[Package, ...]:
        """Choose the versions and bring their .debs into the cache."""
        for packages in (locked, remembered):
            if packages is not None and not self._debs.missing(packages):
                LOG.info("%s: all %d packages are in the cache", name, len(packages))
                return packages
        if self._settings.offline:
            raise LabError(
                f"--offline: the cache {self._cache.root} does not hold the packages of {name}.",
                remedy="run nvme-lab fetch with a network first",
            )
        self._progress(f"{name}: asking the mirror for {' '.join(closure.suites)}")
        reason = "the lock file has no entry for it"
        if locked is not None:
            try:
                self._download(name, closure, locked)
                return locked
            except MirrorError as error:
                LOG.info("%s: the locked versions cannot be fetched: %s", name, error.what)
                if self._settings.locked:
                    raise LabError(f"--locked: {error.what}", remedy=error.remedy) from error
                reason = error.what
        return self._resolve_anew(name, closure, locked, reason)

    def _resolve_anew(
        self, name: str, closure: Closure, locked: tuple[Package, ...] | None, reason: str
    ) -> tuple[Package, ...]:
        failures: list[MirrorError] = []
        for packages in self._resolutions(closure):
            try:
                self._download(name, closure, packages)
            except MirrorError as error:
                LOG.info("%s", error.what)
                failures.append(error)
                continue
            if packages != locked:
                self._progress(f"warning: {name} is resolved anew: {reason}")
                self._cache.folder("resolved")
                lock.write(self._remembered(name), {name: (closure, packages)})
            return packages
        raise failures[0]

    def _resolutions(self, closure: Closure) -> Iterator[tuple[Package, ...]]:
        """Yield what each mirror has now, that of the most recent lists first. MirrorError if there is none at all."""
        failures: list[MirrorError] = []
        dated = []
        for source in self._sources():
            try:
                with self._opened(source, closure) as apt:
                    dated.append((not source.dated, apt.dates(), source))
            except MirrorError as error:
                LOG.info("%s", error.what)
                failures.append(error)
        found = False
        for _, _, source in sorted(dated, key=lambda entry: entry[:2], reverse=True):
            try:
                with self._opened(source, closure) as apt:
                    packages = _kept(closure, apt.resolve(closure.packages, closure.newest))
            except MirrorError as error:
                LOG.info("%s", error.what)
                failures.append(error)
                continue
            found = True
            yield packages
        if not found:
            raise failures[0]

    def _download(self, name: str, closure: Closure, packages: tuple[Package, ...]) -> None:
        """Bring all these versions into the cache, each from any mirror that has it. MirrorError if one cannot be had."""
        sources = self._sources()
        missing = self._debs.missing(packages)
        require_space(self._cache.root, sum(p.size for p in missing) + _UNPACKED_RATIO * sum(p.size for p in packages))
        while missing:
            source, offered = self._offers(closure, missing, sources)[0]
            try:
                with self._opened(source, closure) as apt:
                    self._download_from(apt, name, offered)
            except MirrorError as error:
                sources.remove(source)
                if not sources:
                    raise
                self._progress(f"warning: {error.what}")
            missing = self._debs.missing(missing)

    def _offers(
        self, closure: Closure, missing: Collection[Package], sources: Iterable[Source]
    ) -> list[tuple[Source, list[Package]]]:
        """Return who serves which of the missing packages, in the order of the mirrors. MirrorError if no mirror serves one."""
        offers: list[tuple[Source, list[Package]]] = []
        failures: list[MirrorError] = []
        remaining = set(missing)
        for source in sources:
            try:
                with self._opened(source, closure) as apt:
                    served = apt.available(remaining)
            except MirrorError as error:
                LOG.info("%s", error.what)
                failures.append(error)
                continue
            if served:
                offers.append((source, sorted(served)))
            remaining -= served
            if not remaining:
                return offers
        if failures and not offers:
            raise failures[0]
        gone = sorted(f"{package.name} {package.version}" for package in remaining)
        more = f" and {len(gone) - 1} more" if len(gone) > 1 else ""
        raise MirrorError(
            f"no mirror has the wanted version of {gone[0]}{more}",
            remedy="name a snapshot of the archive that has it: --snapshot URL",
        )

    def _download_from(self, apt: Apt, name: str, packages: list[Package]) -> None:
        size = sum(p.size for p in packages)
        self._progress(f"{name}: downloading {len(packages)} packages, {size / 1e6:.1f} MB")
        began = time.monotonic()

        def arrived(there: int) -> None:
            if 0 < there < size:
                left = (time.monotonic() - began) * (size - there) / there
                self._progress(f"{name}: {there / 1e6:.1f} of {size / 1e6:.1f} MB, about {left:.0f} s left")

        apt.download(packages, self._debs.folder, arrived)

    def _sources(self) -> list[Source]:
        """Return the mirrors in the order in which they are tried; the snapshot, if one is named, is the last."""
        named = self._settings.mirror
        sources = [mirrors.override(named)] if named else mirrors.candidates()
        if self._settings.snapshot:
            sources.append(mirrors.snapshot(self._settings.snapshot))
        if not sources:
            raise LabError("This machine's apt configuration names no Debian mirror.", remedy=INSTEAD)
        return sources

    @contextmanager
    def _opened(self, source: Source, closure: Closure) -> Iterator[Apt]:
        """Return the apt for a closure's suites of a mirror, its lists up to date. One that has failed is not tried again."""
        foreign = () if closure.architecture == NATIVE else (closure.architecture,)
        key = sha256(repr((source, closure.suites, *foreign)).encode()).hexdigest()[:16]
        with self._cache.lock(f"apt.{key}"), full_disk_named(self._cache.root):
            if key in self._failed:
                raise self._failed[key]
            apt = Apt(self._cache.folder("apt", key), source, closure.suites, self._progress, closure.architecture)
            if key not in self._updated:
                try:
                    apt.update()
                except MirrorError as error:
                    self._failed[key] = error
                    raise
                self._updated.add(key)
            yield apt

    def _unpack(self, name: str, closure: Closure, packages: tuple[Package, ...]) -> Path:
        def build(folder: Path) -> None:
            require_space(self._cache.root, _UNPACKED_RATIO * sum(p.size for p in packages))
            self._progress(f"{name}: unpacking")
            files = {p.name: unpack(self._debs.path(p), folder, closure.exclude) for p in packages}
            controls = {p.name: control(self._debs.path(p), *_RELATIONSHIPS) for p in packages}
            found = contents.inspect(folder, files, controls)
            contents.prove(name, closure, found)
            (folder / contents.FILE).write_text(found.model_dump_json())

        return self._cache.entry("trees", lock.content_key(closure, packages), build)

    def _tree(self, closure: Closure, packages: tuple[Package, ...]) -> Path:
        return self._cache.root / "trees" / lock.content_key(closure, packages)

    def _remembered(self, name: str) -> Path:
        return self._cache.root / "resolved" / f"{name}.json"


def _kept(closure: Closure, packages: Collection[Package]) -> tuple[Package, ...]:
    return tuple(p for p in packages if contents.kept(closure, p.name))
