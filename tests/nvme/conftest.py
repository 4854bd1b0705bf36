"""The second opinion on `lab.nvme`: libnvme and nvme-cli as Debian ships them, unpacked into a temporary folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

SKIP = "NVME_LAB_SKIP_PROOF"
"""Set, it skips the proofs that need gcc and packages; else what is missing fails them."""


@dataclass(frozen=True)
class SecondOpinion:
    """Where headers, program and libraries are."""

    root: Path

    @property
    def headers(self) -> Path:
        return self.root / "usr/include"

    @property
    def nvme_cli(self) -> Path:
        return self.root / "usr/sbin/nvme"

    @property
    def libraries(self) -> Path:
        return next(self.root.glob("usr/lib/*/libnvme.so.1")).parent

    @property
    def environment(self) -> dict[str, str]:
        """For running its program: also on a machine where some of the libraries are not installed."""
        return os.environ | {"LD_LIBRARY_PATH": str(self.libraries), "LC_ALL": "C"}

    def compile(self, source: str, output: Path, *options: str) -> str:
        """Compiles C against the headers; gives the compiler's complaints, nothing if there are none."""
        command = ["gcc", "-x", "c", "-", "-o", str(output), f"-I{self.headers}", *options]
        return subprocess.run(command, input=source, capture_output=True, text=True, check=False).stderr


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(
            f"{' '.join(command)} failed: {done.stderr.strip()}\nThe proof of lab.nvme needs Debian's packages of libnvme;"
            f" run apt-get update, or set {SKIP}=1 to leave the proof out.",
            pytrace=False,
        )
    return done.stdout


@pytest.fixture(scope="session")
def second_opinion(tmp_path_factory: pytest.TempPathFactory) -> SecondOpinion:
    """libnvme's headers, libnvme and nvme-cli with the libraries they need (1 MB, no root)."""
    if os.environ.get(SKIP):
        pytest.skip(f"{SKIP} is set")
    for tool in ("gcc", "apt-get", "apt-cache", "dpkg-deb", "ldd"):
        if not shutil.which(tool):
            pytest.fail(f"{tool} is missing; install it, or set {SKIP}=1 to leave the proof out", pytrace=False)
    folder = tmp_path_factory.mktemp("libnvme")
    depends = _run(["apt-cache", "depends", "nvme-cli", "libnvme-dev"], folder)
    libraries = {name for name in re.findall(r"Depends: (lib[\w.+-]+)", depends) if not name.startswith("libc6")}
    _run(["apt-get", "download", "nvme-cli", "libnvme-dev", *sorted(libraries)], folder)
    for package in folder.glob("*.deb"):
        _run(["dpkg-deb", "-x", package.name, "root"], folder)
    return SecondOpinion(folder / "root")
