"""Changes of a device in use: on the model, on QEMU's device, and where they cannot be had."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from lab.controller.in_process import InProcess
from lab.data.events import ActionEnded, Reset
from lab.data.evidence import Evidence
from lab.data.plan import Action, Answer, Controller, DeviceKind, DeviceSpec, Fault, Namespace, Scenario
from lab.deadline import Deadline
from lab.device.changes import UnsupportedChangeError, change_modelled
from lab.device.qemu import QemuDevice
from lab.drivers import find
from lab.drivers.base import is_stale_listing
from lab.errors import UsageError
from lab.guest.machine import Machine
from lab.recording.record import record
from lab.toolchain import Toolchain

TWO = Namespace(nsid=1, blocks=64), Namespace(nsid=2, blocks=64)
SPEC = DeviceSpec(controllers=(Controller(serial="SERIAL-OF-20-LETTERS", namespaces=TWO),))
NOBODY = cast(Machine, None)
"""A machine that must not be asked."""


def test_the_model_changes(tmp_path: Path) -> None:
    with InProcess(SPEC, tmp_path) as process:
        controller = process.function.controller
        change_modelled(process.device, Action("detach", {"nsid": 2}))
        assert list(controller.attached) == [1]
        assert controller.logs.changed_namespaces == {2}
        change_modelled(process.device, Action("attach", {"nsid": 2, "controller": "nv0"}))
        change_modelled(process.device, Action("warn", {"warning": 2}))
        assert sorted(controller.attached) == [1, 2]
        assert controller.logs.warning == 2
        with pytest.raises(UsageError, match="no active namespace 3"):
            change_modelled(process.device, Action("detach", {"nsid": 3}))


def test_a_namespace_in_use_changes_its_size_and_its_format(tmp_path: Path) -> None:
    with InProcess(SPEC, tmp_path) as process:
        controller = process.function.controller
        controller.attached[1].write(63, b"\x77" * 512, durable=True)
        change_modelled(process.device, Action("resize", {"nsid": 1, "blocks": 128}))
        assert controller.identify_namespace(1).NSZE == 128
        assert controller.attached[1].read(63, 2) == b"\x77" * 512 + bytes(512), "what it gains is zero"
        change_modelled(process.device, Action("resize", {"nsid": 1, "blocks": 32}))
        change_modelled(process.device, Action("reformat", {"nsid": 1, "format": 1}))
        assert (controller.identify_namespace(1).NSZE, controller.attached[1].block_size) == (4, 4096)
        assert controller.logs.changed_namespaces == {1}
        with pytest.raises(UsageError, match="no LBA format 9"):
            change_modelled(process.device, Action("reformat", {"nsid": 1, "format": 9}))
        with pytest.raises(UsageError, match="no active namespace 3"):
            change_modelled(process.device, Action("resize", {"nsid": 3, "blocks": 8}))


def test_a_command_that_a_fault_holds_is_released(tmp_path: Path) -> None:
    fault = Fault(name="h", behaviour="hold")
    with InProcess(SPEC, tmp_path, faults=(fault,)) as process:
        change_modelled(process.device, Action("release", {"name": "h", "count": 2}))
        with pytest.raises(UsageError, match="there is no fault 'i'"):
            change_modelled(process.device, Action("release", {"name": "i"}))


def test_a_power_cut_takes_what_was_not_flushed(tmp_path: Path) -> None:
    with InProcess(SPEC, tmp_path) as process:
        namespace = process.function.controller.attached[1]
        for lba, flushed in ((3, True), (4, False)):
            namespace.write(lba, b"\x77" * 512, durable=False)
            if flushed:
                namespace.cache.flush()
        change_modelled(process.device, Action("cut-power"))
        assert (namespace.read(3, 1), namespace.read(4, 1)) == (b"\x77" * 512, bytes(512))


def test_a_quiet_change_sends_no_event(tmp_path: Path) -> None:
    with InProcess(SPEC, tmp_path) as process:
        change_modelled(process.device, Action("detach", {"nsid": 2, "quiet": True}))
        controller = process.function.controller
        assert list(controller.attached) == [1]
        assert not controller.logs.changed_namespaces


@pytest.mark.parametrize(
    ("version", "action", "says"),
    [
        ((7, 2, 22), Action("detach", {"nsid": 2}), "from 11.1 on"),
        ((11, 1, 3), Action("detach", {"nsid": 2, "quiet": True}), "sends an event for every namespace"),
        ((11, 1, 3), Action("cut-power"), "loses nothing"),
    ],
)
def test_what_qemu_cannot_change_is_said(tmp_path: Path, version: tuple[int, ...], action: Action, says: str) -> None:
    with pytest.raises(UnsupportedChangeError, match=says):
        QemuDevice(SPEC, tmp_path, version).change(NOBODY, action, Deadline(1))


@pytest.mark.parametrize(
    ("shown", "late"), [([1, 2], False), ([2, 1], False), ([1], True), ([1, 2, 3], True)], ids=["all", "order", "few", "more"]
)
def test_a_list_is_late_until_it_is_as_wanted(shown: list[int], late: bool) -> None:
    answer = Answer(fields={"namespaces": [{"nsid": nsid} for nsid in shown]})
    assert is_stale_listing(Action("list", {"until": [1, 2]}), answer) is late
    assert not is_stale_listing(Action("list"), answer)
    assert not is_stale_listing(Action("load", {"until": "detect"}), answer)  # which is where to stop, not what to wait for


@pytest.mark.parametrize(("shown", "late"), [(8, False), (16, True)])
def test_a_list_is_late_until_the_size_is_as_wanted(shown: int, late: bool) -> None:
    answer = Answer(fields={"namespaces": [{"nsid": 1, "blocks": shown}]})
    assert is_stale_listing(Action("list", {"until": [1], "blocks": 8}), answer) is late


def test_a_driver_that_cannot_be_started_anew_keeps_its_power(toolchain: Toolchain, tmp_path: Path) -> None:
    actions = Action("load"), Action("cut-power"), Action("list")
    device = DeviceSpec(controllers=(Controller(serial="SERIAL-OF-20-LETTERS", namespaces=(Namespace(blocks=65536),)),))
    given = Scenario(id="a/b", stage="write", title="", seed=1, device=device, actions=actions)
    evidence = Evidence(record(find("u-boot"), given, "lab", tmp_path / "e", toolchain=toolchain))
    answers = [event.answer for event in evidence.events() if isinstance(event, ActionEnded)]
    assert [answer["status"] for answer in answers] == ["success", "unsupported", "success"]
    assert not [event for event in evidence.events() if isinstance(event, Reset) and event.cause == "power"]


@pytest.mark.parametrize(
    ("driver", "device"), [("reference", "lab"), ("reference-qtest", "qemu"), ("linux", "qemu"), ("linux", "lab")]
)
def test_a_driver_follows(toolchain: Toolchain, tmp_path: Path, driver: str, device: DeviceKind) -> None:
    def shown(*nsids: int) -> Action:
        return Action("list", {"until": list(nsids)})

    away, back = (Action(name, {"nsid": 2}) for name in ("detach", "attach"))
    actions = Action("load"), shown(1, 2), away, shown(1), back, shown(1, 2), Action("warn", {"warning": 2}), Action("smart")
    given = Scenario(id="a/b", stage="multi-namespace", title="", seed=1, device=SPEC, actions=actions)
    evidence = Evidence(record(find(driver), given, device, tmp_path / "e", toolchain=toolchain))
    assert evidence.end is not None
    assert (evidence.end.outcome, evidence.end.reason) == ("complete", "")
    answers = [event.answer for event in evidence.events() if isinstance(event, ActionEnded)]
    assert [answer["status"] for answer in answers] == ["success"] * len(actions)
    lists = [sorted(listed["nsid"] for listed in answer["namespaces"]) for answer in answers if "namespaces" in answer]
    assert lists == [[1, 2], [1], [1, 2]]
    assert answers[-1].get("alarm", answers[-1].get("critical_warning"))
