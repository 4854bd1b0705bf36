"""NVMe-MI in band: the reference driver and the programmable controller, by NVMe-MI Send and Receive."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lab.data.events import Completed, Submitted
from lab.data.plan import Fault
from lab.nvme import management as mi
from lab.nvme.commands import NvmeMiReceive, NvmeMiSend
from lab.nvme.identify import Oacs
from lab.reference.errors import CommandFailed, ManagementFailed, Refused

if TYPE_CHECKING:
    from tests.reference.conftest import Make

WITH_MI = {"OACS": Oacs.of(NVME_MI=1)}


def test_identity_and_health_of_a_managed_controller(make: Make) -> None:
    rig = make(identify=WITH_MI, pci={"vendor": 0x1AF4, "device": 0x5845})
    management = rig.load().management
    assert (management.subsystem().MJR, management.subsystem().MNR) == (1, 2)
    (number,) = management.controllers()
    info = management.controller(number)
    assert (info.VID, info.DID) == (0x1AF4, 0x5845)
    (health,) = management.controller_health()
    assert (health.CTLID, health.CSTS.READY, health.SPARE, int(health.CWARN)) == (number, 1, 100, 0)
    assert health.CTEMP - 273 == management.subsystem_health().CTEMP
    assert int(management.subsystem_health().SW) == 0xFF, "the bits of warnings are inverted"
    events = rig.events()
    sent = [event.command for event in events if isinstance(event, Submitted) and isinstance(event.command, NvmeMiReceive)]
    assert len(sent) == 7
    assert all((command.MT, command.NMIMT, command.NSID) == (4, 1, 0) for command in sent)


def test_the_composite_status_is_cleared_by_nvme_mi_send(make: Make) -> None:
    rig = make(identify=WITH_MI)
    management = rig.load().management
    assert management.subsystem_health().CCS.READY
    assert management.subsystem_health().CCS.READY, "it stays until it is cleared"
    management.clear_status()
    assert int(management.subsystem_health().CCS) == 0
    rig.device.function.controller.logs.celsius = 126
    health = management.subsystem_health(clear=True)
    assert (health.CCS.WARNING_CHANGED, int(health.SW)) == (1, 0xFD), "what begins later is reported"
    assert int(management.subsystem_health().CCS) == 0
    assert any(isinstance(event, Submitted) and isinstance(event.command, NvmeMiSend) for event in rig.events())


def test_an_error_of_the_tunnelled_command_is_its_response_and_the_nvme_command_succeeds(make: Make) -> None:
    rig = make(identify=WITH_MI)
    management = rig.load().management
    with pytest.raises(ManagementFailed, match=r"the management endpoint answered invalid parameter \(04h\)"):
        management.controller(77)
    completions = [event for event in rig.events() if isinstance(event, Completed)]
    assert all(event.completion.ok for event in completions)
    statuses = {mi.Response(event.completion.DW0).STATUS for event in completions}
    assert mi.ResponseStatus.INVALID_PARAMETER in statuses


def test_without_support_nothing_is_sent_and_a_raw_command_is_an_invalid_opcode(make: Make) -> None:
    rig = make()
    controller = rig.load()
    with pytest.raises(Refused, match="bit 6 of OACS is 0"):
        controller.management.subsystem()
    with pytest.raises(CommandFailed, match="Invalid Command Opcode"):
        controller.execution.admin(NvmeMiSend.of(MT=4, NMIMT=1, MIOPC=3, NMD0=2))
    assert not [e for e in rig.events() if isinstance(e, Submitted) and isinstance(e.command, NvmeMiReceive)]


def test_an_error_status_of_the_nvme_command_is_that_commands_failure(make: Make) -> None:
    fault = Fault(name="f", behaviour="status", queue="admin", opcode=NvmeMiReceive.OPCODE, arguments={"sc": 6, "dnr": 1})
    controller = make(fault, identify=WITH_MI).load()
    with pytest.raises(CommandFailed):
        controller.management.subsystem_health()
