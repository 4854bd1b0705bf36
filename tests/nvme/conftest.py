"""The second opinion on `lab.nvme`: libnvme and nvme-cli as Debian ships them."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.toolchain import contents
from lab.toolchain.closures import Fetched


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
    def environment(self) -> dict[str, str]:
        """For running its program, or another that loads libnvme.so.1: also where some of the libraries are not installed."""
        folders = (self.root / folder for folder in contents.read(self.root).library_folders)
        libraries = ":".join(str(folder) for folder in folders if folder.is_dir())
        return os.environ | {"LD_LIBRARY_PATH": libraries, "LC_ALL": "C"}

    def compile(self, source: str, output: Path, *options: str) -> str:
        """Compile C against the headers; return the compiler's complaints, nothing if there are none."""
        command = ["gcc", "-x", "c", "-", "-o", str(output), f"-I{self.headers}", *options]
        return subprocess.run(command, input=source, capture_output=True, text=True, check=False).stderr


@pytest.fixture(scope="session")
def second_opinion(libnvme: Fetched) -> SecondOpinion:
    return SecondOpinion(libnvme.root)
