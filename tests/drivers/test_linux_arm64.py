"""Linux on arm64: its guest is made without running anything of it, and its driver is judged by what it answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from conformance.judging.judge import judge
from conformance.suite.check import Outcome
from conformance.suite.scenario import LOAD
from conformance.suite.selection import SCENARIOS, select
from images import builder
from images.recipe import Initrd
from lab.data.events import ActionEnded
from lab.data.evidence import Evidence
from lab.drivers import find, wants
from lab.recording.record import record
from lab.toolchain import Toolchain


@pytest.fixture
def roots(tmp_path: Path) -> dict[str, Path]:
    kernel, tools = tmp_path / "kernel", tmp_path / "tools"
    modules = kernel / "lib/modules/6.1-arm64"
    modules.mkdir(parents=True)
    (kernel / "boot").mkdir()
    (kernel / "boot/vmlinuz-6.1-arm64").write_bytes(b"Image")
    (modules / "modules.builtin").write_text("kernel/x/built-in-one.ko\n")
    for name, depends in (("nvme", "nvme-core,built_in_one"), ("nvme-core", "")):
        (modules / f"{name}.ko").write_bytes(f"\0name={name}\0depends={depends}\0".encode())
    (tools / "bin").mkdir(parents=True)
    (tools / "bin/busybox").write_bytes(b"busybox")
    return {"kernel": kernel, "tools": tools}


MADE = Initrd(kernel="kernel", tools="tools", init="console-init.sh", busybox="bin/busybox", modules=["nvme"])


def test_modules_lie_in_the_order_of_loading_and_the_kernel_stays_as_it_is(roots: dict[str, Path]) -> None:
    built, again = builder.build_initrd(MADE, roots), builder.build_initrd(MADE, roots)
    assert built == again
    assert (built.vmlinux, built.release) == (b"Image", "6.1-arm64")
    core, nvme = b"modules/00-nvme_core.ko", b"modules/01-nvme.ko"
    assert 0 < built.initrd.index(core) < built.initrd.index(nvme)
    assert b"built_in_one.ko" not in built.initrd


def test_it_needs_its_own_qemu_and_guest() -> None:
    assert wants(find("linux-arm64")) == ("qemu-aarch64", "linux-arm64")


def test_a_second_load_finds_its_modules_loaded(toolchain: Toolchain, tmp_path: Path) -> None:
    scenario = replace(SCENARIOS["detect/basic"].resolve(0), actions=(LOAD, LOAD))
    evidence = Evidence(record(find("linux-arm64"), scenario, "lab", tmp_path / "evidence", toolchain=toolchain))
    answers = [event.answer for event in evidence.events() if isinstance(event, ActionEnded)]
    assert [answer["status"] for answer in answers] == ["success", "success"]


def test_it_reads_and_every_witness_agrees(toolchain: Toolchain, tmp_path: Path) -> None:
    scenario = SCENARIOS["read/basic"].resolve(0)
    evidence = Evidence(record(find("linux-arm64"), scenario, "lab", tmp_path / "evidence", toolchain=toolchain))
    verdicts = {verdict.check.id: verdict for verdict in judge(evidence, select().checks_of("read/basic"))}
    assert not [verdict for verdict in verdicts.values() if verdict.outcome in (Outcome.FAIL, Outcome.ERROR)]
    assert {verdicts[check].outcome for check in ("read/exact", "read/mbr", "read/nlb", "io-queues/live-cq")} == {Outcome.PASS}
