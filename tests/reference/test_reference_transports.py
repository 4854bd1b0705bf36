"""The reference driver end to end as a driver under test: on QEMU's device over qtest, and by VFIO in a real guest."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lab.data import content
from lab.data.events import ActionEnded, Completed, Interrupt, Submitted
from lab.data.evidence import Evidence
from lab.data.manifest import DriverManifest
from lab.data.plan import Action, Controller, DeviceKind, DeviceSpec, Namespace, Scenario
from lab.drivers import find
from lab.drivers.nvmectl import main
from lab.nvme.commands import DoorbellBufferConfig, Read, Write
from lab.recording.record import record
from lab.toolchain import Toolchain

SEED, BLOCKS = 11, 1 << 15


def do(name: str, **arguments: Any) -> Action:
    return Action(name, arguments)


SCENARIO = Scenario(
    id="read/transports",
    stage="read",
    title="everything once",
    seed=SEED,
    device=DeviceSpec(
        controllers=(
            Controller(serial="ONE", mdts=2, namespaces=(Namespace(blocks=BLOCKS, areas=((0, 256),)),)),
            Controller(
                id="nv1", serial="TWO", namespaces=(Namespace(nsid=5, blocks=BLOCKS, block_size=4096),), shadow_doorbells=True
            ),
        )
    ),
    actions=(
        do("read", nsid=1, lba=0, blocks=1),
        do("load"), do("info"), do("ready"), do("identify"), do("list"), do("queues"), do("noop", nsid=1), do("smart"),
        do("read", nsid=1, lba=1, blocks=200, offset=12),
        do("read", nsid=1, lba=9, blocks=70, offset=513),
        do("write", nsid=1, lba=250, blocks=30, fill=3), do("flush", nsid=1),
        do("reset"),
        do("read", nsid=1, lba=250, blocks=30),
        do("write", nsid=5, lba=BLOCKS - 2, blocks=2, fill=4, fua=True), do("zeroes", nsid=5, lba=BLOCKS - 1, blocks=1),
        do("unload"), do("load"),
        do("read", nsid=5, lba=BLOCKS - 2, blocks=2),
        do("read", nsid=5, lba=BLOCKS, blocks=1),
        do("shutdown"),
    ),
)  # fmt: skip


def answers(folder: Path) -> list[tuple[str, Mapping[str, Any], bytes | None]]:
    """Return (action, answer, bytes) in order."""
    evidence = Evidence(folder)
    assert evidence.end is not None, evidence.end
    assert evidence.end.outcome == "complete", evidence.end
    ended = [event for event in evidence.events() if isinstance(event, ActionEnded)]
    return [(event.action, event.answer, evidence.answer_bytes(event.answer)) for event in ended]


def check(folder: Path) -> None:
    """Return what must come out of the scenario on any transport and device."""
    said = answers(folder)
    assert [action for action, _, _ in said] == [action.name for action in SCENARIO.actions]
    unloaded, *rest = said
    assert unloaded[1]["status"] == {"words": "the driver is not loaded"}
    *rest, past_end, shutdown = rest
    assert "whose last LBA is" in past_end[1]["status"]["words"]
    assert shutdown[1]["status"] == "success"
    assert {answer["status"] for _, answer, _ in rest} == {"success"}
    named = {action: answer for action, answer, _ in rest}
    assert [one["serial"] for one in named["identify"]["controllers"]] == ["ONE", "TWO"]
    assert [(one["controller"], one["nsid"], one["blocks"], one["block_size"]) for one in named["list"]["namespaces"]] == [
        ("ONE", 1, BLOCKS, 512), ("TWO", 5, BLOCKS, 4096),
    ]  # fmt: skip
    assert named["ready"]["ready"] is True
    assert named["queues"]["vectors"] >= 2
    namespace = SCENARIO.device.controllers[0].namespaces[0]
    initial = [content.initial(SEED, namespace, lba) for lba in range(280)]
    first, second, third, fourth = (data for action, _, data in rest if action == "read")
    assert first == b"".join(initial[1:201])
    assert second == b"".join(initial[9:79])
    assert third == content.blocks(3, 1, 250, 30, 512)
    assert fourth == content.block(4, 5, BLOCKS - 2, 4096) + bytes(4096)
    image = Evidence(folder).image("nv0", 1)
    assert image is not None
    assert image.read_bytes()[250 * 512 : 280 * 512] == third


def recorded(driver: DriverManifest, device: DeviceKind, folder: Path, toolchain: Toolchain) -> Evidence:
    check(record(driver, SCENARIO, device, folder, toolchain=toolchain))
    return Evidence(folder)


def shadowed(evidence: Evidence) -> int:
    """How often a controller got a command for shadow doorbells."""
    return sum(isinstance(e, Submitted) and isinstance(e.command, DoorbellBufferConfig) for e in evidence.events())


def test_over_qtest_on_qemus_device(tmp_path: Path, toolchain: Toolchain) -> None:
    evidence = recorded(find("reference-qtest"), "qemu", tmp_path / "evidence", toolchain)
    moved = [e.command for e in evidence.events() if isinstance(e, Submitted) and isinstance(e.command, Read | Write)]
    assert moved
    assert all(command.PRP1 % 4 == 0 for command in moved)
    assert shadowed(evidence) == 3, "the second controller at both loads and at the reset; the first one has none"


@pytest.mark.parametrize("device", ["qemu", "lab"])
def test_by_vfio_in_a_guest_with_msix(tmp_path: Path, toolchain: Toolchain, device: DeviceKind) -> None:
    evidence = recorded(find("reference-vfio"), device, tmp_path / "evidence", toolchain)
    events = list(evidence.events())
    assert any(isinstance(event, Completed) and event.cqid > 0 for event in events)
    assert shadowed(evidence) == 3
    if device == "lab":
        assert {event.how for event in events if isinstance(event, Interrupt)} == {"msix"}


def test_by_vfio_without_interrupts(tmp_path: Path, toolchain: Toolchain) -> None:
    polling = find("reference-vfio").model_copy(update={"variables": {"polling": "1"}})
    scenario = SCENARIO.to_json()
    folder = record(polling, Scenario.from_json(scenario), "lab", tmp_path / "evidence", toolchain=toolchain)
    said = {action: answer for action, answer, _ in answers(folder)}
    assert said["queues"]["vectors"] == 0
    assert said["read"]["status"] != "timeout"
    assert not [event for event in Evidence(folder).events() if isinstance(event, Interrupt)]


@pytest.mark.usefixtures("toolchain")
def test_nvmectl_over_qtest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk, data = tmp_path / "disk", os.urandom(4096)
    disk.write_bytes(bytes(1 << 20))
    (tmp_path / "data").write_bytes(data)
    common = ["--transport", "qtest", "--image", str(disk)]
    assert main([*common, "write", "1", "16", str(tmp_path / "data")]) == 0
    assert disk.read_bytes()[16 * 512 : 24 * 512] == data
    assert main([*common, "list"]) == 0
    assert "NSID 1: 2048 blocks of 512 bytes, 1.0 MiB" in capsys.readouterr().out
