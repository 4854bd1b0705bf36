"""Legal peculiarities of drivers come through the suite: each shows, and no check fails on any of them."""

from __future__ import annotations

import json

import pytest

from conformance.commands import run_command
from conformance.proof.campaign import CampaignReport
from conformance.proof.recording import Alarm
from conformance.proof.variants import Complaint, VariantReport, complaints, shows, unknown_names
from conformance.suite.selection import SCENARIOS
from lab import drivers
from lab.data.manifest import STAGES
from lab.errors import UsageError
from lab.reference.controller import Controller
from lab.toolchain import Toolchain
from lab.variants import JOIN, VARIANTS, Variant, combine, find, groups
from lab.variants.variant import variant

OTHER_SEED = 11
GROUPS = groups(VARIANTS.values())


def test_there_are_variants_of_every_stage() -> None:
    assert {one.stage for one in VARIANTS.values()} >= set(STAGES)
    assert len(VARIANTS) >= 60


@pytest.mark.parametrize("one", VARIANTS.values(), ids=VARIANTS)
def test_a_variant_names_what_there_is_and_the_section_that_allows_it(one: Variant) -> None:
    assert not unknown_names(one)
    assert one.summary.endswith(".")
    assert one.scenarios
    assert one.allowed.startswith(("Base 2.0, ", "NVM 1.0, ", "PCIe 1.0, ", "PCI Local Bus 3.0, ", "Zoned 1.1, "))


@pytest.mark.parametrize("one", VARIANTS.values(), ids=VARIANTS)
def test_the_device_sees_a_variant(one: Variant) -> None:
    assert shows(one, OTHER_SEED) == one.scenarios[0]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_check_fails_on_legal_variants(scenario: str) -> None:
    assert [complaint for group in GROUPS for complaint in complaints(scenario, OTHER_SEED, [one.id for one in group])] == []


@pytest.mark.soak
@pytest.mark.parametrize("id", VARIANTS)
def test_no_check_fails_on_a_variant_alone(id: str) -> None:
    assert [complaint for scenario in SCENARIOS for complaint in complaints(scenario, OTHER_SEED, [id])] == []


def test_every_variant_is_in_a_group_that_one_driver_can_be() -> None:
    assert sorted(one.id for group in GROUPS for one in group) == sorted(VARIANTS)
    for group in GROUPS:
        assert find(JOIN.join(one.id for one in group)) == group
        driver = combine(group).driver
        assert issubclass(driver, Controller)


def test_variants_that_change_the_same_are_not_combined() -> None:
    with pytest.raises(UsageError, match="change the same"):
        find("admin-queue/random-cids+admin-queue/reuses-cids")


def test_an_unknown_variant_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["defects", "--variant", "admin-queue/lazy-heads"]) == 4
    assert "did you mean admin-queue/lazy-head" in capsys.readouterr().err


@pytest.mark.parametrize("driver", ["reference-qtest", "reference-vfio"])
def test_variants_run_in_process_only(driver: str) -> None:
    manifest = drivers.find(driver).model_copy(update={"variables": {"variant": "detect/version-first"}})
    with pytest.raises(UsageError, match="run in process only"):
        drivers.adapter(manifest, Toolchain(None, None))


def test_a_variant_has_an_id_of_its_own_a_docstring_and_settings_that_exist() -> None:
    with pytest.raises(ValueError, match="declared twice"):
        variant("detect/version-first", allowed="", scenarios=())(type("Again", (Controller,), {"__doc__": "Again."}))
    with pytest.raises(ValueError, match="no docstring"):
        variant("detect/silent", allowed="", scenarios=())(type("Silent", (Controller,), {}))
    with pytest.raises(ValueError, match="no setting nothing"):
        variant("detect/odd", allowed="", scenarios=(), settings={"nothing": 1})(
            type("Odd", (Controller,), {"__doc__": "Odd."})
        )
    assert not {"detect/silent", "detect/odd"} & set(VARIANTS)


def test_a_false_alarm_or_a_variant_that_does_not_show_is_not_good() -> None:
    alarm = Alarm("read/basic", "read/nlb", "FAIL", "")
    assert CampaignReport((), (), (), (VariantReport("read/ahead", "read/basic", ()),)).good
    assert not CampaignReport((), (), (), (VariantReport("read/ahead", "read/basic", (alarm,)),)).good
    assert not CampaignReport((), (), (), (VariantReport("read/ahead", "", ()),)).good
    assert not CampaignReport((), (), (), (), (Complaint("read/ahead+read/fua", alarm),)).good


def test_the_command_prints_variants_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["defects", "--variant", "read/hints", "--json"]) == 0
    complaint = json.loads(capsys.readouterr().out)
    (one,) = complaint["variants"]
    assert (one["id"], one["shows"], one["false_alarms"], complaint["defects"]) == ("read/hints", "read/basic", [], [])
    assert (complaint["variants_alarmed"], complaint["variants_total"]) == (0, 1)
