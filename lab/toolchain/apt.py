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
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from hashlib import sha256
from pathlib import Path
from urllib.parse import unquote

from debian.deb822 import Deb822

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

RETRY_PAUSES = (1.0, 4.0, 10.0)
"""Seconds before the second, third and last attempt after a failure that may pass."""

_TRANSIENT = re.compile(
    r"\b(408|425|429|500|502|503|504) |Connection (failed|reset|closed|refused|timed out)|Could not connect|timed out"
    r"|Temporary failure|Error reading from server|Undetermined Error|Bad header|Hash Sum mismatch|unexpected size|SSL|TLS"
    r"|BADSIG|NODATA|manipulated|Bad signature",
    re.IGNORECASE,
)
"""What apt says of failures that may pass: of the network, a busy server, bytes that were spoilt on the way."""

_UNSIGNED = re.compile(r"NO_PUBKEY|Missing key|not signed")
"""What apt reports, by gpgv or sqv, of lists that no known key has signed."""

NATIVE = "amd64"
"""The architecture of what runs on this machine."""
_MACHINE = Path("/etc/apt")
"""Where the configuration of this machine's own apt is."""

_CONFIGURATION = """\
Dir::Etc::parts "/dev/null";
Dir::Etc::main "/dev/null";
{machine}
Dir::Etc::preferences "{folder}/preferences";
Dir::Etc::preferencesparts "/dev/null";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Architectures;
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::ForceHash "sha256";
Acquire::Retries "0";
Dir::State "{folder}";
Dir::State::lists "{folder}/lists";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}";
Dir::Cache::archives "{folder}/archives";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{folder}/sources";
"""
"""The machine's files come first, so that what follows wins; hooks for the machine's own lists are taken out. Attempts are
counted here, not by apt, so that each is reported to the user."""

_DATED = """\
Acquire::Check-Valid-Until "false";
"""


@dataclass(frozen=True, order=True)
class Package:
    """A package of a mirror."""

    name: str
    version: str
    sha256: str
    size: int
    """Of the .deb, in bytes."""


class MirrorError(LabError):
    """This mirror does not serve what was asked for; another one may."""


class TransientError(MirrorError):
    """This mirror may serve it in a moment."""


