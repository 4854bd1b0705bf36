"""A campaign in shards: split alike everywhere, merged without loss, and never whole when one is missing."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from conformance.run import costs
from lab.errors import UsageError
from tests.toy.toy_lab import Lab

SHARDS = 3


def report(lab: Lab, *arguments: str) -> subprocess.CompletedProcess[str]:
    process = lab.start("report", *arguments)
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def keys(results: dict[str, Any]) -> list[tuple[str, str, str]]:
    return sorted((v["scenario"], v["check"], v["outcome"]) for v in results["verdicts"])


@pytest.fixture
def shards(lab: Lab) -> list[str]:
    """Return the folders of all shards, each recorded on a machine that remembers other times."""
    for number in range(1, SHARDS + 1):
        names = (f"toy/qemu/read/{name}" for name in ("basic", "more", "slow"))
        costs.remember(lab.cache, {name: random.Random(f"{number} {name}").random() for name in names})
        lab.run("--jobs", "1", "--shard", f"{number}/{SHARDS}", "--out", f"shard-{number}")
    return [f"shard-{number}" for number in range(1, SHARDS + 1)]


def test_parts_are_even_and_do_not_depend_on_the_order_of_what_is_split() -> None:
    draw = random.Random(7)
    seconds = {f"scenario-{n}": draw.uniform(0.5, 20) for n in range(200)}
    parts = costs.split(seconds, 5)
    shuffled = list(seconds.items())
    draw.shuffle(shuffled)
    assert costs.split(dict(shuffled), 5) == parts
    assert sorted(name for part in parts for name in part) == sorted(seconds)
    loads = [sum(seconds[name] for name in part) for part in parts]
    assert max(loads) < 1.02 * min(loads)
    assert costs.split({"only": 1.0}, 3) == [["only"], [], []]


def test_all_shards_together_are_the_whole(lab: Lab, shards: list[str]) -> None:
    lab.run("--jobs", "2", "--out", "whole")
    merged = report(lab, *shards, "--format", "json")
    assert merged.returncode == 0, merged.stderr
    found, whole = json.loads(merged.stdout), lab.results("whole")
    assert keys(found) == keys(whole)
    assert [shard["number"] for shard in found["shards"]] == [1, 2, 3]
    assert sorted(run["scenario"] for run in found["runs"]) == sorted(run["scenario"] for run in whole["runs"])
    for run in found["runs"]:
        assert (lab.folder / run["evidence"] / "end.json").is_file()
    said = report(lab, *shards).stdout
    assert "stale  read/better" in said
    assert "partial" not in said


def test_every_scenario_is_in_one_shard(lab: Lab, shards: list[str]) -> None:
    parts = [{v["scenario"] for v in lab.results(shard)["verdicts"]} for shard in shards]
    assert sorted(name for part in parts for name in part) == sorted(set.union(*parts))
    assert all(parts)
    assert {shard["split"] for name in shards for shard in lab.results(name)["shards"]} == {
        lab.results("shard-1")["shards"][0]["split"]
    }


def test_a_missing_shard_is_named_and_is_the_labs_failure(lab: Lab, shards: list[str]) -> None:
    done = report(lab, shards[0], shards[2])
    assert done.returncode == 2
    assert "This result is partial. Of 3 shards there is no 2." in done.stdout
    assert "missing of 3 shards: 2" in done.stderr
    assert "qualifies" not in done.stdout
    for form in ("json", "junit", "markdown"):
        assert report(lab, shards[1], "--format", form).returncode == 2


def test_a_shard_given_twice_counts_once(lab: Lab, shards: list[str]) -> None:
    once, twice = (report(lab, *names, "--format", "json") for names in (shards, [*shards, shards[1]]))
    assert twice.returncode == 0
    assert json.loads(twice.stdout)["verdicts"] == json.loads(once.stdout)["verdicts"]
    assert len(json.loads(twice.stdout)["verdicts"]) == 17


@pytest.mark.parametrize(
    "other", [("--seed", "3", "--shard", "2/3"), ("--stage", "read", "--shard", "2/3"), ("--shard", "2/2"), ()]
)
def test_shards_of_different_campaigns_are_not_merged(lab: Lab, other: tuple[str, ...]) -> None:
    lab.run("--jobs", "1", "--shard", "1/3", "--out", "one")
    lab.run("--jobs", "1", *other, "--out", "other")
    done = report(lab, "one", "other")
    assert done.returncode == 4
    assert "split" in done.stderr or "whole" in done.stderr


def test_a_shard_alone_fails_for_no_stage_that_another_judges(lab: Lab) -> None:
    checks = ("--check", "write/pass", "--check", "read/sampled")
    assert [lab.run("--jobs", "1", *checks, "--shard", f"{n}/2").returncode for n in (1, 2)] == [0, 0]


def test_earlier_results_split_by_their_seconds(lab: Lab, tmp_path: Path) -> None:
    lab.run("--jobs", "1", "--out", "before")
    known = lab.results("before")
    for run in known["runs"]:
        run["seconds"] = 100.0 if run["scenario"] == "write/basic" else 1.0
    (tmp_path / "times.json").write_text(json.dumps(known))
    done = lab.run("--jobs", "1", "--shard", "1/2", "--times", "times.json", "--out", "one")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {v["scenario"] for v in lab.results("one")["verdicts"]} == {"write/basic"}


@pytest.mark.parametrize("wrong", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2"])
def test_what_is_no_shard_is_wrong_usage(lab: Lab, wrong: str) -> None:
    from conformance.run.plan import RunRequest, plan

    with pytest.raises(UsageError, match="no shard"):
        plan(RunRequest(drivers=("u-boot",), shard=wrong))
