"""Which scenario is started when, and what becomes of one that the lab failed on: recorded again, once, and said so."""

from __future__ import annotations

import json
import random
import signal
from collections import Counter
from pathlib import Path

import jsonschema
import pytest

from conformance.judging.files import schema
from conformance.run import costs
from conformance.run.plan import Campaign, RunRequest, plan
from conformance.run.scenario_report import WORKER_DIED
from tests.toy.toy_lab import Lab


def seconds(lab: Lab, **known: float) -> None:
    """Return what the next run finds in its cache of times."""
    named = {f"toy/qemu/{name.replace('_', '/')}": value for name, value in known.items()}
    costs.remember(lab.cache, named)


def recorded(lab: Lab) -> list[str]:
    return [line.removeprefix("record ") for line in lab.log if line.startswith("record ")]


def test_the_slowest_known_scenario_is_started_first(lab: Lab) -> None:
    seconds(lab, read_more=9, write_basic=30, read_slow=20)
    assert lab.run("--jobs", "1").returncode == 1
    assert recorded(lab) == ["write/basic", "read/slow", "read/more", "read/basic", "read/broken"]


def test_every_round_begins_with_a_slow_scenario_and_ends_with_a_quick_one() -> None:
    known = {f"s{number}": float(number) for number in range(4 * costs.ROUND)}
    order = costs.in_rounds(known)
    assert sorted(order) == sorted(known)
    rounds = [order[at : at + costs.ROUND] for at in range(0, len(order), costs.ROUND)]
    assert [names[0] for names in rounds] == ["s31", "s30", "s29", "s28"]
    assert [names[-1] for names in rounds] == ["s3", "s2", "s1", "s0"]
    assert costs.in_rounds({}) == []


def test_what_a_run_took_is_known_to_the_next(lab: Lab) -> None:
    lab.run("--jobs", "2", TOY_BROKEN="9")
    known = costs.remembered(lab.cache)
    assert set(known) == {f"toy/qemu/{name}" for name in ("read/basic", "read/more", "read/slow", "write/basic")}
    assert {f"toy/qemu/{run['scenario']}": run["seconds"] for run in lab.results()["runs"]} == known


def test_no_cache_and_a_broken_one_are_no_trouble(tmp_path: Path) -> None:
    assert costs.remembered(None) == costs.remembered(tmp_path) == {}
    (tmp_path / costs.FILE).write_text("[1, 2")
    assert costs.remembered(tmp_path) == {}
    costs.remember(tmp_path, {"a": 1.5})
    costs.remember(tmp_path, {"b": 2.0})
    assert costs.remembered(tmp_path) == {"a": 1.5, "b": 2.0}
    costs.remember(None, {"a": 1.0})


def test_what_is_not_known_of_a_version_is_taken_from_another_one() -> None:
    known = {
        "edk2@2022.11/lab/reset/cfs": 7.0,
        "edk2/lab/reset/cfs": 5.0,
        "edk/lab/reset/cfs": 90.0,
        "edk2/qemu/reset/cfs": 80.0,
    }
    names = ["edk2@2026.08/lab/reset/cfs", "edk2@2026.08/lab/reset/new"]
    assert costs.of_other_versions(names, known) == {"edk2@2026.08/lab/reset/cfs": 7.0}


def test_verdicts_do_not_depend_on_the_order_or_the_workers(lab: Lab) -> None:
    found = []
    for number, jobs in enumerate(("1", "2", "4")):
        names = ("read_basic", "read_more", "read_slow", "write_basic")
        seconds(lab, **{name: random.Random(f"{number} {name}").random() for name in names})
        lab.run("--jobs", jobs, "--out", f"out{number}")
        found.append([{**verdict, "findings": len(verdict["findings"])} for verdict in lab.results(f"out{number}")["verdicts"]])
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 17


