"""Defects of what features are set to, and when, each with its legal neighbour."""

from __future__ import annotations

from collections.abc import Sequence

from lab.defects.defect import defect
from lab.defects.fields import Meanwhile
from lab.defects.senders import NEIGHBOURS, Sender, sends
from lab.nvme import commands as c
from lab.nvme.commands import Command, SetFeatures
from lab.nvme.features import ApstEntry, ApstTable, ErrorRecovery, Fid, HostControlledThermalManagement, PowerManagement
from lab.nvme.logs import Lid
from lab.reference.controller import Controller
from lab.reference.request import Request

STATES = ("features/power-states",)
OPERATIONAL, RESTING, NONE_SUCH = 1, 2, 4
"""Power states of that scenario."""
DULBE = ErrorRecovery.of(DULBE=1)
SECURE_BLOCK = 0xEA
"""The security protocol of the Replay Protected Memory Block."""


@defect("features/power-quiet:busy", scenarios=STATES)
class RestsWhileBusy(Meanwhile):
    """Goes on with I/O while a non-operational power state is being selected."""

    admin_command = SetFeatures.of(FID=Fid.POWER_MANAGEMENT, CDW11=PowerManagement.of(PS=RESTING))


class RestsWhileIdle(Sender):
    """Selects a non-operational power state while no I/O command is in flight, and goes on with I/O afterwards."""

    def own(self) -> Sequence[Command]:
        """Return the command."""
        return [RestsWhileBusy.admin_command]


NEIGHBOURS["features/power-quiet:busy"] = RestsWhileIdle


@defect("reset/shutdown-idle:still-setting", scenarios=STATES)
class ShutsDownMeanwhile(Controller):
    """Asks for a shutdown while a command that it has sent for it is in flight."""

    waits = False

    def shutdown(self) -> None:
        """Select the slower power state, and shut down."""
        if self.stage and self.io:
            command = SetFeatures.of(FID=Fid.POWER_MANAGEMENT, CDW11=PowerManagement.of(PS=OPERATIONAL))
            if self.waits:
                self.execution.admin(command)
            else:
                self.admin.submit(Request(command, lambda request: None), self.transport.now())
                self.admin.ring()
        super().shutdown()


class ShutsDownAfterwards(ShutsDownMeanwhile):
    """Asks for a shutdown once the command that it has sent for it has ended."""

    waits = True


NEIGHBOURS["reset/shutdown-idle:still-setting"] = ShutsDownAfterwards


def _page(driver: Controller, content: bytes = b"") -> int:
    """Return the address of a page of its own with this content."""
    memory = driver.transport.allocate(driver.page_size, driver.page_size)
    memory.write(0, content)
    return memory.address


def _transitions(driver: Controller, *entries: tuple[int, int]) -> Command:
    """Return Set Features with a table in which each of these states leads to another after 100 ms."""
    table = [0] * 32
    for state, target in entries:
        table[state] = int(ApstEntry.of(ITPS=target, ITPT=100))
    where = _page(driver, ApstTable.of(ENTRY=table))
    return SetFeatures.of(FID=Fid.AUTONOMOUS_POWER_STATE_TRANSITION, CDW11=1, PRP1=where)


def _ranges(driver: Controller, step: int) -> Command:
    """Return Set Features of LBA ranges whose data begin in the middle of a page and end in one that is so far behind it."""
    half, memory = driver.page_size // 2, driver.ring_memory(driver.page_size * 3)
    return SetFeatures.of(
        FID=Fid.LBA_RANGE_TYPE, NSID=1, PRP1=memory.address + half, PRP2=memory.address + step * driver.page_size
    )


def _thermal(first: int, second: int) -> Command:
    value = HostControlledThermalManagement.of(TMT1=first, TMT2=second)
    return SetFeatures.of(FID=Fid.HOST_CONTROLLED_THERMAL_MANAGEMENT, CDW11=value)


