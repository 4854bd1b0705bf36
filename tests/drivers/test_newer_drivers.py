"""The newer kernel, and QEMU's own driver, in real guests: one recording of a stage on each device, judged."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.judging.judge import judge
from conformance.suite import selection as suite
from conformance.suite.check import Outcome
from lab.data import content
from lab.data.events import ActionEnded
from lab.data.evidence import Evidence
from lab.data.plan import Action, Controller, DeviceKind, DeviceSpec, Namespace, Scenario
from lab.drivers import find
from lab.recording.record import record
from lab.toolchain import Toolchain

DISK = Namespace(blocks=65536)  # whole pages, so that QEMU's driver can write to it
PLACE = {"nsid": 1, "lba": 40, "blocks": 24}


@pytest.mark.parametrize("device", ["qemu", "lab"])
@pytest.mark.parametrize("driver", ["linux-backports", "qemu-vfio"])
def test_a_stage_is_judged(toolchain: Toolchain, tmp_path: Path, driver: str, device: DeviceKind) -> None:
    scenario = suite.SCENARIOS["io-queues/few"].resolve(7)
    evidence = Evidence(record(find(driver), scenario, device, tmp_path / "e", toolchain=toolchain))
    assert evidence.end is not None
    assert (evidence.end.outcome, evidence.end.reason) == ("complete", "")
    verdicts = {v.check.id: v for v in judge(evidence, suite.select(["io-queues"]).checks_of(scenario.id))}
    assert verdicts["io-queues/order"].outcome is Outcome.PASS
    assert verdicts["every/load"].outcome is Outcome.PASS
    assert [v.check.id for v in verdicts.values() if v.outcome in (Outcome.FAIL, Outcome.ERROR) and not v.known] == []


def test_the_newer_kernel_answers_after_a_sleep(toolchain: Toolchain, tmp_path: Path) -> None:
    """Linux 7.3's virtio_console does not learn after a sleep that the lab reads the port, and would wait without end."""
    scenario = suite.SCENARIOS["reset/sleep"].resolve(7)
    evidence = Evidence(record(find("linux-backports"), scenario, "lab", tmp_path / "e", toolchain=toolchain))
    answers = {event.action: event.answer["status"] for event in evidence.events() if isinstance(event, ActionEnded)}
    assert answers == {"load": "success", "write": "success", "read": "success", "suspend": "success"}


@pytest.mark.parametrize("device", ["qemu", "lab"])
def test_qemus_driver_writes_reads_zeroes_and_trims(toolchain: Toolchain, tmp_path: Path, device: DeviceKind) -> None:
    def asked(name: str, **more: int) -> Action:
        return Action(name, {**PLACE, **more})

    actions = [
        asked("write", fill=9, fua=1),
        asked("read"),
        asked("zeroes"),
        asked("read"),
        asked("trim"),
        Action("flush", {"nsid": 1}),
    ]
    unit = DeviceSpec(controllers=(Controller(serial="SERIAL", namespaces=(DISK,)),))
    given = Scenario(
        id="write/test", stage="write", title="", seed=5, device=unit, actions=(Action("load"), *actions, Action("unload"))
    )
    evidence = Evidence(record(find("qemu-vfio"), given, device, tmp_path / "e", toolchain=toolchain))
    answers = [event.answer for event in evidence.events() if isinstance(event, ActionEnded)]
    assert [answer["status"] for answer in answers] == ["success"] * len(given.actions)
    written = content.blocks(9, 1, PLACE["lba"], PLACE["blocks"], DISK.block_size)
    assert evidence.answer_bytes(answers[2]) == written
    assert evidence.answer_bytes(answers[4]) == bytes(len(written))
