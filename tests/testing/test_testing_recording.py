"""`lab.testing`: the controller in other people's tests, and the verdicts on what it saw."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lab.data.events import ActionEnded
from lab.data.evidence import Evidence
from lab.errors import UsageError
from lab.nvme.commands import Flush, Identify, Read, Write
from lab.nvme.registers import CAP, CC, CSTS
from lab.testing import Fault, NoCompletionError, Recording, ServedRecording, Verdicts, device

EXAMPLES = Path(__file__).parents[2] / "examples" / "testing"


def test_five_lines_bring_a_controller_up_and_judge_it() -> None:
    with Recording(device(serial="ABC")) as r:
        assert r.host.up().data(Identify.of(CNS=1))[4:24] == b"ABC".ljust(20)
    verdicts = r.verdicts()
    assert not verdicts.failed
    assert not verdicts.warned
    assert len(verdicts.passed) > 30


def test_what_is_written_is_read_back() -> None:
    with Recording(device()) as r:
        host = r.host.up()
        host.send(Write.of(NSID=1, SLBA=7), b"\x5a" * 512, qid=1)
        assert host.data(Read.of(NSID=1, SLBA=7), 512, qid=1) == b"\x5a" * 512


def test_a_broken_rule_fails_with_its_check() -> None:
    with Recording(device()) as r:
        host = r.host.up()
        host.function.write(CC.OFFSET, 4, host.register(CC).but(AMS=1))
    failed = r.verdicts().failed
    assert "admin-queue/cc-frozen" in {verdict.check for verdict in failed}
    assert "FAIL admin-queue/cc-frozen" in str(failed)


def test_a_fault_strikes_and_time_costs_nothing() -> None:
    late = Fault(name="late", behaviour="delay", opcode=Flush.OPCODE, queue="io", nth=1, arguments={"ms": 30_000})
    lost = Fault(name="lost", behaviour="drop", opcode=Flush.OPCODE, queue="io", nth=2)
    with Recording(device(), late, lost) as r:
        host = r.host.up()
        before = r.device.device.clock.now()
        assert host.do(Flush.of(NSID=1), qid=1).ok
        assert r.device.device.clock.now() - before >= 30
        with pytest.raises(NoCompletionError, match="Flush was not completed within 5 s"):
            host.do(Flush.of(NSID=1), qid=1, seconds=5)


def test_answers_are_recorded_too(tmp_path: Path) -> None:
    with Recording(device(), folder=tmp_path / "kept") as r:
        host = r.host.up()
        r.ask("read", lambda: host.data(Read.of(NSID=1, SLBA=3), 512, qid=1), nsid=1, lba=3, blocks=1)
        with pytest.raises(UsageError, match="no action 'raed'"):
            r.ask("raed", lambda: None)
    (asked,) = [event for event in Evidence(tmp_path / "kept").events() if isinstance(event, ActionEnded)]
    assert asked.answer["status"] == "success"


def test_registers_are_decoded() -> None:
    with Recording(device(cap={"MQES": 7})) as r:
        assert r.host.register(CAP).MQES == 7
        r.host.enable()
        r.host.write(r.host.register(CC).but(EN=0))
        assert not r.host.register(CSTS).RDY


def test_verdicts_come_after_the_recording() -> None:
    with Recording(device()) as r, pytest.raises(UsageError, match="has not ended"):
        r.verdicts()


def test_a_test_that_fails_proves_nothing() -> None:
    recording = Recording(device())
    with pytest.raises(RuntimeError), recording:
        raise RuntimeError("no")
    assert {verdict.outcome for verdict in recording.verdicts()} == {"ERROR"}


def test_a_verdict_that_was_not_judged_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        Verdicts().of("read/nlb")


@pytest.mark.parametrize("name", ["five_lines", "fault"])
def test_an_example_runs(name: str) -> None:
    subprocess.run([sys.executable, EXAMPLES / f"{name}.py"], check=True, capture_output=True)


@pytest.fixture
def ready(program_folder: Path) -> Path:
    """Build the example in C."""
    assert shutil.which("gcc"), "gcc is missing: the example is built from its source (install build-essential)"
    program = program_folder / "ready"
    sources = [EXAMPLES / "ready.c", EXAMPLES / "vfio_user.c"]
    subprocess.run(["gcc", "-Wall", "-Wextra", "-Werror", "-o", program, *sources], check=True)
    return program


def test_a_driver_in_c_is_judged(ready: Path) -> None:
    with ServedRecording(device(serial="FROM-C")) as r:
        ran = subprocess.run([ready, r.socket], check=True, capture_output=True, text=True)
    assert [line.rstrip() for line in ran.stdout.splitlines()] == ["Controller Ready: NVMe 1.4", "serial FROM-C"]
    assert not r.verdicts().failed


def test_a_driver_in_c_without_a_device_says_so(ready: Path, tmp_path: Path) -> None:
    ran = subprocess.run([ready, tmp_path / "none"], capture_output=True, text=True)
    assert ran.returncode == 2
    assert "No such file" in ran.stderr


@pytest.mark.skipif(not shutil.which("rustc"), reason="rustc is missing: the example in Rust is built where it is there")
def test_a_driver_in_rust_is_judged() -> None:
    ran = subprocess.run([sys.executable, EXAMPLES / "rust_driver.py"], check=True, capture_output=True, text=True)
    assert ran.stdout.splitlines()[:2] == ["Controller Ready: NVMe 1.4", "serial FROM-RUST"]
    assert "checks passed" in ran.stdout
    assert "warning" not in ran.stderr


def test_the_example_in_rust_says_what_is_missing(tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": str(tmp_path)}
    ran = subprocess.run([sys.executable, EXAMPLES / "rust_driver.py"], capture_output=True, text=True, env=environment)
    assert ran.returncode == 1
    assert "rustc is missing" in ran.stderr