def _telemetry(driver: Controller, length: int) -> Command:
    return c.GetLogPage.reading(Lid.TELEMETRY_CONTROLLER, length, PRP1=_page(driver))


sends(
    "features/apst-table:operational",
    "Lets the controller go to a slower power state that is operational.",
    lambda driver: [_transitions(driver, (0, OPERATIONAL), (1, RESTING))],
    lambda driver: [_transitions(driver, (0, RESTING), (1, RESTING))],
    scenarios=STATES,
)
sends(
    "features/apst-table:all-entries",
    "Fills all 32 entries of the table, however many power states there are.",
    lambda driver: [_transitions(driver, *((state, RESTING) for state in range(32)))],
    lambda driver: [_transitions(driver, *((state, RESTING) for state in range(NONE_SUCH)))],
    scenarios=STATES,
)
sends(
    "features/thermal:swapped",
    "Takes TMT1 for the higher of the two temperatures.",
    lambda driver: [_thermal(340, 320)],
    lambda driver: [_thermal(320, 340), _thermal(0, 330)],
    scenarios=STATES,
)
sends(
    "features/contiguous:scattered",
    "Keeps LBA ranges in two pages that do not follow each other.",
    lambda driver: [_ranges(driver, 2)],
    lambda driver: [_ranges(driver, 1)],
)
sends(
    "features/dulbe:never-looked-at",
    "Asks for an error where deallocated blocks are read, whatever NSFEAT says.",
    lambda driver: [SetFeatures.of(FID=Fid.ERROR_RECOVERY, CDW11=DULBE, NSID=1)],
    lambda driver: [SetFeatures.of(FID=Fid.ERROR_RECOVERY, CDW11=5, NSID=1)],
)
sends(
    "features/telemetry-blocks:header",
    "Reads no more of telemetry than its header begins with.",
    lambda driver: [_telemetry(driver, 256)],
    lambda driver: [_telemetry(driver, 512)],
)
sends(
    "features/coded-values:workload",
    "Gives a workload hint that there is not.",
    lambda driver: [SetFeatures.of(FID=Fid.POWER_MANAGEMENT, CDW11=PowerManagement.of(WH=5))],
    lambda driver: [SetFeatures.of(FID=Fid.POWER_MANAGEMENT, CDW11=PowerManagement.of(WH=2))],
)
sends(
    "features/coded-values:location",
    "Formats with protection information in front of the metadata, as before 1.4.",
    lambda driver: [c.FormatNvm.of(NSID=1, PI=1, PIL=1)],
    lambda driver: [c.FormatNvm.of(NSID=1, PI=1)],
)
sends(
    "features/coded-values:ignores-key",
    "Releases a reservation with IEKEY, which only Reservation Register knows.",
    lambda driver: [c.ReservationRelease.of(NSID=1, IEKEY=1, RTYPE=1, PRP1=_page(driver))],
    lambda driver: [c.ReservationRegister.of(NSID=1, IEKEY=1, RREGA=1, PRP1=_page(driver))],
    io=True,
    scenarios=("multi-namespace/reservations",),
)
sends(
    "admin-queue/nsid-unused:creates",
    "Names the namespace that it wants where it creates one.",
    lambda driver: [c.NamespaceManagement.of(NSID=2, PRP1=_page(driver))],
    lambda driver: [c.NamespaceManagement.of(PRP1=_page(driver)), c.NamespaceManagement.of(SEL=1, NSID=2)],
)
sends(
    "admin-queue/nsid-unused:memory-block",
    "Names a namespace where it asks for the Replay Protected Memory Block.",
    lambda driver: [c.SecurityReceive.of(NSID=1, SECP=SECURE_BLOCK, AL=512, PRP1=_page(driver))],
    lambda driver: [c.SecurityReceive.of(NSID=1, SECP=1, AL=512, PRP1=_page(driver))],
)
