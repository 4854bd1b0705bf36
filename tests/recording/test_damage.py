"""A flipped bit in what a guest is made of is the lab's failure, not the driver's, and is repaired."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from lab.data.evidence import Evidence
from lab.data.plan import Action, Controller, DeviceSpec, Namespace, Scenario
from lab.drivers import find
from lab.recording.record import record
from lab.toolchain import Toolchain
from lab.toolchain.cache import Cache

pytestmark = pytest.mark.slow

PAGE = 4096
SCENARIO = Scenario(
    id="damage/read", stage="read", title="a read", seed=3,
    actions=(Action("load"), Action("read", {"nsid": 1, "lba": 8, "blocks": 8})),
    device=DeviceSpec(controllers=(Controller(serial="d", namespaces=(Namespace(blocks=4096, areas=((0, 64),)),)),)),
)  # fmt: skip


def ended(driver: str, folder: Path, toolchain: Toolchain) -> tuple[str, str]:
    end = Evidence(record(find(driver), SCENARIO, "qemu", folder, toolchain=toolchain)).end
    assert end is not None
    return end.outcome, end.reason


def test_the_end_of_a_damaged_fork_is_not_the_drivers(toolchain: Toolchain, tmp_path: Path) -> None:
    """One bit in each page of the saved kernel: the fork dies or hangs, the template is built again."""
    toolchain = replace(toolchain, cache=Cache(tmp_path / "cache"))
    assert ended("linux", tmp_path / "calm", toolchain) == ("complete", "")
    for ram in (tmp_path / "cache/templates").glob("*/ram"):
        with ram.open("r+b") as file:
            for at in range(16 << 20, 64 << 20, PAGE):
                file.seek(at)
                byte = file.read(1)
                file.seek(at)
                file.write(bytes([byte[0] ^ 1]))
    outcome, reason = ended("linux", tmp_path / "damaged", toolchain)
    assert outcome == "lab-error"
    assert "ram has other content than was built" in reason
    assert ended("linux", tmp_path / "repaired", toolchain) == ("complete", "")


def test_a_damaged_firmware_is_found_before_it_runs(toolchain: Toolchain, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")

    def build(folder: Path) -> None:
        shutil.copyfile(toolchain.firmware["u-boot"], folder / "u-boot.rom")

    rom = cache.entry("trees", "firmware", build) / "u-boot.rom"
    own = replace(toolchain, cache=cache, firmware={**toolchain.firmware, "u-boot": rom})
    assert ended("u-boot", tmp_path / "calm", own) == ("complete", "")
    data = bytearray(rom.read_bytes())
    data[len(data) // 2] ^= 1
    rom.write_bytes(data)
    outcome, reason = ended("u-boot", tmp_path / "damaged", own)
    assert outcome == "lab-error"
    assert "u-boot.rom has other content than was built" in reason
    assert not rom.exists()
