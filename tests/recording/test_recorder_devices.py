"""Both devices in a recording: their records, the lab's switch on faults, and what each of them says it is."""

from pathlib import Path

import pytest

from lab.data import content
from lab.data.events import ActionEnded, Completed, Dma, FaultInjected, Submitted
from lab.data.evidence import Evidence
from lab.data.plan import Action, Controller, DeviceKind, DeviceSpec, Fault, Namespace, Scenario
from lab.data.profile import read_profiles
from lab.drivers import find
from lab.nvme.commands import Read
from lab.recording.record import record
from lab.toolchain import Toolchain

DISK = Namespace(blocks=65536, areas=((0, 8),))
READ = Action("read", {"nsid": 1, "lba": 0, "blocks": 1})


def scenario(*actions: Action, faults: tuple[Fault, ...] = ()) -> Scenario:
    device = DeviceSpec(controllers=(Controller(serial="SERIAL-OF-20-LETTERS", namespaces=(DISK,)),))
    return Scenario(id="read/test", stage="read", title="", seed=5, device=device, actions=actions, faults=faults)


@pytest.mark.parametrize("device", ["qemu", "lab"])
@pytest.mark.parametrize("driver", ["u-boot", "linux"])
def test_each_driver_reads_from_each_device(toolchain: Toolchain, tmp_path: Path, driver: str, device: DeviceKind) -> None:
    given = scenario(Action("load"), READ)
    evidence = Evidence(record(find(driver), given, device, tmp_path / "e", toolchain=toolchain))
    assert evidence.end is not None
    assert (evidence.end.outcome, evidence.end.reason) == ("complete", "")
    events = list(evidence.events())
    answer = next(event.answer for event in events if isinstance(event, ActionEnded) and event.action == "read")
    assert evidence.answer_bytes(answer) == content.initial(given.seed, DISK, 0)
    assert any(isinstance(event, Submitted) and isinstance(event.command, Read) for event in events)
    assert {Completed, Dma} <= {type(event) for event in events}
    profile = read_profiles(evidence.folder)["nv0"]
    assert profile.pci_class == 0x010802
    assert profile.namespaces[1].NSZE == DISK.blocks
    if device == "lab":
        assert all(event.is_exact() for event in events)


def test_a_fault_strikes_while_its_switch_is_on(toolchain: Toolchain, tmp_path: Path) -> None:
    error = Fault(name="bad", behaviour="status", arguments={"sct": 2, "sc": 0x81}, queue="io", opcode=2, armed=False)
    on, off = (Action("fault", {"name": "bad", "armed": armed}) for armed in (True, False))
    given = scenario(Action("load"), READ, on, READ, off, READ, faults=(error,))
    evidence = Evidence(record(find("u-boot"), given, "lab", tmp_path / "e", toolchain=toolchain))
    events = list(evidence.events())
    statuses = [event.answer["status"] for event in events if isinstance(event, ActionEnded) and event.action == "read"]
    assert statuses == ["success", {"sct": 2, "sc": 0x81}, "success"]
    assert [event.fault for event in events if isinstance(event, FaultInjected)] == ["bad"]
