"""The unmodified reference driver passes the suite in process; one that crashes or hangs ends its scenario, not the lab."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from conformance.judging.judge import judge
from conformance.suite.check import Outcome
from conformance.suite.selection import select
from lab.data.events import ActionEnded, Panicked
from lab.data.evidence import Evidence
from lab.data.manifest import DriverManifest
from lab.data.plan import Action, DeviceSpec, Fault, Namespace, Scenario
from lab.data.plan import Controller as ControllerSpec
from lab.drivers import find
from lab.recording.record import record
from lab.reference.controller import Controller
from lab.toolchain import Toolchain

NOTHING = Toolchain(qemu=None, linux=None)
DRIVER = find("reference")
SELECTION = select(DRIVER.stages, profiles_named=DRIVER.profiles)


@pytest.mark.parametrize("scenario", [template.id for template in SELECTION.scenarios])
def test_no_check_fails(tmp_path: Path, scenario: str) -> None:
    (template,) = (one for one in SELECTION.scenarios if one.id == scenario)
    evidence = Evidence(record(DRIVER, template.resolve(7), "lab", tmp_path / "evidence", toolchain=NOTHING))
    assert evidence.end is not None, evidence.end
    assert evidence.end.outcome == "complete", evidence.end
    verdicts = judge(evidence, SELECTION.checks_of(scenario))
    wrong = [verdict for verdict in verdicts if verdict.outcome not in (Outcome.PASS, Outcome.INCONCLUSIVE)]
    assert not wrong
    assert any(verdict.outcome is Outcome.PASS for verdict in verdicts)


def spins(self: Controller) -> None:
    while True:
        self.registers.status()


def stares(self: Controller) -> None:
    while True:
        self.admin.completion.peek()


def sleeps(self: Controller) -> None:
    while True:
        self.transport.sleep(1)


def crashes(self: Controller) -> None:
    raise IndexError("out of bounds")


def scenario(*faults: Fault) -> Scenario:
    spec = DeviceSpec(controllers=(ControllerSpec(serial="S", namespaces=(Namespace(blocks=64),)),))
    actions = (Action("load"), Action("fault", {"name": "f", "armed": True}), Action("reset"), Action("list"), Action("plug"))
    return Scenario(id="reset/own", stage="reset", title="", seed=1, device=spec, actions=actions, faults=faults)


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, stop: Callable[[Controller], None]) -> Evidence:
    """Replace what the driver does at a reset."""
    monkeypatch.setattr(Controller, "restart", stop)
    fault = Fault(name="f", behaviour="status", opcode=0x7F, armed=False)
    return Evidence(record(find("reference"), scenario(fault), "lab", folder, toolchain=NOTHING))


@pytest.mark.parametrize("hang", [spins, stares, sleeps])
def test_a_driver_that_hangs_is_timed_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hang: Callable[[Controller], None]
) -> None:
    evidence = run(tmp_path / "evidence", monkeypatch, hang)
    assert evidence.end is not None
    assert evidence.end.outcome == "complete"
    said = [event.answer["status"] for event in evidence.events() if isinstance(event, ActionEnded)]
    assert said == ["success", "success", "timeout", "timeout", "unsupported"]


def test_a_driver_that_crashes_has_died(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = run(tmp_path / "evidence", monkeypatch, crashes)
    assert evidence.end is not None
    assert evidence.end.outcome == "panic"
    events = list(evidence.events())
    assert isinstance(events[-1], Panicked)
    assert "IndexError('out of bounds')" in events[-1].text


def test_it_reaches_the_programmable_controller_only(tmp_path: Path) -> None:
    evidence = Evidence(record(find("reference"), scenario(), "qemu", tmp_path / "evidence", toolchain=NOTHING))
    assert evidence.end is not None
    assert evidence.end.outcome == "lab-error"
    assert "--device lab" in evidence.end.reason


def test_a_manifest_chooses_settings(tmp_path: Path) -> None:
    chosen: DriverManifest = find("reference").model_copy(update={"variables": {"io_queues": "3", "depth": "9"}})
    spec = DeviceSpec(controllers=(ControllerSpec(serial="S", namespaces=(Namespace(blocks=64),)),))
    asked = Scenario(id="a/b", stage="read", title="", seed=1, device=spec, actions=(Action("load"), Action("queues")))
    evidence = Evidence(record(chosen, asked, "lab", tmp_path / "evidence", toolchain=NOTHING))
    said = [event.answer for event in evidence.events() if isinstance(event, ActionEnded)]
    assert said[1] == {"status": "success", "pairs": 3, "depth": 9, "vectors": 4}
