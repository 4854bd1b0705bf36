"""The suite can fail: every check catches a seeded mistake. It passes no driver that only answers, and fails no correct one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conformance.commands import run_command
from conformance.judging.judge import judge
from conformance.proof.campaign import CampaignReport, campaign
from conformance.proof.defects import Examined, catches, choose, examine, false_alarms, false_passes, scenarios_of
from conformance.proof.recording import Alarm, record
from conformance.record.record import Record
from conformance.suite.check import Finding, Outcome
from conformance.suite.selection import CHECKS, SCENARIOS, select
from lab import drivers
from lab.defects import DEFECTS, Defect
from lab.defects.defect import defect
from lab.errors import UsageError
from lab.reference.controller import Controller
from lab.reference.namespace import Namespace
from lab.reference.service import Service
from lab.toolchain import Toolchain

OTHER_SEED = 11
"""Not that of the campaign's default: what is caught must not hang on one draw."""


@pytest.mark.parametrize("check", [id for id, check in CHECKS.items() if check.stage != "passthrough"])
def test_every_check_has_a_defect_that_it_must_catch(check: str) -> None:
    """Those of the profile passthrough have defects in an SDK of their own (tests/passthrough/test_profile.py)."""
    assert any(seeded.check == check for seeded in DEFECTS.values())


@pytest.mark.parametrize("seeded", DEFECTS.values(), ids=DEFECTS)
def test_a_defect_names_what_there_is(seeded: Defect) -> None:
    assert seeded.check in CHECKS
    assert set(scenarios_of(seeded)) <= set(SCENARIOS)
    assert scenarios_of(seeded)
    assert seeded.summary.endswith(".")
    assert seeded.source
    assert (seeded.driver is not Controller) != (seeded.service is not Service)


TWO_FAILURES = frozenset({
    "admin-queue/page-size:in-css", "admin-queue/doorbell:sizes-swapped", "read/mbr:next-sector", "read/extra:one-based",
    "read/prp1-offset:masked", "read/prp2:junk", "hand-over/own-queues:finds-them", "hand-over/former-memory:finds-them",
    "servicing/restored:cannot",
})  # fmt: skip
"""Defects that break two rules which do not follow from one another. All others give one failure at the top, or a warning."""


@pytest.mark.parametrize("id", DEFECTS)
def test_its_check_catches_it(id: str) -> None:
    found = examine(id, OTHER_SEED)
    assert found.caught, found
    assert not found.errors, found
    assert len(found.failures) <= (2 if id in TWO_FAILURES else 1), found.failures


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_without_a_defect_nothing_fails(scenario: str) -> None:
    assert false_alarms(scenario, OTHER_SEED) == []


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_driver_that_only_answers_passes_nothing(scenario: str) -> None:
    assert false_passes(scenario, OTHER_SEED) == []


def test_a_liar_answers_everything_rightly(tmp_path: Path) -> None:
    """Or it would prove nothing that no check passes on it."""
    evidence = record("write/basic", OTHER_SEED, tmp_path / "liar", "liar")
    verdicts = {verdict.check.id: verdict for verdict in judge(evidence, CHECKS.values())}
    assert not [event for event in evidence.events() if type(event).__name__ in ("RegisterRead", "Submitted")]
    assert verdicts["write/signature"].outcome is verdicts["write/exact"].outcome is Outcome.INCONCLUSIVE
    assert verdicts["every/load"].outcome is Outcome.PASS


BLIND = """
import sys
class Gone:
    def find_spec(self, name, path=None, target=None):
        if name in {gone!r} or name.startswith(tuple(part + "." for part in {gone!r})):
            raise ImportError(name + " is not there")
sys.meta_path.insert(0, Gone())
import json
from pathlib import Path
from conformance.judging.judge import judge
from conformance.suite.selection import select
from lab.data.evidence import Evidence
evidence = Evidence(Path(sys.argv[1]))
print(json.dumps([verdict.to_json() for verdict in judge(evidence, select().checks_of(evidence.scenario.id))]))
"""
GONE = ("lab.reference", "lab.controller", "lab.defects", "lab.drivers", "lab.recording")


@pytest.mark.parametrize(
    ("id", "scenario"),
    [
        ("read/nlb:one-fewer", "read/basic"),
        ("write/exact:one-too-far", "write/basic"),
        ("io-queues/order:sq-first", "io-queues/basic"),
    ],
)
def test_the_judge_sees_the_evidence_only(tmp_path: Path, id: str, scenario: str) -> None:
    evidence = record(scenario, OTHER_SEED, tmp_path / "evidence", id)
    assert evidence.identity.driver.variables == {"defect": id}
    before = [verdict.to_json() for verdict in judge(evidence, select().checks_of(scenario))]
    identity = json.loads((evidence.folder / "identity.json").read_text())
    identity["driver"]["variables"] = {}
    (evidence.folder / "identity.json").write_text(json.dumps(identity))
    end = json.loads((evidence.folder / "end.json").read_text())  # which lists the files as they were recorded
    (evidence.folder / "end.json").write_text(json.dumps({**end, "files": None}))
    script = BLIND.format(gone=GONE)
    judged = subprocess.run([sys.executable, "-c", script, str(evidence.folder)], capture_output=True, text=True, check=True)
    after: list[dict[str, Any]] = json.loads(judged.stdout)
    assert after == before
    assert {v["check"] for v in after if v["outcome"] in ("FAIL", "WARN")} >= {id.partition(":")[0]}


