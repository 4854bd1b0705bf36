"""Rules about what features are set to, and when: power, heat, where their data lie. Base 2.0, 5.27.1; NVM 1.0, 4.1.3."""

from __future__ import annotations

from collections.abc import Iterator

from conformance.record.record import Record
from conformance.record.state import State
from conformance.suite.check import MANDATORY, RECOMMENDED, Finding, check
from conformance.suite.citations import BASE_2_0, NVM_1_0
from conformance.suite.scenario import LOAD, Draw, Plan, do, scenario
from conformance.suite.stages.features import PASSED_THROUGH
from conformance.suite.stages.fields import own
from lab.data.events import Remark, Submitted
from lab.data.plan import Fault
from lab.nvme import commands as c
from lab.nvme.commands import BROADCAST_NSID, Command
from lab.nvme.features import ErrorRecovery, Fid, HostControlledThermalManagement, PowerManagement
from lab.nvme.identify import PowerState

TRANSITIONS = "power-transitions"
"""The remark on a table of autonomous power state transitions, with what is wrong in it."""
CONTIGUOUS = frozenset({Fid.AUTONOMOUS_POWER_STATE_TRANSITION, Fid.LBA_RANGE_TYPE})
"""Features whose data lie in memory without a gap. Base 2.0, 5.27.1.9; NVM 1.0, 4.1.3."""
COOLEST, HOTTEST = 300, 350
"""MNTMT and MXTMT in kelvin."""
POWER_STATES = [
    PowerState.of(MP=800, ENLAT=16, EXLAT=4),
    PowerState.of(MP=400, ENLAT=20, EXLAT=10, RRT=1),
    PowerState.of(MP=20, NOPS=1, ENLAT=500, EXLAT=700, RRT=2),
    PowerState.of(MP=5, NOPS=1, ENLAT=2000, EXLAT=5000, RRT=3),
]
"""Two operational power states, and two in which no I/O command is worked on."""


@scenario("features/power-states", "four power states, two of them non-operational, autonomous transitions, thermal thresholds")
def power_states(draw: Draw) -> Plan:
    lba = draw.between(1, 900)
    moved = [do("write", nsid=1, lba=lba, blocks=8, fill=draw.fill()), do("read", nsid=1, lba=lba, blocks=8)]
    states = [int.from_bytes(one, "little") for one in POWER_STATES]
    identify = {"NPSS": 3, "APSTA": 1, "PSD": states, "HCTMA": 1, "MNTMT": COOLEST, "MXTMT": HOTTEST}
    slow = Fault(name="slow", behaviour="delay", queue="admin", opcode=c.SetFeatures.OPCODE, cdw10=Fid.POWER_MANAGEMENT,
                 arguments={"ms": 50})  # fmt: skip
    return Plan(draw.device(identify=identify), [LOAD, *moved, do("reset"), *moved, do("unload")], [slow])


# -- power and heat -------------------------------------------------------------------------------------------------------


@check(
    "features/apst-table",
    cite=BASE_2_0["5.27.1.9"],
    level=MANDATORY,
    why="shall",
    witnesses=["wire"],
    uses="autonomous power state transitions",
)
def apst_table(record: Record) -> Iterator[Finding]:
    """Lets autonomous transitions lead to non-operational power states only, and clears what a table leaves unused."""
    expected = "transitions to non-operational states that there are, all else clear"
    broken = set[int]()  # identities of the commands whose table was remarked on
    for remark in record.all(Remark):
        if remark.name == TRANSITIONS and (sent := record.owner(remark)) is not None and _by_itself(record, sent):
            broken.add(id(sent))
            state, target = remark.detail.get("state"), remark.detail.get("target")
            shown = {
                "target": f"entry {state}: to state {target}, which is not a non-operational one",
                "state": f"entry {state} of a state that there is not is not 0",
            }.get(str(remark.detail.get("problem")), f"entry {state}: reserved bits are set")
            yield Finding(False, remark, expected, shown)
    for _, event, command in own(record, c.SetFeatures):
        if command.FID == Fid.AUTONOMOUS_POWER_STATE_TRANSITION and id(event) not in broken:
            yield Finding(True, event, expected, "nothing to remark", fields=("FID",))


def _by_itself(record: Record, sent: Submitted) -> bool:
    """Return whether the driver has sent this of its own accord."""
    return not any(asked.action in PASSED_THROUGH and asked.covers(sent) for asked in record.asked)


