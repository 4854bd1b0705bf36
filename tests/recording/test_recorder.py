"""Recordings of real guests, and what a recording ends with when something goes wrong. Each leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab.data import content
from lab.data.events import ActionEnded, ActionStarted, Completed, Panicked, Plugged, RegisterWrite, Submitted
from lab.data.evidence import Evidence
from lab.data.manifest import DriverManifest, load, parse
from lab.data.plan import Action, Answer, Controller, DeviceSpec, Fault, Namespace, Scenario
from lab.deadline import Deadline
from lab.drivers import find, registry
from lab.drivers.base import Session
from lab.drivers.generic_serial import GenericSerial
from lab.drivers.linux import Linux, LinuxSession
from lab.drivers.serial_session import SerialSession
from lab.errors import LabError, UsageError
from lab.guest.machine import Machine
from lab.nvme.commands import Read, Write
from lab.recording import guest as recorder
from lab.recording.record import record
from lab.toolchain import Toolchain

DISK = Namespace(blocks=65536, areas=((0, 8),))
FILL = 99


def scenario(*actions: Action, namespaces: tuple[Namespace, ...] = (DISK,), **more: Any) -> Scenario:
    device = DeviceSpec(controllers=(Controller(serial="SERIAL-OF-20-LETTERS", namespaces=namespaces, **more.pop("of", {})),))
    return Scenario(id="read/test", stage="read", title="", seed=5, device=device, actions=actions, **more)


def do(name: str, /, **arguments: Any) -> Action:
    return Action(name, arguments)


ROUND = (
    do("load"),
    do("identify"),
    do("list"),
    do("read", nsid=1, lba=0, blocks=8),
    do("write", nsid=1, lba=100, blocks=2, fill=FILL),
    do("read", nsid=1, lba=99, blocks=4),
    do("restore"),
)
"""Reads known blocks, writes two and reads them back with their neighbours; the last is asked of no adapter here."""


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Machine]]:
    """Yield the guests that the test starts; after it no process, thread, folder or memory file of theirs may be left."""
    started: list[Machine] = []
    memories: list[Path] = []

    class Watched(Machine):
        def __enter__(self) -> Machine:
            assert self.spec.memory_file is not None
            if not self.spec.memory_private:  # or it is the template's, which stays
                memories.append(self.spec.memory_file)
            super().__enter__()
            started.append(self)
            return self

    monkeypatch.setattr(recorder, "Machine", Watched)
    threads = set(threading.enumerate())
    yield started
    for machine in started:
        assert not machine.process.alive
        assert not Path(f"/proc/{machine.process.pid}").exists()
        assert not machine.folder.exists()
    assert not any(memory.parent.exists() for memory in memories)
    for thread in set(threading.enumerate()) - threads:
        thread.join(5)  # it may be on its way out
        assert not thread.is_alive(), f"{thread} was left"


def answers(folder: Path) -> list[dict[str, Any]]:
    return [dict(event.answer) for event in Evidence(folder).events() if isinstance(event, ActionEnded)]


def ended(folder: Path) -> tuple[str, str]:
    end = Evidence(folder).end
    assert end is not None
    return end.outcome, end.reason


def assert_a_full_record(folder: Path, manifest: DriverManifest, given: Scenario) -> None:
    """Return what every complete recording of ``ROUND`` holds, whatever the driver."""
    evidence = Evidence(folder)
    assert ended(folder) == ("complete", "")
    assert evidence.scenario == given
    identity = evidence.identity
    driver = identity.driver
    assert driver.name == manifest.name
    assert all(len(digest) == 64 for digest in [driver.manifest, *driver.files.values()])
    assert driver.files
    assert identity.accelerator is not None
    assert identity.accelerator.reason
    assert identity.qemu is not None
    assert identity.qemu.sha256
    said = answers(folder)
    assert [answer["status"] for answer in said] == ["success"] * 6 + ["unsupported"]
    assert said[1]["controllers"][0]["serial"] == "SERIAL-OF-20-LETTERS"
    assert [(n["nsid"], n["blocks"], n["block_size"]) for n in said[2]["namespaces"]] == [(1, DISK.blocks, 512)]
    fresh = [content.initial(given.seed, DISK, lba) for lba in range(8)]
    written = bytes(512) + content.blocks(FILL, 1, 100, 2, 512) + bytes(512)
    assert evidence.answer_bytes(said[3]) == b"".join(fresh)
    assert evidence.answer_bytes(said[5]) == written
    image = evidence.image("nv0", 1)
    assert image is not None
    assert image.read_bytes()[99 * 512 : 103 * 512] == written
    events = list(evidence.events())
    commands = [event.command for event in events if isinstance(event, Submitted)]
    assert any(isinstance(c, Read) and c.SLBA == 0 for c in commands)
    assert any(isinstance(c, Write) and c.SLBA == 100 for c in commands)
    assert {type(event) for event in events} >= {Plugged, RegisterWrite, Completed}
    assert any(path.stat().st_size > 0 for path in (folder / "console.log", folder / "boot.log") if path.is_file())
    assert (folder / "qemu.log").is_file()


def test_linux(toolchain: Toolchain, tmp_path: Path, machines: list[Machine]) -> None:
    given = scenario(*ROUND)
    folder = record(find("linux"), given, "qemu", tmp_path / "e", toolchain=toolchain, shell=True)
    assert_a_full_record(folder, find("linux"), given)
    assert Evidence(folder).identity.shell
    log = answers(folder)[0]["log"]
    assert "nvme nvme0: pci function 0000:01:00.0" in log
    events = list(Evidence(folder).events())
    load = next(event for event in events if isinstance(event, ActionStarted))
    enabled = next(event for event in events if isinstance(event, RegisterWrite))
    assert load.t < enabled.t, "the driver was there before it was asked to be"


def test_u_boot(toolchain: Toolchain, tmp_path: Path, machines: list[Machine]) -> None:
    given = scenario(*ROUND)
    folder = record(find("u-boot"), given, "qemu", tmp_path / "e", toolchain=toolchain)
    assert_a_full_record(folder, find("u-boot"), given)


def test_u_boot_with_its_data_through_the_console(toolchain: Toolchain, tmp_path: Path, machines: list[Machine]) -> None:
    """Hex dumps and fills give what shared memory gives."""
    data = find("u-boot").model_dump(exclude_defaults=True, exclude={"path"})
    for name in ("read", "write"):
        del data["actions"][name]["memory"]
    data["actions"]["write"] |= {"fill": "mw {address:x} {word:x}", "line": 450}
    data["actions"]["read"]["command"] = (*data["actions"]["read"]["command"], "md.b {address:x} {bytes:x}")
    data["actions"]["read"]["hexdump"] = "u-boot"
    manifest = parse(data, tmp_path / "x.toml", ["generic-serial"])
    given = scenario(*ROUND)
    assert_a_full_record(record(manifest, given, "qemu", tmp_path / "e", toolchain=toolchain), manifest, given)


def test_a_module_that_does_not_load_is_the_drivers_failure(
    toolchain: Toolchain, tmp_path: Path, machines: list[Machine]
) -> None:
    (tmp_path / "my.ko").write_bytes(b"no module at all")
    (tmp_path / "my.toml").write_text('name = "my"\nadapter = "linux"\n[push]\nmodules = ["my.ko"]')
    manifest = load(tmp_path / "my.toml", ["linux"])
    given = scenario(do("load"), do("ready"), do("read", nsid=1, lba=0, blocks=1))
    folder = record(manifest, given, "qemu", tmp_path / "e", toolchain=toolchain)
    assert ended(folder) == ("complete", "")
    loaded, ready, read = answers(folder)
    assert loaded["status"] == {"words": "my.ko: not a module for this kernel"}
    assert ready["ready"] is False
    assert read["status"] == {"words": "no disk for namespace 1 of SERIAL-OF-20-LETTERS"}


# -- what goes wrong ------------------------------------------------------------------------------------------------


class Disturbed:
    """A session in which something happens at one action."""

    def __init__(self, session: Session, at: str, happens: Callable[[Session, Deadline], None]) -> None:
        self._session = session
        self._at = at
        self._happens = happens

    def plugged(self, controllers: int, deadline: Deadline) -> None:
        self._session.plugged(controllers, deadline)

    def perform(self, action: Action, data: bytes | None, deadline: Deadline) -> Answer:
        if action.name == self._at:
            self._happens(self._session, deadline)
        return self._session.perform(action, data, deadline)

    def close(self) -> None:
        self._session.close()


def disturb(monkeypatch: pytest.MonkeyPatch, at: str, happens: Callable[[Machine, Session, Deadline], None]) -> None:
    """Make ``happens`` take place when the driver is asked to ``at``."""

    def disturbed(made: type[Linux] | type[GenericSerial]) -> registry.Factory:
        class Adapter(made):  # type: ignore[misc, valid-type]
            def open(self, machine: Machine, scenario: Scenario, deadline: Deadline) -> Session:
                session = super().open(machine, scenario, deadline)
                return Disturbed(session, at, lambda session, left: happens(machine, session, left))

        return Adapter

    factories = {"linux": disturbed(Linux), "generic-serial": disturbed(GenericSerial)}
    monkeypatch.setattr(registry, "_factory", lambda manifest: factories[manifest.adapter])


def crash(machine: Machine, session: Session, deadline: Deadline) -> None:
    assert isinstance(session, LinuxSession)
    session.agent.ask({"action": "put", "path": "/proc/sysrq-trigger", "mode": 0o200}, b"c", deadline=deadline)


@pytest.mark.parametrize("at", ["info", "load"])
def test_a_panic_belongs_to_the_driver_once_it_is_being_loaded(
    toolchain: Toolchain, tmp_path: Path, machines: list[Machine], monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    disturb(monkeypatch, at, crash)
    given = scenario(do("info"), do("load"), do("ready"))
    folder = record(find("linux"), given, "qemu", tmp_path / "e", toolchain=toolchain)
    panics = [event for event in Evidence(folder).events() if isinstance(event, Panicked)]
    outcome, reason = ended(folder)
    assert "Kernel panic - not syncing: sysrq triggered crash" in reason
    if at == "load":
        assert outcome == "panic"
        assert [panic.text for panic in panics] == ["Kernel panic - not syncing: sysrq triggered crash"]
        assert [answer["status"] for answer in answers(folder)] == ["success"]  # info's; nothing is asked after the panic
    else:
        assert outcome == "lab-error"
        assert reason.startswith("before the driver was loaded: ")
        assert not panics


def test_a_firmware_that_dies_by_itself_is_a_panic(toolchain: Toolchain, tmp_path: Path, machines: list[Machine]) -> None:
    data = find("u-boot").model_dump(exclude_defaults=True, exclude={"path"})
    data["actions"]["info"] = {"command": "panic lost"}
    data["boot"]["dead"] = "^lost"
    manifest = parse(data, tmp_path / "x.toml", ["generic-serial"])
    given = scenario(do("load"), do("info"), do("list"))
    folder = record(manifest, given, "qemu", tmp_path / "e", toolchain=toolchain)
    assert ended(folder)[0] == "panic"
    assert [answer["status"] for answer in answers(folder)] == ["success"]


def test_a_qemu_that_is_killed_is_the_labs_failure(
    toolchain: Toolchain, tmp_path: Path, machines: list[Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    disturb(monkeypatch, "info", lambda machine, session, deadline: os.kill(machine.process.pid, signal.SIGKILL))
    folder = record(find("u-boot"), scenario(do("load"), do("info")), "qemu", tmp_path / "e", toolchain=toolchain)
    outcome, reason = ended(folder)
    assert outcome == "lab-error"
    assert "QEMU was killed by SIGKILL" in reason
    assert any(isinstance(event, Submitted) for event in Evidence(folder).events()), "what was seen before stays"


def test_ctrl_c_leaves_evidence_without_an_end_marker(
    toolchain: Toolchain, tmp_path: Path, machines: list[Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*given: object) -> None:
        raise KeyboardInterrupt

    disturb(monkeypatch, "info", interrupt)
    with pytest.raises(KeyboardInterrupt):
        record(find("u-boot"), scenario(do("load"), do("info")), "qemu", tmp_path / "e", toolchain=toolchain)
    assert machines
    assert Evidence(tmp_path / "e").end is None
    assert len(answers(tmp_path / "e")) == 1


def test_a_command_that_hangs_is_a_time_out_and_the_recording_goes_on(
    toolchain: Toolchain, tmp_path: Path, machines: list[Machine]
) -> None:
    data = find("u-boot").model_dump(exclude_defaults=True, exclude={"path"})
    data["actions"]["info"] = {"command": "sleep 60", "seconds": 1}
    manifest = parse(data, tmp_path / "x.toml", ["generic-serial"])
    given = scenario(do("load"), do("info"), do("list"))
    folder = record(manifest, given, "qemu", tmp_path / "e", toolchain=toolchain)
    assert ended(folder) == ("complete", "")
    assert [answer["status"] for answer in answers(folder)] == ["success", "timeout", "timeout"]


def test_a_kernel_that_does_not_boot_is_the_labs_failure(toolchain: Toolchain, tmp_path: Path, machines: list[Machine]) -> None:
    assert toolchain.linux is not None
    (tmp_path / "vmlinux").write_bytes(b"no kernel")
    broken = replace(toolchain, linux=replace(toolchain.linux, vmlinux=tmp_path / "vmlinux"))
    folder = record(find("linux"), scenario(do("load")), "qemu", tmp_path / "e", toolchain=broken)
    outcome, reason = ended(folder)
    assert outcome == "lab-error"
    assert "QEMU exited with status 1" in reason
    assert Evidence(folder).identity.driver.name == "linux"


@pytest.mark.parametrize(
    ("given", "device", "reason"),
    [
        (scenario(do("load"), of={"write_cache": False}), "qemu", "always reports a volatile write cache"),
        (scenario(do("load"), faults=(Fault(name="x", behaviour="drop"),)), "qemu", "serves no faults"),
        (scenario(do("fault", name="x", armed=True)), "qemu", "has no fault 'x'"),
    ],
)
def test_what_the_device_cannot_be_is_said(
    toolchain: Toolchain, tmp_path: Path, machines: list[Machine], given: Scenario, device: Any, reason: str
) -> None:
    folder = record(find("u-boot"), given, device, tmp_path / "e", toolchain=toolchain)
    outcome, said = ended(folder)
    assert outcome == "lab-error"
    assert reason in said


def test_a_manifest_that_cannot_be_used_leaves_no_folder(toolchain: Toolchain, tmp_path: Path) -> None:
    manifest = parse({"name": "x", "adapter": "generic-serial"}, tmp_path / "x.toml", ["generic-serial"])
    with pytest.raises(UsageError, match=r"boot\.ready"):
        record(manifest, scenario(), "qemu", tmp_path / "e", toolchain=toolchain)
    assert not (tmp_path / "e").exists()


def test_evidence_that_cannot_be_written_is_raised(toolchain: Toolchain, tmp_path: Path) -> None:
    (tmp_path / "e").mkdir()
    with pytest.raises(LabError, match="evidence cannot be written"):
        record(find("u-boot"), scenario(), "qemu", tmp_path / "e", toolchain=toolchain)


def test_unplugged_and_plugged_again(toolchain: Toolchain, tmp_path: Path, machines: list[Machine]) -> None:
    given = scenario(do("load"), do("unplug"), do("info"), do("plug"), do("ready"), do("read", nsid=1, lba=0, blocks=1))
    folder = record(find("linux"), given, "qemu", tmp_path / "e", toolchain=toolchain)
    assert ended(folder) == ("complete", "")
    said = answers(folder)
    assert [answer["status"] for answer in said] == ["success"] * 6
    assert said[2]["controllers"] == []
    assert said[4]["ready"] is True
    assert [event.present for event in Evidence(folder).events() if isinstance(event, Plugged)] == [True, False, True]
    assert json.loads((folder / "end.json").read_text())["events"] > 0


def test_a_driver_that_does_not_follow_is_waited_for_once(
    monkeypatch: pytest.MonkeyPatch, machines: list[Machine], toolchain: Toolchain, tmp_path: Path
) -> None:
    monkeypatch.setattr(recorder, "FOLLOW_SECONDS", 0.5)
    asked: list[Action] = []
    perform = SerialSession.perform

    def counted(self: SerialSession, action: Action, data: bytes | None, deadline: Deadline) -> Answer:
        asked.append(action)
        return perform(self, action, data, deadline)

    monkeypatch.setattr(SerialSession, "perform", counted)
    never, never_again = do("list", until=[1, 7]), do("list", until=[1, 8])
    folder = record(find("u-boot"), scenario(do("load"), never, never_again), "lab", tmp_path / "e", toolchain=toolchain)
    assert ended(folder) == ("complete", "")
    assert asked.count(never) > 1, "it may need time"
    assert asked.count(never_again) == 1, "it had its time"