def test_what_is_missed_or_wrongly_failed_is_not_good() -> None:
    alarm = Alarm("read/basic", "read/nlb", "FAIL", "")
    caught, missed = Examined("read/nlb:one-fewer", "read/basic", (), ()), Examined("read/nlb:one-fewer", "", (), ())
    assert CampaignReport((caught,), (), ()).good
    assert not CampaignReport((caught, missed), (), ()).good
    assert not CampaignReport((caught,), (alarm,), ()).good
    assert not CampaignReport((caught,), (), (alarm,)).good
    assert not CampaignReport((Examined("read/nlb:one-fewer", "read/basic", (), (alarm,)),), (), ()).good


def test_a_campaign_of_several_processes_says_what_one_says() -> None:
    outcomes = campaign(choose(checks=["read/nlb"]), seed=OTHER_SEED, jobs=2)
    assert outcomes.good
    assert outcomes.examined == (examine("read/nlb:one-fewer", OTHER_SEED),)


def test_the_command_prints_it_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["defects", "--defect", "write/fua:bit-29", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    (one,) = document["defects"]
    assert (one["id"], one["check"], one["caught"]) == ("write/fua:bit-29", "write/fua", True)
    assert one["also"] == ["read/pract-unused"], "bit 29 is PRACT"
    assert (document["caught"], document["total"], document["false_alarms"]) == (1, 1, [])


def test_the_command_prints_it_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["defects", "--check", "read/nlb"]) == 0
    out = capsys.readouterr().out
    assert "caught  read/nlb:one-fewer  Takes NLB for 0's based twice" in out
    assert "1 of 1 defects caught, 0 false verdicts" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["defects", "--defect", "read/nlb:one-few"], "did you mean read/nlb:one-fewer"),
        (["defects", "--check", "read/nothing"], "no defect is seeded for a check 'read/nothing'"),
        (["run", "--driver", "reference", "--defect", "read/nlb"], "there is no defect 'read/nlb'"),
        (["run", "--driver", "linux", "--defect", "read/nlb:one-fewer"], "no defect can be seeded into the driver 'linux'"),
    ],
)
def test_wrong_usage_is_reported(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(arguments) == 4
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("driver", "defect", "says"),
    [
        ("reference-qtest", "liar", "lives in process only"),
        ("reference-qtest", "read/none", "there is no defect 'read/none'"),
        ("reference", "read/none", "there is no defect 'read/none'"),
    ],
)
def test_an_adapter_takes_what_it_can_seed(driver: str, defect: str, says: str) -> None:
    manifest = drivers.find(driver).model_copy(update={"variables": {"defect": defect}})
    with pytest.raises(UsageError, match=says):
        drivers.adapter(manifest, Toolchain(None, None))


def test_run_seeds_a_defect(tmp_path: Path) -> None:
    arguments = ["run", "--defect", "read/nlb:one-fewer", "--scenario", "read/basic", "--out", str(tmp_path / "out")]
    assert run_command([*arguments, "--jobs", "1"]) == 1
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {v["check"] for v in results["verdicts"] if v["outcome"] == "FAIL"} >= {"read/nlb"}
    assert {v["driver"] for v in results["verdicts"]} == {"reference"}


def test_a_defect_has_an_id_of_its_own_and_says_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="declared twice"):
        defect("read/nlb:one-fewer")(type("Again", (Namespace,), {"__doc__": "Again."}))
    with pytest.raises(ValueError, match="no docstring"):
        defect("read/nlb:silent")(type("Silent", (Namespace,), {}))
    assert "read/nlb:silent" not in DEFECTS


def test_unknown_defects_are_wrong_usage() -> None:
    with pytest.raises(UsageError, match="there is no defect"):
        choose(ids=["nothing"])


def test_a_defect_of_an_unknown_check_is_reported_as_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    known = DEFECTS["detect/cap:mqes"]
    monkeypatch.setitem(DEFECTS, "detect/capp:mqes", replace(known, id="detect/capp:mqes", scenarios=()))
    found = examine("detect/capp:mqes", OTHER_SEED)
    assert not found.caught
    assert "did you mean 'detect/cap'" in found.problem
    assert not CampaignReport((found,), (), ()).good
    assert found.to_json()["problem"] == found.problem


def test_a_defect_of_any_check_lists_which_checks_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    known = DEFECTS["detect/cap:mqes"]
    monkeypatch.setitem(DEFECTS, "any:mqes", replace(known, id="any:mqes", scenarios=("detect/basic",)))
    found = examine("any:mqes", OTHER_SEED)
    assert found.caught == "detect/basic"
    assert "detect/cap" in found.also


def test_what_a_check_shares_with_others_is_no_finding_of_its_own(tmp_path: Path) -> None:
    def seeded(record: Record) -> bool:
        return "defect" in record.evidence.identity.driver.variables

    def shared(record: Record) -> Iterator[Finding]:
        yield Finding(not seeded(record), None, "reads arrive", "none")

    def always(record: Record) -> Iterator[Finding]:
        """Fails on the unmodified driver too."""
        yield Finding(False, None, "its own matter", "never well")

    def both(record: Record) -> Iterator[Finding]:
        """Has findings of its own, and some of others."""
        yield from shared(record)
        yield Finding(True, None, "its own matter", "well")

    def only_shared(record: Record) -> Iterator[Finding]:
        """Has nothing but what it shares."""
        yield from shared(record)

    def own(record: Record) -> Iterator[Finding]:
        """Fails, and not on the unmodified driver."""
        yield Finding(not seeded(record), None, "its own matter", "not well")

    evidence = record("detect/basic", OTHER_SEED, tmp_path / "evidence", "detect/cap:mqes")
    base = CHECKS["detect/cap"]
    document = [catches(replace(base, find=find), Record(evidence), OTHER_SEED) for find in (both, only_shared, own, always)]
    assert document == [False, True, True, False]
