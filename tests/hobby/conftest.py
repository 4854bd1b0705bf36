"""The hobby kernel, built where a test wants it, and recordings of it."""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from lab.data.evidence import Evidence
from lab.data.manifest import DriverManifest, parse
from lab.data.plan import DeviceKind, Scenario
from lab.drivers import adapters
from lab.recording.record import record
from lab.toolchain import Toolchain

FOLDER = Path(__file__).parents[2] / "examples" / "hobby"
MANIFEST = FOLDER / "hobby.toml"

Build = Callable[..., Path]
Recorded = Callable[[DriverManifest, Scenario, DeviceKind], Evidence]


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """``build(steps=5, flags="")`` is the folder with that shape's kernel.elf, boot.img and disk.img."""
    built: dict[tuple[int, str], Path] = {}

    def build(steps: int = 5, flags: str = "") -> Path:
        for tool in ("gcc", "make", "objcopy"):
            assert shutil.which(tool), f"{tool} is missing: the hobby kernel is built from its source (install build-essential)"
        if (steps, flags) not in built:
            folder = tmp_path_factory.mktemp("hobby")
            command = ["make", "-s", "-C", str(FOLDER), f"BUILD={folder}", f"STEPS={steps}", f"FLAGS={flags}"]
            ran = subprocess.run(command, capture_output=True, text=True)
            assert ran.returncode == 0, ran.stderr
            built[steps, flags] = folder
        return built[steps, flags]

    return build


@pytest.fixture
def recorded(toolchain: Toolchain, tmp_path: Path) -> Recorded:
    """Record a scenario on a device."""

    def recorded(manifest: DriverManifest, scenario: Scenario, device: DeviceKind) -> Evidence:
        return Evidence(record(manifest, scenario, device, tmp_path / f"{manifest.name}-{device}", toolchain=toolchain))

    return recorded


def manifest(boot: Mapping[str, Any], **changes: Any) -> DriverManifest:
    """hobby.toml with these keys of [boot] and of the whole; one that is None is left out."""
    data = tomllib.loads(MANIFEST.read_text())
    data = {**data, **changes, "boot": {**data["boot"], **boot}}
    data["boot"] = {key: value for key, value in data["boot"].items() if value is not None}
    return parse({key: value for key, value in data.items() if value is not None}, MANIFEST, adapters())
