"""What catches a mistake of the reference driver catches it in Linux's, built from Debian's source and run in a real guest."""

from __future__ import annotations

import os
import shutil
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from conformance.judging.judge import judge
from conformance.suite.check import CHECKS, Outcome
from conformance.suite.selection import SCENARIOS, select
from images.recipe import Closure
from lab import drivers
from lab.data.evidence import Evidence
from lab.data.plan import DeviceKind
from lab.recording.record import record
from lab.settings import Settings
from lab.toolchain import Toolchain
from lab.toolchain.cache import Cache
from lab.toolchain.closures import Closures
from tests.files import extract

pytestmark = [pytest.mark.soak, pytest.mark.xdist_group("linux-defects")]

HEADERS = Closure(suites=["bookworm"], packages=["linux-headers-amd64"], keep=["linux-headers-*", "linux-kbuild-*"])
SOURCE = Closure(suites=["bookworm"], packages=["linux-source-6.1"], keep=["linux-source-6.1"])
HOST = "drivers/nvme/host"
WITHOUT = [f"CONFIG_NVME_{transport}=" for transport in ("FABRICS", "RDMA", "FC", "TCP")]
FAILED = (Outcome.FAIL, Outcome.WARN)


@dataclass(frozen=True)
class LinuxDefect:
    """One piece of text exchanged in one file."""

    check: str
    summary: str
    file: str
    before: str
    after: str
    scenario: str
    devices: tuple[DeviceKind, ...]


def _defects() -> list[LinuxDefect]:
    listed = tomllib.loads(Path(__file__).with_name("linux_defects.toml").read_text(encoding="utf-8"))
    return [LinuxDefect(check, **{**one, "devices": tuple(one["devices"])}) for check, some in listed.items() for one in some]


DEFECTS = _defects()


@dataclass(frozen=True)
class Tree:
    """Linux's NVMe driver in source, and the headers of the guest's kernel."""

    source: Path
    common: Path
    flavour: Path

    def build(self, folder: Path, defect: LinuxDefect | None = None) -> Path:
        """nvme-core.ko and nvme.ko with this mistake, and a manifest for them."""
        shutil.copytree(self.source, folder)
        if defect is not None:
            file = folder / defect.file
            text = file.read_text()
            assert text.count(defect.before) == 1, f"{defect.file} has changed: {defect.before!r} is not in there once"
            file.write_text(text.replace(defect.before, defect.after))
        where = ["-C", str(self.common), f"O={self.flavour}", f"M={folder}"]
        make = ["make", "-s", f"-j{os.cpu_count()}", *where, *WITHOUT, "modules"]
        built = subprocess.run(make, capture_output=True, text=True)
        assert built.returncode == 0, built.stderr
        shipped = drivers.shipped()["linux"].read_text(encoding="utf-8")
        manifest = folder / "linux.toml"
        manifest.write_text(shipped.replace('["nvme-core", "nvme"]', '["nvme-core.ko", "nvme.ko"]'), encoding="utf-8")
        return manifest


@pytest.fixture(scope="module")
def tree(toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    settings = Settings()
    closures = Closures(settings, Cache(settings.open_cache()), print)
    headers, source = closures.fetch("linux-headers", HEADERS).root, closures.fetch("linux-source", SOURCE).root
    assert toolchain.linux is not None
    flavour = headers / "usr/src" / f"linux-headers-{toolchain.linux.release}"
    assert flavour.is_dir(), f"the mirror has no headers of the guest's kernel {toolchain.linux.release} any more"
    (archive,) = (source / "usr/src").glob("linux-source-*.tar.xz")
    folder = tmp_path_factory.mktemp("linux")
    extract(archive, folder, (f"/{HOST}/",))
    (found,) = folder.glob(f"*/{HOST}")
    return Tree(found, flavour.with_name(flavour.name.replace("-amd64", "-common")), flavour)


def failed(manifest: Path, scenario: str, device: DeviceKind, folder: Path, toolchain: Toolchain) -> set[str]:
    """Return the checks that fail on these modules."""
    driver = drivers.find(str(manifest))
    record(driver, SCENARIOS[scenario].resolve(0), device, folder, toolchain=toolchain)
    evidence = Evidence(folder)
    assert evidence.end is not None, evidence.end
    assert evidence.end.outcome != "lab-error", evidence.end
    return {v.check.id for v in judge(evidence, select().checks_of(scenario)) if v.outcome in FAILED}


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.check)
def test_its_check_catches_it_in_linux(defect: LinuxDefect, tree: Tree, toolchain: Toolchain, tmp_path: Path) -> None:
    manifest = tree.build(tmp_path / "modules", defect)
    for device in defect.devices:
        found = failed(manifest, defect.scenario, device, tmp_path / device, toolchain)
        assert defect.check in found, f"on {device} only {sorted(found)} failed"


def test_the_same_source_without_a_mistake_fails_nothing(tree: Tree, toolchain: Toolchain, tmp_path: Path) -> None:
    manifest = tree.build(tmp_path / "modules")
    for scenario, device in sorted({(defect.scenario, device) for defect in DEFECTS for device in defect.devices}):
        assert not failed(manifest, scenario, device, tmp_path / f"{device}-{scenario.replace('/', '-')}", toolchain)


def test_every_one_names_a_check() -> None:
    assert len(DEFECTS) >= 3
    assert {defect.check for defect in DEFECTS} <= set(CHECKS)
