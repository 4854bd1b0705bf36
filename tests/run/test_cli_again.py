"""``nvme-lab run`` again: what failed, several times, only said, and as events; with the toy suite in child processes."""

from __future__ import annotations

import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import conformance
from conformance.commands import run_command
from conformance.run import live_events as events
from tests.toy.fixtures import MakeEvidence
from tests.toy.toy_lab import Lab

SCENARIOS = ("read/basic", "read/more", "read/broken", "read/slow", "write/basic")


def recorded(lab: Lab) -> list[str]:
    return [line.removeprefix("record ") for line in lab.log if line.startswith("record ")]


def lines(text: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in text.splitlines()]
    for line in found:
        jsonschema.validate(line, events.schema())
    return found


def test_only_what_failed_is_recorded_again(lab: Lab) -> None:
    assert lab.run("--jobs", "1", "--seed", "7").returncode == 1
    before = len(recorded(lab))
    process = lab.start("run", "--last-failed", "--jobs", "1")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, out + err
    assert recorded(lab)[before:] == ["read/basic"]
    assert "what failed before" in out
    results = lab.results()
    assert results["lab"]["seed"] == 7
    assert results["narrowed"]
    assert {v["scenario"] for v in results["verdicts"]} == {"read/basic"}


def test_where_nothing_failed_nothing_is_recorded(lab: Lab) -> None:
    assert lab.run("--stage", "write").returncode == 0
    before = recorded(lab)
    done = lab.run("--last-failed")
    assert done.returncode == 0
    assert "Nothing failed in nvme-lab-results/latest." in done.stdout
    assert recorded(lab) == before


def test_the_results_to_look_at_can_be_named_and_must_be_there(lab: Lab) -> None:
    assert lab.run("--out", "mine").returncode == 1
    done = lab.run("--last-failed")
    assert done.returncode == 4
    assert "There are no results at nvme-lab-results/latest" in done.stderr
    assert lab.run("--last-failed", "mine").returncode == 1


def test_what_failed_again_with_workers_and_shards(lab: Lab) -> None:
    lab.run("--jobs", "1", TOY_BROKEN="9")
    before = len(recorded(lab))
    assert lab.run("--last-failed", "--jobs", "2", "--shard", "1/1").returncode == 1
    assert sorted(recorded(lab)[before:]) == ["read/basic", "read/broken"]
    assert {v["outcome"] for v in lab.results()["verdicts"] if v["scenario"] == "read/broken"} == {"PASS"}


def test_repetitions_are_recorded_side_by_side_and_the_worst_verdict_counts(lab: Lab) -> None:
    done = lab.run("--repeat", "3", "--jobs", "2", "--out", "out", TOY_BROKEN="4")
    assert done.returncode == 2, done.stdout + done.stderr
    assert Counter(recorded(lab)) == {**dict.fromkeys(SCENARIOS, 3), "read/broken": 5}  # each failure is tried once more
    for part in ("1", "2", "3"):
        assert (lab.folder / "out" / part / "results.json").is_file()
    assert "3 times" in done.stdout
    assert "toy/qemu/read/broken#2  " in done.stdout
    assert "rate  read/pass  toy on qemu: failed 0 of 3 (2 ERROR, 1 PASS)" in done.stdout
    results = lab.results("out")
    worst = {v["check"]: v["outcome"] for v in results["verdicts"] if v["scenario"] == "read/broken"}
    assert worst["read/pass"] == "ERROR"
    assert len(results["verdicts"]) == 17
    for run in results["runs"]:
        assert (lab.folder / "out" / run["evidence"] / "end.json").is_file()
    assert (lab.folder / "out" / "junit.xml").is_file()


def test_workers_that_are_named_share_repetitions(lab: Lab) -> None:
    done = lab.run("--repeat", "3", "--tx", "2*popen", "--out", "out", TOY_BROKEN="4")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "5 scenarios on 2 workers · 3 times" in done.stdout
    assert Counter(recorded(lab)) == {**dict.fromkeys(SCENARIOS, 3), "read/broken": 5}
    assert "rate  read/pass  toy on qemu: failed 0 of 3 (2 ERROR, 1 PASS)" in done.stdout
    for part in ("1", "2", "3"):
        assert len(lab.results(f"out/{part}")["verdicts"]) == 17
    assert len(lab.results("out")["verdicts"]) == 17


def test_steady_verdicts_are_said_to_be(lab: Lab) -> None:
    done = lab.run("--repeat", "2", "--stage", "write")
    assert done.returncode == 0
    assert "All verdicts were the same 2 times." in done.stdout


