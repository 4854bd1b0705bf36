"""The recorder forks Linux guests, and boots them where it cannot or shall not."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.data.events import ActionEnded, ActionStarted, Plugged, Submitted
from lab.data.evidence import Evidence
from lab.data.manifest import parse
from lab.data.plan import Action, Controller, DeviceKind, DeviceSpec, Namespace, Scenario
from lab.drivers import find, linux
from lab.guest.template import ForkError, Templates
from lab.recording.record import record
from lab.toolchain import Toolchain

READ = Action("read", {"nsid": 1, "lba": 8, "blocks": 8})
SCENARIO = Scenario(
    id="fork/read", stage="read", title="a read", seed=3, actions=(Action("load"), READ),
    device=DeviceSpec(controllers=(Controller(serial="f", namespaces=(Namespace(blocks=4096, areas=((0, 64),)),)),)),
)  # fmt: skip


def recorded(folder: Path, toolchain: Toolchain, device: DeviceKind = "qemu") -> Evidence:
    """Return the evidence, complete and with the right answers."""
    evidence = Evidence(record(find("linux"), SCENARIO, device, folder, toolchain=toolchain))
    assert evidence.end is not None
    assert (evidence.end.outcome, evidence.end.reason) == ("complete", "")
    answers = [event.answer for event in evidence.events() if isinstance(event, ActionEnded)]
    assert [answer["status"] for answer in answers] == ["success", "success"]
    return evidence


@pytest.mark.parametrize("device", ["qemu", "lab"])
def test_linux_is_forked(toolchain: Toolchain, tmp_path: Path, device: DeviceKind) -> None:
    folder = recorded(tmp_path / "e", toolchain, device).folder
    assert "NVME-LAB READY" in (folder / "boot.log").read_text()
    assert "NVME-LAB READY" not in (folder / "console.log").read_text()


def test_linux_is_booted_when_the_user_wants_that(
    toolchain: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NVME_LAB_FORK", "0")
    folder = recorded(tmp_path / "e", toolchain).folder
    assert "NVME-LAB READY" in (folder / "console.log").read_text()
    assert not (folder / "boot.log").exists()


def test_linux_is_booted_where_it_cannot_be_forked(
    toolchain: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*asked: object) -> None:
        raise ForkError("this QEMU is too old to fork")

    monkeypatch.setattr(Templates, "get", refuse)
    folder = recorded(tmp_path / "e", toolchain).folder
    assert "NVME-LAB READY" in (folder / "console.log").read_text()
    assert "this QEMU is too old to fork" in (folder / "lab.log").read_text()


def test_a_fork_shows_the_same_commands_as_a_boot(
    toolchain: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what is sampled from the guest's memory, which a fork keeps to itself and to its end."""

    def commands(folder: str) -> list[tuple[int, bytes]]:
        evidence = recorded(tmp_path / folder, toolchain)
        return [(event.sqid, event.raw[:2]) for event in evidence.events() if isinstance(event, Submitted)]

    forked = commands("forked")
    monkeypatch.setenv("NVME_LAB_FORK", "0")
    booted = commands("booted")
    reads = {"forked": forked, "booted": booted}
    assert all(any(sqid and raw[0] == 2 for sqid, raw in seen) for seen in reads.values())
    assert [raw[0] for sqid, raw in forked if not sqid] == [raw[0] for sqid, raw in booted if not sqid]


def test_a_driver_that_was_loaded_beforehand_shows_the_same_commands_and_answers(
    toolchain: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the device is not there before the driver is asked to load."""

    def seen(folder: str) -> tuple[list[int], str]:
        evidence = recorded(tmp_path / folder, toolchain)
        events = list(evidence.events())
        load = next(n for n, event in enumerate(events) if isinstance(event, ActionStarted))
        plugged = next(n for n, event in enumerate(events) if isinstance(event, Plugged))
        assert (load < plugged) == (folder == "held")
        said = next(event.answer["log"] for event in events if isinstance(event, ActionEnded))
        return [event.raw[0] for event in events if isinstance(event, Submitted) and not event.sqid], said

    commands, said = seen("held")
    monkeypatch.setattr(linux, "can_preload", lambda scenario: False)
    others, also_said = seen("loaded")
    assert commands == others
    assert commands
    assert "nvme nvme0: pci function" in said
    assert "nvme nvme0: pci function" in also_said


@pytest.mark.parametrize("module", [b"no module at all", None])
def test_a_module_that_cannot_be_loaded_beforehand_is_loaded_by_the_scenario(
    toolchain: Toolchain, tmp_path: Path, module: bytes | None
) -> None:
    """One that is broken, and one that drives no PCI function: the evidence shows what became of it."""
    assert toolchain.linux
    own = tmp_path / "own.ko"
    core = next(path for path in toolchain.linux.modules if path.stem == "nvme-core")
    own.write_bytes(module or core.read_bytes())
    manifest = parse(
        {"name": "own", "adapter": "linux", "needs": ["linux-guest"], "push": {"modules": ["./own.ko"]}},
        tmp_path / "own.toml", ["linux"],
    )  # fmt: skip
    evidence = Evidence(record(manifest, SCENARIO, "qemu", tmp_path / "e", toolchain=toolchain))
    assert evidence.end is not None
    assert evidence.end.outcome == "complete"
    loaded = next(event.answer["status"] for event in evidence.events() if isinstance(event, ActionEnded))
    assert loaded == (({"words": "own.ko: not a module for this kernel"}) if module else "success")
    assert "cannot be loaded beforehand" in (evidence.folder / "lab.log").read_text()


def test_a_driver_in_user_space_is_forked_too(toolchain: Toolchain, tmp_path: Path) -> None:
    """With a strict IOMMU, and with the right time."""
    folder = tmp_path / "e"
    evidence = Evidence(record(find("reference-vfio"), SCENARIO, "qemu", folder, toolchain=toolchain))
    assert evidence.end is not None
    assert (evidence.end.outcome, evidence.end.reason) == ("complete", "")
    answers = [event.answer for event in evidence.events() if isinstance(event, ActionEnded)]
    assert [answer["status"] for answer in answers] == ["success", "success"]
    assert "NVME-LAB READY" in (folder / "boot.log").read_text()
    assert "NVME-LAB READY" not in (folder / "console.log").read_text()
