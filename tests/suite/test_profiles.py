"""Profiles are selected, claimed and reported beside the stages; a driver that claims none is not asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conformance.commands import run_command
from conformance.judging import summary
from conformance.run.identity import new_results
from conformance.run.plan import RunRequest, plan
from conformance.suite.check import CHECKS
from conformance.suite.scenario import SCENARIOS
from conformance.suite.selection import profiles, select
from lab.data.manifest import PROFILES, STAGES, parse, part_name
from lab.drivers import registry
from lab.errors import UsageError

PROFILE = "passthrough"


def planned(driver: str = "linux", **request: Any) -> set[str]:
    """Return the stages and profiles of the jobs of a request."""
    return {job.scenario.stage for job in plan(RunRequest(drivers=(driver,), **request)).jobs}


def test_a_profile_is_selected_by_its_name() -> None:
    selection = select(profiles_named=[PROFILE])
    assert {template.stage for template in selection.scenarios} == {PROFILE}
    assert {check.stage for check in selection.checks if not check.invariant} == {PROFILE}


def test_a_stage_alone_selects_no_profile() -> None:
    assert not {template.stage for template in select(["read"]).scenarios} & {*PROFILES}


def test_a_profile_is_judged_by_its_own_checks_and_by_the_rules_of_every_stage() -> None:
    judged = select().checks_of("passthrough/commands")
    assert {check.stage for check in judged} == {PROFILE, "every"}
    assert all(check.scenarios for check in CHECKS.values() if check.stage in PROFILES), "no check of a profile is an invariant"


def test_an_unknown_profile_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="no profile 'passthru'; did you mean 'passthrough'"):
        select(profiles_named=["passthru"])


def test_everything_that_a_driver_claims_is_asked_by_default() -> None:
    assert planned() >= {*STAGES, PROFILE}


def test_a_driver_that_claims_no_profile_is_not_asked() -> None:
    campaign = plan(RunRequest(drivers=("u-boot",)))
    assert not {job.scenario.stage for job in campaign.jobs} & {*PROFILES}
    assert not [left for left in campaign.left_out if left.scenario.startswith("passthrough/")]


def test_a_named_profile_that_a_driver_does_not_claim_is_left_out_with_its_reason() -> None:
    campaign = plan(RunRequest(drivers=("u-boot",), profiles=(PROFILE,)))
    assert not campaign.jobs
    assert {left.reason for left in campaign.left_out} == {"the manifest does not claim profile passthrough"}
    assert summary.unjudged(new_results(campaign)) == [("u-boot", PROFILE)]


def test_of_several_profiles_a_driver_is_asked_for_those_that_it_claims() -> None:
    results = new_results(plan(RunRequest(drivers=("linux", "reference"), profiles=("performance", PROFILE))))
    assert results.drivers["linux"].asked == ["performance", PROFILE]
    assert results.drivers["reference"].asked == ["performance"]


def test_a_named_profile_is_all_that_is_asked() -> None:
    assert planned(profiles=(PROFILE,)) == {PROFILE}
    assert planned(profiles=(PROFILE,), stages=("detect",)) == {PROFILE, "detect"}


def test_results_list_which_profiles_are_claimed() -> None:
    results = new_results(plan(RunRequest(profiles=(PROFILE,))))
    assert results.drivers["linux"].profiles == [PROFILE, "performance", "zoned"]
    assert results.drivers["linux"].asked == [PROFILE]


def test_a_manifest_names_profiles_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"profiles: there is no 'passthrogh'; did you mean 'passthrough'"):
        parse({"name": "x", "adapter": "linux", "profiles": ["passthrogh"]}, tmp_path / "x.toml", ["linux"])


def test_profiles_are_listed_with_the_drivers_that_claim_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["list", "profiles", "--json"]) == 0
    listed = {row["profile"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(listed) == {*profiles()}
    assert "linux" in listed[PROFILE]["claimed_by"]
    assert listed[PROFILE]["scenarios"] == sum(template.stage == PROFILE for template in SCENARIOS.values())


@pytest.mark.parametrize("name", registry.names())
def test_a_shipped_driver_claims_profiles_that_have_checks(name: str) -> None:
    assert {*registry.find(name).profiles} <= {*profiles()}


def test_a_part_is_called_stage_or_profile() -> None:
    assert [part_name(part) for part in ("read", PROFILE)] == ["stage read", "profile passthrough"]
