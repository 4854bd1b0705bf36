"""Attacks on a run: closed and full outputs, kills, hang-ups, two runs in one folder; nothing is lost, no driver is blamed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.toy.toy_lab import MAIN, Lab

SCENARIOS = ("read/basic", "read/more", "read/broken", "read/slow", "write/basic")
RUN = '"$PY" -c "$MAIN" run --driver toy.toml --device qemu'


def shell(lab: Lab, script: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script in the lab's folder; its last line prints statuses."""
    environment = {**lab.env(**env), "PY": sys.executable, "MAIN": MAIN}
    return subprocess.run(
        ["bash", "-c", script], cwd=lab.folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def command(lab: Lab, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run nvme-lab to its end."""
    process = lab.start(*arguments, **env)
    out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def recorded(lab: Lab) -> list[str]:
    return [line.removeprefix("record ") for line in lab.log if line.startswith("record ")]


# -- outputs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [f"{RUN} --jobs 1 --json | head -1", f"{RUN} --jobs 2 --json | head -1", f"{RUN} --jobs 2 | head -2"],
)
def test_a_closed_pipe_ends_a_run_quietly_and_keeps_what_was_judged(lab: Lab, script: str) -> None:
    done = shell(lab, f"{script} > /dev/null; echo ${{PIPESTATUS[0]}}", TOY_SLOW="1")  # it outlives head on a busy machine
    assert done.stdout.strip() == "141"
    assert "Traceback" not in done.stderr
    assert "INTERNALERROR" not in done.stderr
    assert "SystemExit" not in done.stderr
    assert lab.results()["unfinished"].startswith("interrupted")


@pytest.mark.parametrize("arguments", ["list checks", "run --driver toy.toml --device qemu --jobs 1"])
def test_a_full_output_is_the_labs_trouble_and_says_so(lab: Lab, arguments: str) -> None:
    done = shell(lab, f'"$PY" -c "$MAIN" {arguments} > /dev/full; echo $?')
    assert done.stdout.strip() == "2"
    assert "The output cannot be written: No space left on device" in done.stderr
    assert "a mistake in the lab" not in done.stderr


@pytest.mark.parametrize(("redirect", "env"), [(">&-", {}), ("> out", {"PYTHONIOENCODING": "ascii"}), ("2>&-", {})])
def test_closed_and_narrow_outputs_change_no_exit_status(lab: Lab, redirect: str, env: dict[str, str]) -> None:
    done = shell(lab, f'"$PY" -c "$MAIN" run --driver toy.toml --device qemu --jobs 1 --stage write {redirect}\necho $?', **env)
    assert done.stdout.splitlines()[-1] == "0", done.stderr
    assert len(lab.results()["verdicts"]) == 2


def test_a_name_that_is_too_long_is_no_mistake_in_the_lab(lab: Lab) -> None:
    done = command(lab, "run", "--driver", "x" * 300 + ".toml")
    assert done.returncode in (2, 4)
    assert "File name too long" in done.stderr
    assert "a mistake in the lab" not in done.stderr


# -- ends -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_hang_up_ends_a_run_in_order(lab: Lab, jobs: str) -> None:
    process = lab.start("run", "--driver", "toy.toml", "--device", "qemu", "--stage", "read", "--jobs", jobs, TOY_SLOW="1")
    lab.wait_for("slow", process)
    process.send_signal(signal.SIGHUP)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGHUP, out + err
    assert "ended in order" in lab.log
    assert "interrupted" in lab.results()["unfinished"]


def test_under_nohup_a_hang_up_is_ignored(lab: Lab) -> None:
    done = shell(lab, f"trap '' HUP; {RUN} --jobs 1 & sleep 0; kill -HUP $!; wait $!; echo $?")
    assert done.stdout.splitlines()[-1] == "1", done.stderr


def kill_during_the_slow_scenario(lab: Lab, *arguments: str) -> None:
    """Start a run in the folder `out`, and kill it while the toy is slow."""
    process = lab.start("run", "--driver", "toy.toml", "--device", "qemu", "--out", "out", *arguments, TOY_SLOW="1")
    lab.wait_for("slow", process)
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_killed_run_goes_on_with_what_is_there(lab: Lab, jobs: str) -> None:
    kill_during_the_slow_scenario(lab, "--jobs", jobs)
    assert not (lab.folder / "out/results.json").exists()
    before = Counter(recorded(lab))
    journaled = {json.loads(line)["verdicts"][0]["scenario"] for line in _journal(lab).splitlines()}
    done = command(lab, "run", "--resume", "out", "--jobs", jobs)
    assert done.returncode == 1, done.stdout + done.stderr
    results = lab.results("out")
    assert len(results["verdicts"]) == 17
    assert not results["unfinished"]
    assert {run["scenario"] for run in results["runs"]} == {
        "read/basic",
        "read/more",
        "read/broken",
        "read/slow",
        "write/basic",
    }
    for run in results["runs"]:
        assert (lab.folder / "out" / run["evidence"] / "end.json").is_file()
    again = Counter(recorded(lab)) - before
    assert "read/slow" not in journaled
    assert set(again) == set(SCENARIOS) - journaled
    assert all(count == 1 for count in again.values())


def _journal(lab: Lab) -> str:
    return (lab.folder / "out/journal.jsonl").read_text()


def test_a_run_that_is_complete_has_nothing_to_go_on_with(lab: Lab) -> None:
    assert command(lab, "run", "--driver", "toy.toml", "--device", "qemu", "--jobs", "1", "--out", "out").returncode == 1
    before = recorded(lab)
    assert command(lab, "run", "--resume", "out").returncode == 1
    assert recorded(lab) == before
    assert len(lab.results("out")["verdicts"]) == 17


def test_a_journal_that_was_cut_off_in_a_line_loses_that_line_only(lab: Lab) -> None:
    command(lab, "run", "--driver", "toy.toml", "--device", "qemu", "--jobs", "1", "--out", "out")
    file = lab.folder / "out/journal.jsonl"
    whole = file.read_bytes().splitlines(keepends=True)
    last = json.loads(whole[-1])["verdicts"][0]["scenario"]
    file.write_bytes(b"".join(whole)[:-20])
    before = Counter(recorded(lab))
    assert command(lab, "run", "--resume", "out", "--jobs", "1").returncode == 1
    assert Counter(recorded(lab)) - before == {last: 1}
    assert len(lab.results("out")["verdicts"]) == 17


def test_a_run_whose_driver_changed_cannot_go_on(lab: Lab) -> None:
    kill_during_the_slow_scenario(lab, "--jobs", "1")
    manifest = lab.folder / "toy.toml"
    manifest.write_text(manifest.read_text().replace("it was so once", "it was so twice"))
    done = command(lab, "run", "--resume", "out")
    assert done.returncode == 4
    assert "since it began, drivers.toy changed" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--resume", "nowhere"), "nowhere holds no run that can go on"),
        (("--resume", "nowhere", "--seed", "3"), "--seed cannot be given with it"),
    ],
)
def test_what_cannot_go_on_is_wrong_usage(lab: Lab, arguments: tuple[str, ...], says: str) -> None:
    done = command(lab, "run", *arguments)
    assert done.returncode == 4
    assert says in done.stderr


def test_two_runs_do_not_share_a_folder(lab: Lab) -> None:
    first = lab.start(
        "run", "--driver", "toy.toml", "--device", "qemu", "--stage", "read", "--jobs", "1", "--out", "out", TOY_SLOW="1"
    )
    lab.wait_for("slow", first)
    second = command(lab, "run", "--driver", "toy.toml", "--device", "qemu", "--out", "out")
    resumed = command(lab, "run", "--resume", "out")
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=60)
    for done in (second, resumed):
        assert done.returncode == 4
        assert "Another nvme-lab run writes to" in done.stderr


def test_workers_that_die_while_they_start_are_replaced(lab: Lab, tmp_path: Path) -> None:
    """The first two processes that start as workers are killed before they have answered."""
    killer = tmp_path / "killer"
    killer.mkdir()
    (killer / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "if '-c' in sys.orig_argv and any('eval(sys.stdin.readline())' in word for word in sys.orig_argv):\n"
        "    with open(os.environ['KILLED'], 'a+') as log:\n"
        "        log.seek(0)\n"
        "        if len(log.read()) < 2:\n"
        "            log.write('x')\n"
        "            log.flush()\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = tmp_path / "killed"
    path = os.pathsep.join([str(killer), lab.env()["PYTHONPATH"]])
    done = lab.run("--jobs", "2", PYTHONPATH=path, KILLED=str(killed))
    assert killed.read_text() == "xx", "no worker was struck"
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert len(lab.results()["verdicts"]) == 17


# -- flaky ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_failure_that_does_not_come_back_is_flaky_with_both_recordings(lab: Lab, jobs: str) -> None:
    done = lab.run("--stage", "write", "--confirm", "--jobs", jobs, TOY_FLAKY="1")
    assert done.returncode == 0, done.stdout + done.stderr
    (verdict,) = [v for v in lab.results()["verdicts"] if v["check"] == "write/pass"]
    assert verdict["outcome"] == "FLAKY"
    assert verdict["reason"] == "it failed in 1 of 2 recordings (1 FAIL, 1 PASS)"
    assert [one["outcome"] for one in verdict["occurrences"]] == ["FAIL", "PASS"]
    for one in verdict["occurrences"]:
        assert (lab.folder / "nvme-lab-results/latest" / one["evidence"] / "end.json").is_file()
    assert "FLAKY  write/pass" in done.stdout
    assert "qualifies" not in done.stdout
    assert lab.run("--stage", "write", "--confirm", "--strict", TOY_FLAKY="3").returncode == 1


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_warning_is_confirmed_where_it_fails_the_run(lab: Lab, jobs: str) -> None:
    selected = ("--stage", "write", "--confirm", "--jobs", jobs)
    assert lab.run(*selected, TOY_RECOMMENDS="1", TOY_FLAKY="1").returncode == 0
    (verdict,) = [v for v in lab.results()["verdicts"] if v["check"] == "write/pass"]
    assert (verdict["outcome"], verdict["occurrences"]) == ("WARN", [])
    assert lab.run(*selected, "--strict", TOY_RECOMMENDS="1", TOY_FLAKY="2").returncode == 1
    (verdict,) = [v for v in lab.results()["verdicts"] if v["check"] == "write/pass"]
    assert verdict["reason"] == "it failed in 1 of 2 recordings (1 WARN, 1 PASS)"
    assert verdict["outcome"] == "FLAKY"


def test_a_failure_that_comes_back_stays_a_failure(lab: Lab) -> None:
    done = lab.run("--stage", "write", "--confirm", TOY_FLAKY="9")
    assert done.returncode == 1
    (verdict,) = [v for v in lab.results()["verdicts"] if v["check"] == "write/pass"]
    assert verdict["outcome"] == "FAIL"
    assert [one["outcome"] for one in verdict["occurrences"]] == ["FAIL", "FAIL"]


@pytest.mark.parametrize(("ci", "recordings"), [("true", 2), ("", 1)])
def test_ci_confirms_new_failures_by_default(lab: Lab, ci: str, recordings: int) -> None:
    lab.run("--stage", "write", CI=ci, TOY_FLAKY="9")
    assert recorded(lab) == ["write/basic"] * recordings


def test_repetitions_count_how_often_each_check_failed(lab: Lab) -> None:
    done = lab.run("--repeat", "3", "--stage", "write", "--jobs", "1", TOY_FLAKY="1")
    assert "rate  write/pass  toy on qemu: failed 1 of 3 (1 FAIL, 2 PASS)" in done.stdout
    (verdict,) = [v for v in lab.results()["verdicts"] if v["check"] == "write/pass"]
    assert verdict["outcome"] == "FLAKY"
    assert Counter(one["outcome"] for one in verdict["occurrences"]) == {"FAIL": 1, "PASS": 2}


# -- damage -----------------------------------------------------------------------------------------------------------


def of_write(lab: Lab) -> tuple[str, str, str]:
    """Return outcome and reason of write/pass, and why its scenario was recorded again."""
    results = lab.results()
    (verdict,) = (verdict for verdict in results["verdicts"] if verdict["check"] == "write/pass")
    (run,) = (run for run in results["runs"] if run["scenario"] == "write/basic")
    return verdict["outcome"], verdict["reason"], run["again"]


def test_no_driver_is_blamed_for_a_failure_on_a_damaged_cache(lab: Lab) -> None:
    """A guest that neither panicked nor hung: only a check failed. The same failure with a sound cache is the driver's."""
    arguments = ("--jobs", "1", "--scenario", "write/basic")
    damage = f"the cache was damaged: {lab.cache}/trees/toy/rom has other content than was built"
    assert lab.run(*arguments, TOY_FLAKY="1", TOY_DAMAGED="1").returncode == 0
    assert of_write(lab) == ("PASS", "", damage)
    (lab.folder / "log").unlink()
    assert lab.run(*arguments, TOY_FLAKY="2", TOY_DAMAGED="2").returncode == 2
    outcome, reason, retried = of_write(lab)
    assert (outcome, retried) == ("ERROR", damage)
    assert reason.startswith(damage)
    (lab.folder / "log").unlink()
    assert lab.run(*arguments, TOY_FLAKY="1").returncode == 1
    assert of_write(lab) == ("FAIL", "", "")


@pytest.mark.parametrize(("times", "status", "outcome"), [("1", 0, "PASS"), ("2", 2, "ERROR")])
def test_what_a_driver_gives_up_on_a_stopped_machine_is_recorded_again(times: str, status: int, outcome: str, lab: Lab) -> None:
    """Nothing failed: the driver may refuse its device there. But what it would have done had to be seen."""
    assert lab.run("--jobs", "1", "--scenario", "write/basic", TOY_STOPPED=times).returncode == status
    stopped = "this machine was too slow: QEMU was stopped for 3.0 s (allowed: 1 s)"
    assert of_write(lab) == (outcome, stopped if outcome == "ERROR" else "", stopped)
    assert len(recorded(lab)) == 2