class Apt:
    """One isolated apt for one set of suites of one mirror, living in ``folder``. Not for two processes at once."""

    def __init__(
        self,
        folder: Path,
        mirror: Source,
        suites: Sequence[str],
        progress: Callable[[str], None],
        architecture: str = NATIVE,
    ) -> None:
        """Write the configuration of apt into ``folder``. LabError without apt-get or dpkg-deb."""
        if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
            raise LabError("Packages cannot be fetched: this machine has no apt-get and dpkg-deb.", remedy=INSTEAD)
        self.mirror = mirror
        self.suites = tuple(suites)
        self._progress = progress
        for name in ("lists/partial", "archives/partial", "sources"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for name in ("status", "preferences"):
            (folder / name).write_text("")
        configuration = folder / "apt.conf"
        machine = "\n".join(f'#include "{path}";' for path in _machine_files())
        dated = _DATED if mirror.dated else ""
        configuration.write_text(_CONFIGURATION.format(folder=folder, machine=machine, architecture=architecture) + dated)
        signed_by = f"Signed-By: {mirror.signed_by}\n" if mirror.signed_by else ""
        (folder / "sources" / "mirror.sources").write_text(
            f"Types: deb\nURIs: {mirror.uri}\nSuites: {' '.join(suites)}\nComponents: main\n{signed_by}"
        )
        self._folder = folder
        self._environment = {**os.environ, "APT_CONFIG": str(configuration), "LC_ALL": "C"}

    def update(self) -> None:
        """Fetch the suites' lists; the keyring of the source must have signed them."""

        def attempt() -> None:
            self._run("apt-get", "update", "--error-on=any", "-q")

        self._retry(attempt)

    def dates(self) -> tuple[datetime, ...]:
        """Return when the suites' lists were made, the newest first: of two mirrors the greater one is ahead."""
        releases = [f for f in (self._folder / "lists").iterdir() if f.name.endswith(("_InRelease", "_Release"))]
        dates = (Deb822(file.read_text(errors="replace")).get("Date", "") for file in releases)
        return tuple(sorted((parsedate_to_datetime(date) for date in dates if date), reverse=True))

    def resolve(self, packages: Sequence[str], newest: Sequence[str] = ()) -> tuple[Package, ...]:
        """Return the closure of ``packages``.

        These and the packages whose names fit ``newest`` come out of the last suite, all else out of the earliest that will do:
        what moves fast is thereby as little as possible. If that cannot be, the last suite is preferred for everything.
        """
        last = self.suites[-1]
        install = ("apt-get", "install", "--print-uris", "--yes", "-qq")
        pins = (f"Package: {' '.join((*packages, *newest))}\nPin: release {key}={last}\nPin-Priority: 990\n" for key in "an")
        (self._folder / "preferences").write_text("\n".join(pins))
        try:
            plan = self._run(*install, *packages)
        except MirrorError:
            if len(self.suites) == 1:
                raise
            plan = self._run(*install, f"--target-release={last}", *packages)
        return tuple(sorted(_package(m) for m in _URI_LINE.finditer(plan)))

    def available(self, packages: Collection[Package]) -> set[Package]:
        """Return those of the packages that the mirror serves in exactly these versions with these bytes."""
        shown = self._run("apt-cache", "show", *sorted({p.name for p in packages}), check=False)
        served = set(re.findall(r"^SHA256: (\w+)$", shown, re.MULTILINE))
        return {p for p in packages if p.sha256 in served}

    def download(self, packages: Collection[Package], store: Path, arrived: Callable[[int], None] = lambda size: None) -> None:
        """Fetch into ``store`` under the names SHA256.deb; nothing whose bytes differ from the promised gets there.

        ``arrived`` receives from time to time how many bytes are there, in another thread. What has arrived stays, also
        where the rest fails.
        """
        arriving = store / f"{self._folder.name}.arriving"  # on the same file system
        shutil.rmtree(arriving, ignore_errors=True)
        arriving.mkdir()
        remaining = {package.sha256: package for package in packages}

        def attempt() -> None:
            specs = [f"{p.name}={p.version}" for p in remaining.values()]
            try:
                self._run("apt-get", "download", "-q", *specs, folder=arriving)
            finally:
                _store(arriving, remaining, store)
            if remaining:
                wrong = next(iter(remaining.values()))
                raise TransientError(
                    f"{wrong.name} {wrong.version} from {self.mirror.uri} does not have the expected SHA-256 {wrong.sha256}.",
                    remedy="do not use this mirror",
                )

        if remaining:  # apt-get download without a package is an error
            try:
                with _watched(arriving, arrived):
                    self._retry(attempt)
            finally:
                shutil.rmtree(arriving)

    def _retry(self, attempt: Callable[[], None]) -> None:
        for number, pause in enumerate(RETRY_PAUSES, start=2):
            try:
                return attempt()
            except TransientError as error:
                self._progress(f"warning: {error.what}; attempt {number} of {len(RETRY_PAUSES) + 1} follows in {pause:g} s")
                time.sleep(pause)
        return attempt()

    def _run(self, *command: str, folder: Path | None = None, check: bool = True) -> str:
        done = subprocess.run(
            command,
            env=self._environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode and check:
            raise self._failure(command, done.stdout, done.stderr)
        return done.stdout

    def _failure(self, command: Sequence[str], stdout: str, stderr: str) -> LabError:
        lines = [line[2:].strip() for line in stderr.splitlines() if line.startswith("E:")] or stderr.splitlines()[-3:]
        # The last line of apt-get update says only that some index failed, what came before says why.
        said = "; ".join(lines[:2]) or "no reason given"
        if "No space left on device" in stderr or "not have enough free space" in stderr:
            return disk_full(self._folder)
        if _TRANSIENT.search(stdout + stderr):
            return TransientError(f"{' '.join(command[:2])} failed on {self.mirror.uri}: {said}", remedy=INSTEAD)
        if _UNSIGNED.search(stderr):
            return MirrorError(
                f"The lists of {' and '.join(self.suites)} from {self.mirror.uri} are signed with a key that this "
                f"machine does not know: {said}",
                remedy="install or update the package debian-archive-keyring, or " + INSTEAD,
            )
        return MirrorError(f"{' '.join(command[:2])} failed on {self.mirror.uri}: {said}", remedy=INSTEAD)


def _machine_files() -> list[str]:
    """Return the apt configuration of this machine, as far as it has any: its proxies count."""
    named = {"apt.conf.d/": _MACHINE / "apt.conf.d", "apt.conf": _MACHINE / "apt.conf"}
    return [f"{_MACHINE}/{name}" for name, path in named.items() if path.exists()]


def _store(arriving: Path, remaining: dict[str, Package], store: Path) -> None:
    """Move what has arrived as promised into the store, and out of ``remaining``. The beginning of a file is kept for later."""
    sizes = {package.size for package in remaining.values()}
    for file in list(arriving.iterdir()):
        if file.suffix == ".FAILED":
            file.unlink()
        elif file.stat().st_size in sizes:
            digest = file_sha256(file)
            if remaining.pop(digest, None):
                file.replace(store / f"{digest}.deb")
            else:
                file.unlink()


@contextmanager
def _watched(folder: Path, arrived: Callable[[int], None]) -> Iterator[None]:
    """Report the size of the folder's content every LOOK seconds."""
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
    """Return the SHA-256 of a file in hexadecimal."""
    with file.open("rb") as stream:
        digest = sha256()
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
