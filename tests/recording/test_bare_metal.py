"""A real machine as a place: what it says and what its disk holds is all that is known of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.judging.judge import NO_WIRE, Verdict, judge
from conformance.suite.check import Outcome
from conformance.suite.selection import SCENARIOS, select
from lab import drivers
from lab.data.evidence import Evidence
from lab.recording.record import record
from lab.toolchain import Toolchain
from tests.recording.toy_machine import ToyMachine, manifest_of

ALL = [name for name in SCENARIOS if name.startswith("bare-metal/")]
FAILED = (Outcome.FAIL, Outcome.WARN)


@pytest.fixture(autouse=True)
def ssh_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the lab an ssh that runs the command line on this machine: the disk of the toy is a file here."""
    programs = tmp_path / "programs"
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