@check("features/power-quiet", cite=BASE_2_0["8.15.1"], level=RECOMMENDED, why="should", witnesses=["wire"])
def power_quiet(record: Record) -> Iterator[Finding]:
    """Lets I/O commands end before it selects a non-operational power state, and sends none before that is done."""
    expected = "no I/O command meanwhile"
    for state, event, command in own(record, Command):
        if event.sqid:
            for other in state.in_flight.values():
                if _rests(state, other.command) and _by_itself(record, other):
                    yield Finding(False, event, expected, f"{type(command).__name__} while that is in flight", fields=("OPC",))
        elif _rests(state, command):
            flying = sum(other.sqid != 0 for other in state.in_flight.values())
            yield Finding(not flying, event, expected, f"{flying} I/O commands in flight", fields=("FID", "CDW11"))


def _rests(state: State, command: Command) -> bool:
    """Return whether a command selects a power state in which no I/O command is worked on."""
    if not isinstance(command, c.SetFeatures) or command.FID != Fid.POWER_MANAGEMENT or state.profile is None:
        return False
    wanted, identity = PowerManagement(command.CDW11).PS, state.profile.controller
    return wanted <= identity.NPSS and bool(identity.PSD[wanted].NOPS)


@check("features/thermal", cite=BASE_2_0["5.27.1.13"], level=RECOMMENDED, why="practice", witnesses=["wire"])
def thermal(record: Record) -> Iterator[Finding]:
    """Sets thermal thresholds in order, TMT1 below TMT2, and between MNTMT and MXTMT: the controller refuses others."""
    for state, event, command in own(record, c.SetFeatures):
        if command.FID == Fid.HOST_CONTROLLED_THERMAL_MANAGEMENT and state.profile is not None:
            identity, value = state.profile.controller, HostControlledThermalManagement(command.CDW11)
            low, high = identity.MNTMT, identity.MXTMT
            inside = all(low <= one <= (high or one) for one in (value.TMT1, value.TMT2) if one)
            ordered = value.TMT1 < value.TMT2 or not value.TMT1 or not value.TMT2
            shown = f"TMT1 {value.TMT1}, TMT2 {value.TMT2}"
            yield Finding(inside and ordered, event, f"TMT1 < TMT2, of {low} to {high} K", shown, fields=("FID", "CDW11"))


# -- data and errors ------------------------------------------------------------------------------------------------------


@check(
    "features/contiguous",
    cite=BASE_2_0["5.27.1.9"],
    level=MANDATORY,
    why="shall",
    witnesses=["wire"],
    uses="tables of power state transitions and of LBA ranges",
)
def contiguous(record: Record) -> Iterator[Finding]:
    """Keeps the data of Autonomous Power State Transition, and of LBA Range Type, in memory without a gap."""
    for state, event, command in own(record, c.SetFeatures, c.GetFeatures):
        length = command.data_length
        if command.FID in CONTIGUOUS and length and command.PRP1 % state.page + length > state.page:
            following = command.PRP1 // state.page * state.page + state.page
            shown = f"PRP1 {command.PRP1:#x}, PRP2 {command.PRP2:#x}"
            yield Finding(command.PRP2 == following, event, f"PRP2 {following:#x}", shown, fields=("FID", "PRP1", "PRP2"))


@check(
    "features/dulbe",
    cite=NVM_1_0["4.1.3"],
    level=MANDATORY,
    why="shall",
    witnesses=["wire"],
    uses="errors of deallocated blocks",
)
def dulbe(record: Record) -> Iterator[Finding]:
    """Asks for errors of deallocated blocks (DULBE) only where NSFEAT says that the namespace knows them."""
    for state, event, command in own(record, c.SetFeatures):
        if command.FID == Fid.ERROR_RECOVERY and state.profile is not None:
            asked, every = ErrorRecovery(command.CDW11).DULBE, state.profile.namespaces
            named = every.values() if command.NSID == BROADCAST_NSID else filter(None, [every.get(command.NSID)])
            known = all(identified.NSFEAT.DEALLOCATED_ERROR for identified in named)
            shown = f"DULBE {asked}, NSFEAT bit 2 {'set' if known else 'clear'}"
            yield Finding(known or not asked, event, "NSFEAT bit 2 set, or DULBE 0", shown, fields=("FID", "NSID", "CDW11"))
