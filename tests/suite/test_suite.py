"""The suite as a whole: its ids, its citations, its scenarios, and what a selection means."""

from __future__ import annotations

import json
import re

import pytest

from conformance.run.plan import RunRequest, plan
from conformance.run.prepare import obstacle
from conformance.suite.check import CHECKS, Check
from conformance.suite.scenario import SCENARIOS, Template
from conformance.suite.selection import select, stages
from lab.data.manifest import ACTIONS, PARTS
from lab.data.plan import Scenario
from lab.errors import UsageError

EVERY_CHECK = pytest.mark.parametrize("check", CHECKS.values(), ids=list(CHECKS))
EVERY_SCENARIO = pytest.mark.parametrize("template", SCENARIOS.values(), ids=list(SCENARIOS))


@EVERY_CHECK
def test_a_check_says_what_it_judges_and_by_what(check: Check) -> None:
    assert re.fullmatch(r"[a-z-]+/[a-z0-9-]+", check.id)
    assert not re.search(r"-\d{1,3}$", check.id), "an id never carries a number that another check would shift"
    assert check.stage in (*PARTS, "every")
    assert re.match(r"[A-Z].*\.", check.statement), "a statement is a sentence"
    assert check.why in ("shall", "should", "integrity", "safety", "practice")
    assert set(check.needs) <= set(ACTIONS)
    assert set(check.scenarios) <= set(SCENARIOS)
    assert check.witnesses


@EVERY_SCENARIO
def test_a_scenario_survives_the_trip_through_json(template: Template) -> None:
    scenario = template.resolve(1)
    assert Scenario.from_json(json.loads(json.dumps(scenario.to_json()))) == scenario


@EVERY_SCENARIO
def test_seeds_draw_other_devices_and_the_same_seed_the_same(template: Template) -> None:
    one, two = template.resolve(1), template.resolve(2)
    assert template.resolve(1) == one
    assert one.seed != two.seed
    for first, second in zip(one.device.controllers, two.device.controllers, strict=True):
        assert first.serial != second.serial
        assert not first.namespaces or [n.blocks for n in first.namespaces] != [n.blocks for n in second.namespaces]


@EVERY_SCENARIO
def test_a_scenario_stays_inside_what_it_declares(template: Template) -> None:
    scenario = template.resolve(3)
    assert "load" in [action.name for action in scenario.actions]
    for controller in scenario.device.controllers:
        assert len(controller.serial) == 20
        for namespace in controller.namespaces:
            assert all(first + count <= namespace.blocks for first, count in namespace.areas)


def test_a_stage_is_recorded_by_its_scenarios_and_judged_by_all_invariants() -> None:
    selection = select(["read"])
    assert {t.stage for t in selection.scenarios} >= {"read"}
    assert all(check.stage == "read" or check.invariant for check in selection.checks)
    assert {"admin-queue/unique-cid", "read/nlb"} <= {check.id for check in selection.checks}


def test_a_check_alone_is_recorded_by_what_can_show_it() -> None:
    selection = select(checks=["read/block-4096"])
    assert [t.id for t in selection.scenarios] == ["read/block-4096"]
    assert [c.id for c in selection.checks] == ["read/block-4096"]
    assert {t.stage for t in select(checks=["read/nlb"]).scenarios} == {"read"}


@pytest.mark.parametrize(
    ("names", "checks", "hint"),
    [(["raed"], [], "'read'"), ([], ["read/nbl"], "'read/nlb'")],
)
def test_an_unknown_name_is_answered_with_the_nearest(names: list[str], checks: list[str], hint: str) -> None:
    with pytest.raises(UsageError, match=f"did you mean {hint}"):
        select(names, checks)


def test_what_takes_a_guest_too_long_is_for_drivers_in_this_process() -> None:
    request = RunRequest(drivers=("reference", "linux"), devices=("lab",), scenarios=("reset/reload-often",))
    obstacles = {job.driver.name: obstacle(job, None) for job in plan(request).jobs}
    assert obstacles == {"reference": None, "linux": "it takes too long in a guest"}


def test_stages_come_in_the_order_of_building_a_driver() -> None:
    assert stages()[:6] == ["detect", "admin-queue", "identify", "io-queues", "read", "write"]
