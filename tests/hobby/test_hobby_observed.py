"""The hobby kernel observed: a true report without a manifest, and a mistake in it that the wire shows."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from conformance.commands import run_command
from lab.drivers import find
from lab.toolchain import Toolchain
from tests.hobby.conftest import Build

PAIR = ("--machine", "q35", "--cpu", "max", "--memory", "128M")


def observe(folder: Path, *words: str) -> dict[str, object]:
    run_command(("observe", *words, *PAIR, "--out", str(folder / "out"), "--offline", "--json"))
    found: dict[str, object] = json.loads((folder / "out" / "observe.json").read_text())
    return found


def test_a_kernel_that_works_breaks_nothing(
    build: Build, toolchain: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del toolchain  # its fixture has fetched QEMU
    monkeypatch.chdir(tmp_path)
    kernel = build(flags="-DONE_SHOT") / "kernel.elf"
    found = observe(tmp_path, str(kernel), "--rung", "4kn", "--write-manifest", "mine.toml")
    assert found["outcome"] == "quiet"
    assert not found["broken"]
    assert not [one for one in found["comparisons"] if one["worse"]]  # type: ignore[attr-defined]
    assert "io-queues" in found["steps"]  # type: ignore[operator]
    assert "Each of the ten" not in (tmp_path / "out/observe.html").read_text()
    manifest = find("./mine.toml")
    assert manifest.boot.quiet == 1.5
    assert tomllib.loads(Path("mine.toml").read_text())["stages"] == list(found["steps"])  # type: ignore[call-overload]


def test_a_mistake_is_found_without_a_question(
    build: Build, toolchain: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del toolchain
    monkeypatch.chdir(tmp_path)
    kernel = build(flags="-DONE_SHOT -DDEFECT_READY") / "kernel.elf"
    assert run_command(("observe", str(kernel), *PAIR, "--rung", "qemu", "--out", "out", "--offline")) == 0, "a warning"
    found = json.loads(Path("out/observe.json").read_text())
    assert "admin-queue/quiet-until-ready" in [broken["check"] for broken in found["broken"]]


def test_what_the_firmware_does_to_the_disk_that_is_booted_from_is_not_the_drivers(
    build: Build, toolchain: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del toolchain
    monkeypatch.chdir(tmp_path)
    found = observe(tmp_path, "--nvme-disk", str(build(flags="-DONE_SHOT") / "disk.img"), "--rung", "qemu")
    assert found["outcome"] == "quiet"
    assert "io-queues" in found["steps"]  # type: ignore[operator]
    assert "read" not in found["steps"], "the boot loader has read, by the firmware's driver"  # type: ignore[operator]
    assert not found["broken"]