def test_an_interruption_ends_all_repetitions(lab: Lab) -> None:
    process = lab.start(
        "run", "--driver", "toy.toml", "--device", "qemu", "--stage", "read", "--jobs", "1", "--repeat", "5", TOY_SLOW="1"
    )
    lab.wait_for("slow", process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert "#2" not in out
    assert "interrupted" in lab.results()["unfinished"]


def test_a_dry_run_says_what_would_be_done_and_does_nothing(lab: Lab) -> None:
    done = lab.run("--dry-run", "--repeat", "2", "--jobs", "1")
    assert done.returncode == 0, done.stderr
    assert "Would record 5 scenarios · 2 times, in about" in done.stdout
    assert not recorded(lab)
    assert not (lab.folder / "nvme-lab-results").exists()
    (planned, ended) = lines(lab.run("--dry-run", "--json").stdout)
    assert {scenario["scenario"] for scenario in planned["scenarios"]} == set(SCENARIOS)
    assert planned["results"] is None
    assert ended == {"event": "end", "status": 0, "results": None, "unfinished": "", "error": ""}


def test_events_describe_a_run_from_the_plan_to_the_exit_status(lab: Lab) -> None:
    done = lab.run("--json", "--jobs", "2")
    assert done.returncode == 1, done.stderr
    stream = lines(done.stdout)
    assert "toy does not qualify" in done.stderr
    counts = Counter(line["event"] for line in stream)
    assert counts == {"plan": 1, "started": 5, "verdict": 17, "finished": 5, "progress": 5, "end": 1}
    assert stream[0]["event"] == "plan"
    assert sum(len(scenario["checks"]) for scenario in stream[0]["scenarios"]) == 17
    assert stream[-1] == {"event": "end", "status": 1, "results": stream[0]["results"], "unfinished": "", "error": ""}
    progress = [line for line in stream if line["event"] == "progress"]
    assert [line["done"] for line in progress] == [1, 2, 3, 4, 5]
    assert progress[-1]["remaining_seconds"] == 0
    basic = next(line for line in stream if line["event"] == "finished" and line["name"] == "toy/qemu/read/basic")
    assert basic["counts"] == {"pass": 3, "fail": 1, "known": 1, "warn": 1, "inconclusive": 1, "unsupported": 1}
    written = lab.results()["verdicts"]
    assert sorted(map(str, written)) == sorted(str(line["verdict"]) for line in stream if line["event"] == "verdict")


def test_events_end_with_the_error_or_the_signal(lab: Lab) -> None:
    done = lab.run("--json", "--stage", "raed")
    (ended,) = lines(done.stdout)
    assert (done.returncode, ended["status"]) == (4, 4)
    assert "did you mean 'read'" in ended["error"]
    process = lab.start(
        "run", "--driver", "toy.toml", "--device", "qemu", "--stage", "read", "--jobs", "1", "--json", TOY_SLOW="1"
    )
    lab.wait_for("slow", process)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    stream = lines(out)
    assert (process.returncode, stream[-1]["status"]) == (143, 143), err
    assert "stopping" in {line["event"] for line in stream}
    assert "interrupted" in stream[-1]["unfinished"]


def test_the_published_schema_of_events_is_the_models() -> None:
    published = json.loads((Path(conformance.__file__).parent / "schema" / "events.schema.json").read_text())
    assert published == events.schema()


def test_a_recording_is_replayed_and_held_against_the_first(lab: Lab) -> None:
    lab.run("--jobs", "1", "--seed", "5", "--scenario", "read/basic", "--scenario", "read/broken", TOY_BROKEN="9")
    old = lab.folder / "nvme-lab-results" / "latest"
    place = old.resolve() / "evidence/toy/qemu/read/basic/events.jsonl:1"
    process = lab.start("replay", str(place), "--driver", "toy.toml")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, out + err
    assert "all 8 verdicts are the same" in out
    assert next(line for line in out.splitlines() if line.startswith("read/fail")).split() == ["read/fail", "FAIL", "FAIL"]
    serials = {
        json.loads(path.read_text())["scenario"]["device"]["controllers"][0]["serial"]
        for path in (lab.folder / "nvme-lab-results").rglob("evidence/toy/qemu/read/basic/identity.json")
    }
    assert len(serials) == 1
    results = lab.results()
    assert results["lab"]["replays"] == str(place.parent)
    assert results["lab"]["seed"] is None


def test_a_replay_says_what_is_not_the_same_any_more(lab: Lab) -> None:
    lab.run("--jobs", "1", "--check", "write/pass")
    folder = lab.folder / "nvme-lab-results/latest/evidence/toy/qemu/write/basic"
    identity = json.loads((folder / "identity.json").read_text())
    identity |= {"versions": {"kernel": {"version": "5.10"}}}
    (folder / "identity.json").write_text(json.dumps(identity))
    (folder / "end.json").unlink()
    process = lab.start("replay", str(folder.resolve()), "--driver", "toy.toml", "--json")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    stream = json.loads(out)
    assert {"what": "versions.kernel.version", "then": "5.10", "now": "–"} in stream["differences"]
    assert {"check": "write/pass", "then": "ERROR", "now": "PASS"} in stream["verdicts"]


def test_what_cannot_be_replayed_is_wrong_usage(make_evidence: MakeEvidence, capsys: pytest.CaptureFixture[str]) -> None:
    one, _ = make_evidence().folder, make_evidence(driver={"name": "u-boot"})
    for arguments, says in (
        (("nowhere",), "There is no evidence in nowhere"),
        ((str(one.parent),), "holds 2 recordings"),
        ((str(one),), "The manifest of the driver 'some' is not among the shipped ones"),
        ((str(one), "--driver", "u-boot"), "is the driver 'u-boot'; the evidence is of 'some'"),
    ):
        assert run_command(("replay", *arguments)) == 4
        assert says in capsys.readouterr().err
