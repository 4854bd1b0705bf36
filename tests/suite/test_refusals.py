"""What a driver may refuse: an unusual device is no reason to fail it, an ordinary one is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from conformance.proof.recording import verdicts
from conformance.suite.check import Outcome
from conformance.suite.refusals import may_refuse, unusual
from conformance.suite.selection import SCENARIOS, select
from lab.data.plan import Controller, DeviceSpec, Fault, Namespace, Scenario

ORDINARY = Namespace(blocks=1 << 20)


def scenario_with(*controllers: Controller, faults: tuple[Fault, ...] = ()) -> Scenario:
    return Scenario(
        id="x/y", stage="read", title="", seed=0, device=DeviceSpec(controllers=controllers), actions=(), faults=faults
    )


def controller(**more: object) -> Controller:
    return replace(Controller(serial="S", namespaces=(ORDINARY,)), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"cap": {"MQES": 1}}, "MQES"),
        ({"cap": {"DSTRD": 2}}, "DSTRD"),
        ({"cap": {"MPSMIN": 1}}, "MPSMIN"),
        ({"mdts": 1}, "MDTS"),
        ({"vectors": 0}, "vector"),
        ({"version": "1.0"}, "VS"),
        ({"identify": {"CNTRLTYPE": 3}}, "CNTRLTYPE"),
        ({"namespaces": (replace(ORDINARY, block_size=4096),)}, "512"),
    ],
)
def test_an_unusual_controller_is_told_by_what_it_has(changed: dict[str, object], word: str) -> None:
    assert word in unusual(scenario_with(controller(**changed)))


def test_an_ordinary_controller_is_not_unusual() -> None:
    assert unusual(scenario_with(controller())) == ""
    assert unusual(scenario_with(controller(mdts=0, sgl=True, write_cache=False))) == ""


def test_faults_and_further_controllers_are_unusual() -> None:
    assert unusual(scenario_with(controller(), faults=(Fault(name="f", behaviour="delay"),)))
    assert unusual(scenario_with(controller(), controller(id="nv1")))


def test_blocks_that_a_driver_may_refuse() -> None:
    assert not may_refuse(ORDINARY, {"lba": 0, "blocks": 8})
    assert may_refuse(replace(ORDINARY, block_size=4096), {"lba": 0, "blocks": 1})
    assert may_refuse(replace(ORDINARY, blocks=1 << 33), {"lba": 1 << 32, "blocks": 1})


def test_a_refusal_of_short_queues_only_warns_and_explains_what_follows() -> None:
    found = {v.check.id: v for v in verdicts("io-queues/smallest", 0, variant="detect/refuses-the-unusual")}
    assert found["every/unusual-device"].outcome is Outcome.WARN
    assert found["read/exact"].because == "every/unusual-device"
    assert [v.check.id for v in found.values() if v.outcome is Outcome.FAIL] == []


def test_what_is_refused_on_an_ordinary_device_fails() -> None:
    found = {v.check.id: v.outcome for v in verdicts("detect/basic", 0, defect="every/load:one-vendor")}
    assert found["every/load"] is Outcome.FAIL


def test_of_an_unknown_scenario_the_invariants_judge() -> None:
    checks = select().checks_of("hobby/never-heard-of")
    assert all(check.invariant for check in checks)
    assert {"read/media-error", "read/out-of-order", "io-queues/mqes-max"} <= {check.id for check in checks}
    assert "hobby/never-heard-of" not in SCENARIOS
