"""Who has taken Bus Master Enable away when a doorbell is rung without it: the driver, or a fault of the device."""

from __future__ import annotations

from dataclasses import replace

import pytest

from conformance.record.record import Record
from conformance.suite.selection import CHECKS, SCENARIOS
from lab.data.events import ConfigWrite, Doorbell, Event, FaultInjected, RegisterWrite
from lab.data.plan import Fault
from lab.nvme.registers import CC
from tests.toy.fixtures import MakeEvidence

ENABLE = RegisterWrite(t=1.0, controller="nv0", offset=CC.OFFSET, size=4, value=CC.of(EN=1))
STRIKE = FaultInjected(t=2.0, controller="nv0", fault="off")


def command(t: float, value: int) -> ConfigWrite:
    return ConfigWrite(t=t, controller="nv0", offset=4, size=2, value=value)


def rung(t: float) -> Doorbell:
    return Doorbell(t=t, controller="nv0", offset=0x1000, size=4, value=1, qid=0, completion=False)


@pytest.mark.parametrize(
    ("events", "violated"),
    [
        ([command(0.5, 6), ENABLE, rung(3.0)], False),
        ([command(0.5, 2), ENABLE, rung(3.0)], True),
        ([command(0.5, 6), ENABLE, STRIKE, command(2.5, 0x402), rung(3.0)], False),  # it writes back what it has read
        ([command(0.5, 6), ENABLE, command(1.5, 0x402), rung(3.0)], True),
        ([command(0.5, 6), ENABLE, STRIKE, command(2.5, 6), command(2.7, 2), rung(3.0)], True),  # it had it back
    ],
    ids=["set", "never-set", "taken-by-the-device", "taken-by-the-driver", "taken-by-the-driver-later"],
)
def test_a_bit_that_the_device_has_lost_is_not_the_drivers(
    make_evidence: MakeEvidence, events: list[Event], violated: bool
) -> None:
    fault = Fault(name="off", behaviour="bus-master-off", queue="io")
    scenario = replace(SCENARIOS["read/basic"].resolve(1), faults=(fault,))
    record = Record(make_evidence(events, device="lab", scenario=scenario.to_json()))
    assert any(not finding.ok for finding in CHECKS["admin-queue/bus-master"].find(record)) is violated
