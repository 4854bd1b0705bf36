"""The packages of the cache: named by their SHA-256, hashed before they are unpacked."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from lab.errors import LabError
from lab.toolchain.apt import Package, file_sha256
from lab.toolchain.cache import disk_full

_UMASK = 0o022
"""Guests and their QEMU may run as another user than the one that unpacked."""


@dataclass
class Debs:
    """The .deb files in ``folder``. A damaged one counts as missing and is removed."""

    folder: Path
    progress: Callable[[str], None]
    _verified: set[str] = field(default_factory=set)

    def path(self, package: Package) -> Path:
        """Return where the file of the package is, or will be."""
        return self.folder / f"{package.sha256}.deb"

    def missing(self, packages: Iterable[Package]) -> list[Package]:
        """Return the packages whose files are not there, or are not what their names promise."""
        return [package for package in packages if not self._intact(package)]

    def _intact(self, package: Package) -> bool:
        file = self.path(package)
        if not file.is_file():
            return False
        if package.sha256 not in self._verified:
            if file_sha256(file) != package.sha256:
                self.progress(f"warning: {package.name} {package.version} in the cache is damaged, and is removed: {file}")
                file.unlink(missing_ok=True)
                return False
            self._verified.add(package.sha256)
        return True


def unpack(deb: Path, root: Path, exclude: Collection[str] = ()) -> list[str]:
    """Unpack a package over ``root`` as the present user and return the paths of its files, relative to the root.

    Maintainer scripts do not run. No file is setuid or setgid, none is writable for others.
    """
    command = ["tar", "-x", "-v", "-C", str(root), "--no-same-owner", "--no-same-permissions"]
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as dpkg:
        tar = subprocess.run(
            [*command, *(f"--exclude=./{path}" for path in exclude)],
            stdin=dpkg.stdout,
            env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
            capture_output=True,
            umask=_UMASK,
            check=False,
        )
        assert dpkg.stderr is not None
        said = tar.stderr + dpkg.stderr.read()
    if re.search(rb"No space left|quota exceeded", said):
        raise disk_full(root)
    if tar.returncode or dpkg.returncode:
        raise LabError(f"{deb} cannot be unpacked: {said.decode(errors='replace').strip()}", remedy="delete it and fetch again")
    names = tar.stdout.decode(errors="surrogateescape").splitlines()
    return [name.removeprefix("./") for name in names if not name.endswith("/")]


def control(deb: Path, *names: str) -> str:
    """Return the control fields of these names, as they stand in the package."""
    done = subprocess.run(["dpkg-deb", "--field", deb, *names], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"{deb} has no control file: {done.stderr.strip()}", remedy="delete it and fetch again")
    return done.stdout