def test_no_scenario_waits_behind_a_slow_one_while_a_worker_is_free(lab: Lab) -> None:
    seconds(lab, read_slow=60, read_basic=1, read_more=1, read_broken=1, write_basic=1)
    process = lab.start("run", "--driver", "toy.toml", "--device", "qemu", "--jobs", "2", "--json", TOY_SLOW="1")
    for scenario in ("read/slow", "read/basic", "read/more", "read/broken", "write/basic"):
        lab.wait_for(f"record {scenario}", process)
    assert "ended in order" not in lab.log
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    # The other worker was given its last scenario when it had recorded the one before, and the ones before that are reported.
    events = [json.loads(line) for line in out.splitlines()]
    assert sum(line["event"] == "finished" for line in events) >= 2
    assert lab.results()["unfinished"].startswith("interrupted: ")
    assert "read/slow" not in {verdict["scenario"] for verdict in lab.results()["verdicts"]}


def test_an_estimate_counts_time_outs_and_actions() -> None:
    campaign: Campaign = plan(RunRequest(drivers=("u-boot",)))
    estimates = {job.scenario.id: costs.estimate(job.scenario) for job in campaign.jobs}
    assert max(estimates, key=lambda id: estimates[id]) in costs.WAITS
    assert estimates["read/sizes"] > estimates["detect/basic"] > 0


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_what_the_lab_failed_on_is_recorded_again_and_said_so(lab: Lab, jobs: str) -> None:
    done = lab.run("--jobs", jobs, TOY_BROKEN="1")
    assert done.returncode == 1, done.stdout + done.stderr
    assert Counter(recorded(lab))["read/broken"] == 2
    assert "recorded again  toy/qemu/read/broken, after the toy broke" in done.stdout
    runs = {run["scenario"]: run["again"] for run in lab.results()["runs"]}
    assert runs.pop("read/broken").startswith("the toy broke")
    assert set(runs.values()) == {""}
    assert all(v["outcome"] == "PASS" for v in lab.results()["verdicts"] if v["scenario"] == "read/broken")


def test_what_the_lab_fails_on_twice_is_an_error(lab: Lab) -> None:
    done = lab.run("--jobs", "1", TOY_BROKEN="2")
    assert done.returncode == 2
    assert Counter(recorded(lab))["read/broken"] == 2
    assert {v["outcome"] for v in lab.results()["verdicts"] if v["scenario"] == "read/broken"} == {"ERROR"}


def test_a_scenario_whose_worker_died_is_recorded_again_by_another(lab: Lab) -> None:
    done = lab.run("--jobs", "2", TOY_KILL="1")
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"recorded again  toy/qemu/read/slow, after {WORKER_DIED}" in done.stdout
    found = lab.results()
    jsonschema.validate(found, schema())
    assert len(found["verdicts"]) == 17
    assert not found["unfinished"]
    assert all(v["outcome"] == "PASS" for v in found["verdicts"] if v["scenario"] == "read/slow")
    assert Counter(recorded(lab)) == Counter(["read/basic", "read/more", "read/broken", "write/basic", *["read/slow"] * 2])
    latest = lab.folder / "nvme-lab-results/latest"
    assert (latest / "evidence/toy/qemu/read/slow/end.json").is_file()
    assert (latest / "failed/toy/qemu/read/slow").is_dir()


def test_a_scenario_that_kills_every_worker_is_an_error_and_the_others_are_judged(lab: Lab) -> None:
    done = lab.run("--jobs", "2", TOY_KILL="9")
    assert done.returncode == 2, done.stdout + done.stderr
    assert Counter(recorded(lab))["read/slow"] == 2
    found = lab.results()
    assert len(found["verdicts"]) == 17
    assert not found["unfinished"]
    slow = [v for v in found["verdicts"] if v["scenario"] == "read/slow"]
    assert {(v["outcome"], v["known"]) for v in slow} == {("ERROR", None)}
    assert WORKER_DIED in slow[0]["reason"]
    assert "ERROR" not in {v["outcome"] for v in found["verdicts"] if v["scenario"] != "read/slow"}


def test_evidence_of_failed_attempts_is_not_judged(lab: Lab) -> None:
    lab.run("--jobs", "2", TOY_KILL="1")
    process = lab.start("judge", "nvme-lab-results/latest", "--json")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    assert len(json.loads(out)["verdicts"]) == 17
