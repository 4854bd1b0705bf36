"""What of a driver is executed is recorded, without a change to the driver."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.data.coverage import RecordingCoverage, read_coverage
from lab.data.events import Unknown
from lab.data.evidence import Evidence
from lab.data.plan import Action, Controller, DeviceKind, DeviceSpec, Namespace, Scenario
from lab.drivers import find
from lab.guest.accelerator import KVM, Accelerator
from lab.recording.coverage import GuestCoverage
from lab.recording.record import record
from lab.toolchain import Toolchain

READ = Action("read", {"nsid": 1, "lba": 8, "blocks": 8})
SCENARIO = Scenario(
    id="cover/read", stage="read", title="a read", seed=3, actions=(Action("load"), READ),
    device=DeviceSpec(controllers=(Controller(serial="f", namespaces=(Namespace(blocks=4096, areas=((0, 64),)),)),)),
)  # fmt: skip


def covered(folder: Path) -> RecordingCoverage:
    found = read_coverage(folder)
    assert found is not None
    return found


@pytest.mark.parametrize("device", ["qemu", "lab"])
def test_what_linux_executes_is_recorded(toolchain: Toolchain, tmp_path: Path, device: DeviceKind) -> None:
    evidence = Evidence(record(find("linux"), SCENARIO, device, tmp_path / "e", toolchain=toolchain, coverage=True))
    assert evidence.end is not None
    assert (evidence.end.outcome, evidence.end.unknown) == ("complete", 0)
    assert not any(isinstance(event, Unknown) for event in evidence.events())
    assert "coverage.json" in (evidence.end.files or {})
    evidence.check()
    objects = {one.name: one for one in covered(evidence.folder).objects}
    entered = {function.name for function in objects["nvme.ko"].functions if function.executed}
    assert {"nvme_probe", "nvme_queue_rq", "nvme_irq"} <= entered
    assert not {"nvme_suspend", "nvme_shutdown", "nvme_remove"} & entered
    assert any(function.name == "nvme_scan_work" and function.executed for function in objects["nvme-core.ko"].functions)


@pytest.mark.parametrize(
    ("driver", "device", "entered", "never"),
    [("u-boot", "qemu", "nvme_blk_read", "print_data_protect_cap"), ("u-boot", "lab", "nvme_submit_cmd", "nvme_delete_cq"),
     ("seabios", "lab", "nvme_io_xfer", ""), ("edk2", "lab", "NvmeControllerInit", "NvmExpressUnload")],
)  # fmt: skip
def test_firmware_without_symbols_is_covered_by_its_bytes(
    toolchain: Toolchain, tmp_path: Path, driver: str, device: DeviceKind, entered: str, never: str
) -> None:
    folder = record(find(driver), SCENARIO, device, tmp_path / "e", toolchain=toolchain, coverage=True)
    executed = {f.name: f.executed for one in covered(folder).objects for f in one.functions}
    assert executed[entered]
    assert not executed.get(never)


def test_a_driver_in_this_process_has_no_machine_code(toolchain: Toolchain, tmp_path: Path) -> None:
    folder = record(find("reference"), SCENARIO, "lab", tmp_path / "e", toolchain=toolchain, coverage=True)
    assert "no machine code" in covered(folder).reason


def test_under_kvm_it_is_unsupported(tmp_path: Path) -> None:
    coverage = GuestCoverage(find("linux"), None, Accelerator(KVM, ""))  # type: ignore[arg-type]  # the driver is not asked
    assert coverage.addresses == ""
    coverage.write(tmp_path)
    assert "UNSUPPORTED" in covered(tmp_path).reason
