"""A small signed Debian archive, built by the tests and served on loopback, which can be made to misbehave."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from fnmatch import fnmatch
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from lab.toolchain.apt import Package, file_sha256
from tests.toolchain.openpgp import SigningKey


@dataclass
class Misbehaviour:
    """What the server does to requests whose path fits ``pattern``, as long as ``times`` is not used up."""

    pattern: str
    kind: str
    """A status such as ``503``, ``drop`` (close the connection in the middle) or ``corrupt`` (right length, other bytes)."""
    times: int


@dataclass
class Repository:
    """An archive with suites of packages. ``publish`` replaces the older version of a package, as mirrors do."""

    folder: Path
    key: SigningKey
    uri: str = ""
    valid_until: str = ""
    """The date after which apt no longer believes the lists."""
    requests: list[str] = field(default_factory=list)
    misbehaviours: list[Misbehaviour] = field(default_factory=list)

    def publish(
        self,
        name: str,
        version: str,
        *,
        suite: str = "stable",
        depends: str = "",
        files: Mapping[str, bytes] | None = None,
        modes: Mapping[str, int] | None = None,
        date: float | None = None,
    ) -> Package:
        """Build a package, put it in place of its older version and sign the suite anew; ``date`` is the suite's."""
        tree = self.folder / "build" / f"{name}_{version}"
        shutil.rmtree(tree, ignore_errors=True)
        for path, content in {f"usr/share/{name}": version.encode(), **(files or {})}.items():
            file = tree / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        for path, mode in (modes or {}).items():
            (tree / path).chmod(mode)
        control = {"Package": name, "Version": version, "Architecture": "amd64", "Maintainer": "tests", "Depends": depends}
        control["Description"] = "made by a test"
        (tree / "DEBIAN").mkdir(exist_ok=True)
        fields = "".join(f"{key}: {value}\n" for key, value in control.items() if value)
        (tree / "DEBIAN/control").write_text(fields)
        self.withdraw(name, suite, sign=False)
        pool = self.folder / "pool" / suite
        pool.mkdir(parents=True, exist_ok=True)
        deb = pool / f"{name}_{version}_amd64.deb"
        command = ["dpkg-deb", "--root-owner-group", "-Znone", "-b", str(tree), str(deb)]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "SOURCE_DATE_EPOCH": "1000000000"})
        shutil.rmtree(tree)
        package = Package(name, version, file_sha256(deb), deb.stat().st_size)
        facts = f"Filename: {deb.relative_to(self.folder)}\nSize: {package.size}\nSHA256: {package.sha256}\n"
        deb.with_suffix(".stanza").write_text(fields + facts)
        self.sign(suite, date)
        return package

    def withdraw(self, name: str, suite: str = "stable", *, sign: bool = True) -> None:
        """Take a package out of a suite."""
        for file in (self.folder / "pool" / suite).glob(f"{name}_*"):
            file.unlink()
        if sign:
            self.sign(suite)

    def sign(self, suite: str, date: float | None = None) -> None:
        """Write the lists of a suite and sign them. Backports are marked as Debian marks them."""
        lists = self.folder / "dists" / suite
        packages = lists / "main/binary-amd64/Packages"
        packages.parent.mkdir(parents=True, exist_ok=True)
        stanzas = sorted((self.folder / "pool" / suite).glob("*.stanza"))
        packages.write_text("\n".join(stanza.read_text() for stanza in stanzas))
        content = packages.read_bytes()
        optional = "NotAutomatic: yes\nButAutomaticUpgrades: yes\n" if "backports" in suite else ""
        release = (
            f"Origin: Tests\nSuite: {suite}\nCodename: {suite}\nDate: {formatdate(date, usegmt=True)}\n{optional}"
            f"{f'Valid-Until: {self.valid_until}' if self.valid_until else 'Label: Tests'}\n"
            f"Architectures: amd64\nComponents: main\nSHA256:\n"
            f" {hashlib.sha256(content).hexdigest()} {len(content)} main/binary-amd64/Packages\n"
        ).encode()
        (lists / "Release").write_bytes(release)
        (lists / "Release.gpg").write_bytes(self.key.sign(release))

    def misbehave(self, pattern: str, kind: str, times: int = 1_000_000) -> None:
        """Do this to the next ``times`` requests whose path fits the pattern."""
        self.misbehaviours.append(Misbehaviour(pattern, kind, times))

    def behave(self) -> None:
        """Serve everything as it is again."""
        self.misbehaviours.clear()

    def downloads(self) -> list[str]:
        """Return the names of the packages that were asked for, in order."""
        return [Path(path).name.partition("_")[0] for path in self.requests if path.endswith(".deb")]


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, *arguments: object, repository: Repository, **more: object) -> None:
        self._repository = repository
        super().__init__(*arguments, directory=str(repository.folder), **more)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self._repository.requests.append(self.path)
        kind = self._misbehaviour()
        file = Path(self.translate_path(self.path))
        if kind.isdigit():
            self.send_error(int(kind))
        elif kind and file.is_file():
            content = file.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if kind == "drop":
                self.wfile.write(content[: len(content) // 2])
                self.close_connection = True
            else:
                self.wfile.write(bytes(byte ^ 0xFF for byte in content))
        else:
            super().do_GET()

    def _misbehaviour(self) -> str:
        for misbehaviour in self._repository.misbehaviours:
            if misbehaviour.times and fnmatch(self.path, misbehaviour.pattern):
                misbehaviour.times -= 1
                return misbehaviour.kind
        return ""

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def served(folder: Path, key: SigningKey) -> Iterator[Repository]:
    """Serve an empty archive until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    repository = Repository(folder, key)
    repository.sign("stable")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, repository=repository)) as server:
        server.daemon_threads = True
        repository.uri = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, name="repository", daemon=True)
        thread.start()
        try:
            yield repository
        finally:
            server.shutdown()
            thread.join()
