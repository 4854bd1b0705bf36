"""A real machine as a place: what it says and what its disk holds is all that is known of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.judging.judge import NO_WIRE, Verdict, judge
from conformance.suite.check import Outcome
from conformance.suite.selection import SCENARIOS, select
from lab import drivers
from lab.data.evidence import Evidence
from lab.errors import UsageError
from lab.recording.record import record
from lab.toolchain import Toolchain
from tests.recording.toy_machine import ToyMachine, manifest_of

ALL = [name for name in SCENARIOS if name.startswith("bare-metal/")]
FAILED = (Outcome.FAIL, Outcome.WARN)


@pytest.fixture(autouse=True)
def ssh_here(program_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the lab an ssh that runs the command line on this machine: the disk of the toy is a file here."""
    programs = program_folder / "programs"
    programs.mkdir()
    (programs / "ssh").write_text('#!/bin/sh\nfor last; do :; done\nexec sh -c "$last"\n')
    (programs / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")


def verdicts(folder: Path, machine: ToyMachine, scenario: str) -> Iterator[Verdict]:
    manifest = drivers.find(str(manifest_of(machine, folder)))
    resolved = SCENARIOS[scenario].resolve(5)
    evidence = record(manifest, resolved, "machine", folder / scenario, toolchain=Toolchain(None, None))
    yield from judge(Evidence(evidence), select(profiles_named=["bare-metal"]).checks_of(scenario))


def failed(folder: Path, mistake: str, *scenarios: str) -> set[str]:
    with ToyMachine(folder, mistake) as machine:
        found = [verdict for scenario in scenarios for verdict in verdicts(folder, machine, scenario)]
    assert not [verdict.reason for verdict in found if verdict.outcome is Outcome.ERROR]
    return {verdict.check.id for verdict in found if verdict.outcome in FAILED}


@pytest.mark.parametrize("manner", ["", "whole-units"])
def test_a_machine_without_a_mistake_passes_every_check(tmp_path: Path, manner: str) -> None:
    with ToyMachine(tmp_path, manner) as machine:
        found = {verdict.check.id: verdict for scenario in ALL for verdict in verdicts(tmp_path, machine, scenario)
                 if verdict.check.stage == "bare-metal" and verdict.outcome is not Outcome.INCONCLUSIVE}  # fmt: skip
    assert {(verdict.outcome, verdict.device, verdict.reason) for verdict in found.values()} == {
        (Outcome.PASS, "machine", NO_WIRE)
    }
    assert found.keys() == {check.id for check in select(profiles_named=["bare-metal"]).checks if check.stage == "bare-metal"}


@pytest.mark.parametrize(
    ("mistake", "scenario", "check"),
    [
        ("never", "bare-metal/ready", "bare-metal/says-ready"),
        ("not-ready", "bare-metal/ready", "bare-metal/is-ready"),
        ("wrong-bytes", "bare-metal/data", "bare-metal/data"),
        ("beside", "bare-metal/beside", "bare-metal/beside"),
        ("in-memory", "bare-metal/data", "bare-metal/stored"),
        ("in-memory", "bare-metal/restart", "bare-metal/kept"),
    ],
)
def test_a_mistake_is_caught_without_a_wire(tmp_path: Path, mistake: str, scenario: str, check: str) -> None:
    assert check in failed(tmp_path, mistake, scenario)


@pytest.mark.parametrize(
    ("was", "instead", "message"),
    [
        ("scratch_blocks = 1024", "scratch_blocks = 8", "machine.disk.scratch_blocks: scenarios overwrite 1024 blocks"),
        ("scratch = 2048", "scratch = 8000", "machine.disk.scratch_blocks: "),
        ("blocks = 8192\n", "", "machine.disk.blocks: this key is required"),
        ("stages = []", 'stages = ["read"]', "so no stage can be judged"),
        ("ready = '^> '", "kernel = 'x'\nready = '^> '", "boot.kernel: a real machine is not started by QEMU"),
        ('ssh = "somebody@toy"', "", "machine.ssh: machine.disk.read is a command there"),
        ("skip={lba}", "skip={lbas}", "machine.disk.read: there is no {lbas}"),
        ("scratch = 2048", "scrach = 2048", "did you mean 'scratch'"),
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path: Path, was: str, instead: str, message: str) -> None:
    with ToyMachine(tmp_path) as machine:
        path = manifest_of(machine, tmp_path)
        text = path.read_text()
        assert was in text
        path.write_text(text.replace(was, instead, 1))
        with pytest.raises(UsageError, match=re.escape(message)):
            drivers.adapter(drivers.find(str(path)), Toolchain(None, None))


def test_a_line_that_is_none_is_the_labs_failure(tmp_path: Path) -> None:
    with ToyMachine(tmp_path) as machine:
        path = manifest_of(machine, tmp_path)
        path.write_text(path.read_text().replace(machine.line, str(machine.disk)))
        folder = record(drivers.find(str(path)), SCENARIOS["bare-metal/ready"].resolve(5), "machine", tmp_path / "e",
                        toolchain=Toolchain(None, None))  # fmt: skip
    end = Evidence(folder).end
    assert end is not None
    assert end.outcome == "lab-error"
    assert "is no serial line" in end.reason
