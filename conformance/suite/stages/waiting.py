"""Rules about controllers that ask for a little time: paused, or in transition to another state of access. Base 2.0."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from conformance.record.record import Record
from conformance.suite.check import RECOMMENDED, Finding, check
from conformance.suite.citations import BASE_2_0
from conformance.suite.scenario import LOAD, Draw, Plan, do, scenario
from conformance.suite.stages.reset import strikes
from lab.data.events import ActionStarted, Completed, Doorbell, RegisterWrite, Submitted
from lab.data.plan import Fault
from lab.nvme import commands as c
from lab.nvme.identify import Anacap, Cmic
from lab.nvme.logs import Lid
from lab.nvme.registers import CC
from lab.nvme.status import Status

PAUSED = "paused"
"""The behaviour of a controller that stops processing commands for a while, and says so by CSTS.PP."""
PAUSE_MS = 3000
TRANSITION_SECONDS = 2
"""ANATT: how long a transition between states of access takes at most."""
LEAST_PART = 0.05
"""Of ANATT: a retry that comes sooner is immediate."""
ANA_STATUSES = (Status.ANA_PERSISTENT_LOSS, Status.ANA_INACCESSIBLE, Status.ANA_TRANSITION)


@scenario("reset/paused", "a controller that pauses (CSTS.PP) longer than commands may take", hostile=True, command_seconds=1)
def paused_scenario(draw: Draw) -> Plan:
    lba = draw.between(8, 900)
    pause = Fault(
        name="pause", behaviour=PAUSED, queue="io", opcode=c.Read.OPCODE, lba=lba, times=1, arguments={"ms": PAUSE_MS}
    )
    return Plan(draw.device(), [LOAD, *[do("read", nsid=1, lba=lba, blocks=4)] * 2], [pause])


@scenario("multi-namespace/ana", "a namespace is in transition between states of access for a moment", hostile=True)
def ana_scenario(draw: Draw) -> Plan:
    lba = draw.between(8, 900)
    status = Status.ANA_TRANSITION
    moving = Fault(name="moving", behaviour="status", queue="io", opcode=c.Read.OPCODE, lba=lba, times=2,
                   arguments={"sct": status >> 8, "sc": status & 0xFF})  # fmt: skip
    states = Anacap.of(OPTIMIZED=1, INACCESSIBLE=1, CHANGE=1, GROUP_ID_FIXED=1)
    reported = {
        "CMIC": int(Cmic.of(ANA=1)), "ANACAP": int(states), "ANATT": TRANSITION_SECONDS, "ANAGRPMAX": 1, "NANAGRPID": 1,
        "MNAN": 1,
    }  # fmt: skip
    device = draw.device(identify=reported, identify_namespace={"ANAGRPID": 1})
    return Plan(device, [LOAD, *[do("read", nsid=1, lba=lba, blocks=4)] * 2], [moving])


@check("reset/pp", cite=BASE_2_0["3.1.3.6"], level=RECOMMENDED, why="practice", witnesses=["fault", "wire"],
       needs=["read"], scenarios=["reset/paused"])  # fmt: skip
def pp(record: Record) -> Iterator[Finding]:
    """Waits for a controller that says by CSTS.PP that it has paused, instead of aborting commands or resetting it."""
    pauses = {fault.name: float(fault.arguments["ms"]) / 1000 for fault in record.scenario.faults if fault.behaviour == PAUSED}
    for hit in strikes(record):
        if hit.fault not in pauses:
            continue
        until, quiet = hit.t + pauses[hit.fault], True
        for state, event in record.walk(Submitted, RegisterWrite, Completed):
            if not hit.t < event.t:
                continue
            match event:
                case Completed() if event.key == (hit.sqid, hit.cid) and event.t >= until:
                    yield Finding(quiet, event, "CSTS.PP=0 waited for", "waited" if quiet else "not waited for")
                    break
                case Submitted(command=c.Abort()) if event.t < until:
                    quiet = False
                    yield Finding(False, event, "CSTS.PP=0 waited for", "Abort while the controller pauses", fields=("OPC",))
                case RegisterWrite(offset=CC.OFFSET, value=value) if state.enabled and not CC(value).EN and event.t < until:
                    yield Finding(False, event, "CSTS.PP=0 waited for", "EN=0 while the controller pauses")
                    break


@dataclass
class Unusable:
    """A namespace that a controller does not serve for the time being, and since when."""

    event: Completed
    seconds: float
    rung: set[int] = field(default_factory=set)  # submission queues for which the host has rung since then

    @property
    def least(self) -> float:
        """Seconds before another command that are no immediate retry."""
        return self.seconds * LEAST_PART


@check("multi-namespace/ana", cite=BASE_2_0["8.10"], level=RECOMMENDED, why="should", witnesses=["fault", "wire"], timed=True)
def ana(record: Record) -> Iterator[Finding]:
    """Sends a namespace that is inaccessible, lost or in transition no command before it has read the ANA log page, or has
    given the transition time."""
    waiting: dict[tuple[str, int], Unusable] = {}
    expected = "the ANA log page read, or a part of ANATT waited for"
    for state, event in record.walk(Completed, Submitted, Doorbell, ActionStarted):
        match event:
            case ActionStarted():  # what comes now was asked for by the driver's user, whose pace is not the driver's
                waiting.clear()
            case Completed() if event.completion.status in ANA_STATUSES and (sent := state.answered(event)) is not None:
                if state.profile is not None and state.profile.controller.CMIC.ANA:
                    seconds = float(state.profile.controller.ANATT)
                    waiting[state.spec.id, sent.command.NSID] = Unusable(event, seconds)
            case Submitted(command=c.GetLogPage(LID=Lid.ANA)):
                for key in [key for key in waiting if key[0] == state.spec.id]:
                    yield Finding(True, event, expected, "log page read")
                    del waiting[key]
            case Doorbell(completion=False):
                for key in [key for key in waiting if key[0] == state.spec.id]:
                    waiting[key].rung.add(event.qid)
            case Submitted() if (one := waiting.get((state.spec.id, event.command.NSID))) and event.sqid in one.rung - {0}:
                del waiting[state.spec.id, event.command.NSID]
                waited = event.t - one.event.t
                shown = f"the next command after {waited:.3f} s"
                yield Finding(waited >= one.least, event, expected, shown, fields=("NSID",))
