"""Packages from a Debian mirror without touching this machine's own apt, and without root.

apt runs on a configuration of its own: own sources, lists and archives, and an empty dpkg status, so that a closure
holds everything down to libc. The machine's apt.conf still counts (proxies), its keyrings check the signatures.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import unquote

from lab.errors import LabError
from lab.toolchain.cache import disk_full
from lab.toolchain.mirrors import Source

_URI_LINE = re.compile(r"'(?P<uri>[^']+)' (?P<file>\S+) (?P<size>\d+) SHA256:(?P<sha256>[0-9a-f]{64})")

INSTEAD = (
    "name what you have instead: --qemu (or NVME_LAB_QEMU) a qemu-system-x86_64, --kernel and --image a guest kernel "
    "and an initramfs, --mirror a Debian mirror"
)

LOOK = 3.0
"""Seconds between two looks at what has been downloaded."""

_CONFIGURATION = """\
Dir::Etc::parts "/dev/null";
Dir::Etc::main "/dev/null";
#include "/etc/apt/apt.conf.d/";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Architectures;
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::ForceHash "sha256";
Dir::State "{folder}";
Dir::State::lists "{folder}/lists";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}";
Dir::Cache::archives "{folder}/archives";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{folder}/sources";
"""
"""The machine's files come first, so that what follows wins; hooks for the machine's own lists are taken out."""


@dataclass(frozen=True, order=True)
class Package:
    name: str
    version: str
    sha256: str
    size: int
    """Of the .deb, in bytes."""


class MirrorError(LabError):
    """This mirror does not serve what was asked for; another one may."""


class Apt:
    """One isolated apt for one set of suites of one mirror, living in ``folder``. Not for two processes at once."""

    def __init__(self, folder: Path, mirror: Source, suites: Sequence[str]) -> None:
        if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
            raise LabError("Packages cannot be fetched: this machine has no apt-get and dpkg-deb.", remedy=INSTEAD)
        self.mirror = mirror
        self.suites = tuple(suites)
        for name in ("lists/partial", "archives/partial", "sources"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "status").write_text("")
        configuration = folder / "apt.conf"
        configuration.write_text(_CONFIGURATION.format(folder=folder))
        signed_by = f"Signed-By: {mirror.signed_by}\n" if mirror.signed_by else ""
        (folder / "sources" / "mirror.sources").write_text(
            f"Types: deb\nURIs: {mirror.uri}\nSuites: {' '.join(suites)}\nComponents: main\n{signed_by}"
        )
        self._folder = folder
        self._environment = {**os.environ, "APT_CONFIG": str(configuration), "LC_ALL": "C"}

    def update(self) -> None:
        """Fetch the suites' lists; the keyring of the source must have signed them."""
        self._run("apt-get", "update", "--error-on=any", "-q")

    def resolve(self, packages: Sequence[str]) -> tuple[Package, ...]:
        """The closure of ``packages``, preferring the last of the suites."""
        newest = f"--target-release={self.suites[-1]}"
        plan = self._run("apt-get", "install", "--print-uris", "--yes", "-qq", newest, *packages)
        return tuple(sorted(_package(m) for m in _URI_LINE.finditer(plan)))

    def has(self, packages: Collection[Package]) -> bool:
        """Whether the mirror still serves exactly these versions with these bytes."""
        specs = [f"{p.name}={p.version}" for p in packages]
        try:
            shown = self._run("apt-cache", "show", *specs)
        except MirrorError:
            return False
        return {p.sha256 for p in packages} <= set(re.findall(r"^SHA256: (\w+)$", shown, re.MULTILINE))

    def download(self, packages: Collection[Package], store: Path, arrived: Callable[[int], None] = lambda size: None) -> None:
        """Fetch into ``store`` under the names SHA256.deb; nothing whose bytes differ from the promised gets there.

        ``arrived`` is told from time to time how many bytes are there, by another thread.
        """
        if not packages:  # apt-get download without a package is an error
            return
        arriving = self._folder / "arriving"
        shutil.rmtree(arriving, ignore_errors=True)
        arriving.mkdir()
        with _watched(arriving, arrived):
            self._run("apt-get", "download", "-q", *(f"{p.name}={p.version}" for p in packages), folder=arriving)
        files = {file_sha256(file): file for file in arriving.iterdir()}
        for package in packages:
            if package.sha256 not in files:
                raise LabError(
                    f"{package.name} {package.version} from {self.mirror.uri} does not have the expected SHA-256 "
                    f"{package.sha256}.",
                    remedy="do not use this mirror",
                )
            files[package.sha256].replace(store / f"{package.sha256}.deb")
        shutil.rmtree(arriving)

    def _run(self, *command: str, folder: Path | None = None) -> str:
        done = subprocess.run(
            command,
            env=self._environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise self._failure(command, done.stderr)
        return done.stdout

    def _failure(self, command: Sequence[str], stderr: str) -> LabError:
        errors = [line[2:].strip() for line in stderr.splitlines() if line.startswith("E:")] or stderr.splitlines()[-3:]
        said = "; ".join(errors) or "no reason given"
        if "No space left on device" in stderr or "not have enough free space" in stderr:
            return disk_full(self._folder)
        if "NO_PUBKEY" in stderr or "not signed" in stderr:
            return MirrorError(
                f"The lists of {' and '.join(self.suites)} from {self.mirror.uri} are signed with a key that this "
                f"machine does not know: {said}",
                remedy="install or update the package debian-archive-keyring, or " + INSTEAD,
            )
        return MirrorError(f"{' '.join(command[:2])} failed on {self.mirror.uri}: {said}", remedy=INSTEAD)


@contextmanager
def _watched(folder: Path, arrived: Callable[[int], None]) -> Iterator[None]:
    """Tells the size of what is in the folder, every LOOK seconds."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(LOOK):
            with suppress(FileNotFoundError):  # renamed between two looks
                arrived(sum(file.stat().st_size for file in folder.iterdir() if file.is_file()))

    watcher = threading.Thread(target=watch, name="download", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _package(match: re.Match[str]) -> Package:
    name, version, _architecture = match["file"].removesuffix(".deb").split("_")
    return Package(name, unquote(version), match["sha256"], int(match["size"]))


def file_sha256(file: Path) -> str:
    with file.open("rb") as stream:
        digest = sha256()
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
