"""``nvme-lab`` in a child process, in a folder and with a cache of its own, and with the toy in place of QEMU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MAIN = "import toy; from conformance.cli import main; main()"


class Lab:
    """A folder in which ``nvme-lab`` runs with the toy in place of QEMU."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cache = folder / "cache"
        self.cache.mkdir()
        (folder / "toy.toml").write_text((HERE / "toy.toml").read_text())

    def env(self, **more: str) -> dict[str, str]:
        path = os.pathsep.join([str(HERE), *sys.path])
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        toys = {"TOY_LOG": str(self.folder / "log"), "TOY_CACHE": str(self.cache)}
        return {**kept, "PYTHONPATH": path, **toys, **more}

    def start(self, *arguments: str, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", MAIN, *arguments], cwd=self.folder, env=self.env(**env), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        process = self.start("run", "--driver", "toy.toml", "--device", "qemu", *arguments, **env)
        out, err = process.communicate(timeout=120)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    @property
    def log(self) -> list[str]:
        file = self.folder / "log"
        return file.read_text().splitlines() if file.exists() else []

    def wait_for(self, line: str, process: subprocess.Popen[str] | None = None, seconds: float = 60) -> None:
        """Until the toy has written the line into its log, while the process lives."""
        until = time.monotonic() + seconds
        while line not in self.log:
            assert time.monotonic() < until, f"{line!r} never came; last: {self.log[-1:]}"
            assert process is None or process.poll() is None, f"it ended while {line!r} was waited for"
            time.sleep(0.02)

    def results(self, out: str = "nvme-lab-results/latest") -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / out / "results.json").read_text())
        return content
