"""``nvme-lab run`` in a child process, with the toy suite: exit status, output, interruption."""

from __future__ import annotations

import json
import signal

import pytest
from junitparser import JUnitXml

from conformance.commands import run_command, running
from lab.errors import LabError, UsageError
from tests.toy.toy_lab import Lab

SOON = 30
"""Seconds: half of what the toy waits for an interruption, so that its own end is no answer to one."""


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_run_shows_and_writes_what_it_found(lab: Lab, jobs: str) -> None:
    done = lab.run("--jobs", jobs)
    assert done.returncode == 1, done.stdout + done.stderr
    assert not done.stderr
    assert "\x1b" not in done.stdout
    assert "FAIL  read/fail  toy on qemu, read/basic" in done.stdout
    assert "evidence    nvme-lab-results/" in done.stdout
    assert "known  read/known  toy: it was always so" in done.stdout
    assert "stale  read/better no longer fails for toy on qemu" in done.stdout
    assert "toy does not qualify" in done.stdout
    assert "Results: nvme-lab-results/" in done.stdout
    assert len([line for line in lab.log if line.startswith("record")]) == len(set(lab.log)) - 1 == 5
    results = lab.results()
    assert len(results["verdicts"]) == 17
    for run in results["runs"]:
        assert (lab.folder / "nvme-lab-results/latest" / run["evidence"] / "end.json").is_file()
    document = JUnitXml.fromfile(str(lab.folder / "nvme-lab-results/latest/junit.xml"))
    assert (document.tests, document.failures, document.errors, document.skipped) == (17, 1, 0, 3)
    assert "read/fail" in (lab.folder / "nvme-lab-results/latest/summary.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "env", "status"),
    [
        (("--stage", "write"), {}, 0),
        (("--check", "read/known"), {}, 0),
        (("--check", "read/warn"), {}, 0),
        (("--check", "read/warn", "--strict"), {}, 1),
        (("--check", "read/unclear"), {}, 3),
        (("--check", "read/unclear", "--strict"), {}, 1),
        (("--check", "read/unclear", "--bisect"), {}, 125),
        (("--check", "read/unsupported"), {}, 3),
        (("--scenario", "read/broken"), {"TOY_BROKEN": "9"}, 2),
        (("--scenario", "read/broken", "--bisect"), {"TOY_BROKEN": "9"}, 125),
        ((), {"TOY_BROKEN": "9"}, 2),
        (("--stage", "raed"), {}, 4),
        (("--jobs", "none"), {}, 4),
        (("--nonsense",), {}, 4),
        (("--device", "lav"), {}, 4),
    ],
)
def test_exit_status_of_run(lab: Lab, arguments: tuple[str, ...], env: dict[str, str], status: int) -> None:
    done = lab.run("--jobs", "1", *arguments, **env)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("error", "arguments", "status"),
    [(LabError, (), 2), (LabError, ("--bisect",), 125), (UsageError, ("--bisect",), 4)],
)
def test_a_bisection_skips_where_the_lab_cannot_start(
    error: type[LabError],
    arguments: tuple[str, ...],
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise error("there is no QEMU")

    monkeypatch.setattr(running, "prepare_campaign", fail)
    monkeypatch.setattr(running, "plan", lambda request: None)
    assert run_command(["run", *arguments]) == status
    assert capsys.readouterr().err.startswith("nvme-lab: there is no QEMU")


def test_a_stage_that_the_driver_does_not_claim_is_not_recorded_and_not_passed(lab: Lab) -> None:
    manifest = lab.folder / "toy.toml"
    manifest.write_text(manifest.read_text().replace('stages = ["read", "write"]', 'stages = ["read"]'))
    done = lab.run("--stage", "write")
    assert done.returncode == 3
    assert "Nothing was judged in stage write (toy)" in done.stdout
    assert "the manifest does not claim stage write" in done.stdout
    assert lab.log == ["prepare"]


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_in_order_and_keeps_what_was_judged(lab: Lab, jobs: str, number: signal.Signals) -> None:
    process = lab.start("run", "--driver", "toy.toml", "--device", "qemu", "--stage", "read", "--jobs", jobs, TOY_SLOW="1")
    lab.wait_for("slow", process)
    process.send_signal(number)
    out, err = process.communicate(timeout=SOON)
    assert process.returncode == 128 + number, out + err
    assert "ended in order" in lab.log
    assert "Traceback" not in out + err
    assert "This result is partial" in out
    results = lab.results()
    assert "interrupted" in results["unfinished"]
    assert 0 < len(results["verdicts"]) < 15


def test_errors_are_a_sentence_and_with_debug_a_traceback(lab: Lab) -> None:
    done = lab.run("--driver", "u-boat")
    assert done.returncode == 4
    assert done.stderr.startswith("nvme-lab: there is no driver 'u-boat'; did you mean 'u-boot'?")
    assert "Traceback" not in done.stderr
    assert "Traceback" in lab.run("--driver", "u-boat", NVME_LAB_DEBUG="1").stderr


def test_a_named_folder_is_used_and_never_overwritten(lab: Lab) -> None:
    assert lab.run("--stage", "write", "--out", "mine").returncode == 0
    assert len(lab.results("mine")["verdicts"]) == 2
    assert not (lab.folder / "nvme-lab-results").exists()
    done = lab.run("--stage", "write", "--out", "mine")
    assert done.returncode == 4
    assert "holds results already" in done.stderr


def test_the_users_own_pytest_configuration_is_not_in_the_way(lab: Lab) -> None:
    (lab.folder / "pytest.ini").write_text("[pytest]\naddopts = --nonsense\n")
    (lab.folder / "conftest.py").write_text("raise RuntimeError\n")
    assert lab.run("--stage", "write", PYTEST_ADDOPTS="--nonsense").returncode == 0


def test_recorded_evidence_is_judged_again(lab: Lab) -> None:
    lab.run("--jobs", "1")
    process = lab.start("judge", "nvme-lab-results/latest", "--json")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    again = json.loads(out)
    assert sorted((v["scenario"], v["check"], v["outcome"]) for v in again["verdicts"]) == sorted(
        (v["scenario"], v["check"], v["outcome"]) for v in lab.results()["verdicts"]
    )
    (lab.folder / "nvme-lab-results/latest/evidence/toy/qemu/write/basic/end.json").unlink()
    process = lab.start("judge", "nvme-lab-results/latest")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "there is no end marker" in out


def test_workers_end_in_order_when_the_lab_is_killed(lab: Lab) -> None:
    process = lab.start("run", "--driver", "toy.toml", "--device", "qemu", "--stage", "read", "--jobs", "2", TOY_SLOW="1")
    lab.wait_for("slow", process)
    process.kill()
    process.wait()
    lab.wait_for("ended in order", seconds=SOON)
