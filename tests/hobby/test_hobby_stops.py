"""A kernel that is no Linux dies, and the lab looks where."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from conformance.suite.selection import SCENARIOS
from lab.data.backtrace import read_backtraces
from lab.data.evidence import Evidence
from lab.data.manifest import ActionSyntax
from lab.data.plan import Action
from lab.recording.record import record
from lab.toolchain import Toolchain
from tests.hobby.conftest import Build, manifest


def test_a_guest_is_looked_at_when_it_dies(toolchain: Toolchain, build: Build, tmp_path: Path) -> None:
    """The kernel handles no exceptions: memory that is not mapped is a triple fault, which resets the machine."""
    given = manifest({"kernel": str(build() / "kernel.elf")})
    words = {**given.actions, "info": ActionSyntax(command="dump 0x7f0000000000 16")}
    scenario = replace(SCENARIOS["read/basic"].resolve(0), actions=(Action("load"), Action("info")))
    driver = given.model_copy(update={"actions": words})
    record(driver, scenario, "lab", tmp_path / "e", toolchain=toolchain, stop_at="panic")
    end = Evidence(tmp_path / "e").end
    assert end is not None
    assert end.outcome == "panic"
    (stop,) = read_backtraces(tmp_path / "e")
    assert stop.event.startswith("panic: ")
    names = [frame.function for frame in stop.processors[0].frames]
    assert names[0] == "dump"
