"""The pytest plugin in a child pytest, with the toy suite: outcomes, one recording a scenario, selection, invisibility."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

TOY = Path(__file__).parents[1] / "toy"
FULL = {"passed": 12, "failed": 1, "xfailed": 1, "skipped": 2, "warned": 1}
"""What pytest counts of the whole toy suite."""


class Child:
    """A folder in which a pytest of its own runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "toy.toml").write_text((TOY / "toy.toml").read_text())

    def pytest(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TOY), *sys.path]), "TOY_LOG": str(self.folder / "log")}
        return subprocess.run(
            command, cwd=self.folder, env={**environment, **env}, capture_output=True, text=True, timeout=120, check=False
        )

    def suite(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        ours = (
            "-p",
            "toy",
            "--pyargs",
            "conformance",
            "--nvme-driver",
            "toy.toml",
            "--nvme-device",
            "qemu",
            "--nvme-out",
            "out",
        )
        return self.pytest(*ours, *arguments, **env)

    @property
    def log(self) -> list[str]:
        file = self.folder / "log"
        return file.read_text().splitlines() if file.exists() else []

    @property
    def results(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / "out" / "results.json").read_text())
        return content


@pytest.fixture
def child(tmp_path: Path) -> Child:
    return Child(tmp_path)


def counts(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """Return the numbers of pytest's last line."""
    last = done.stdout.rstrip().splitlines()[-1]
    return {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|xfailed|skipped|warned|errors?)", last)}


def outcomes(results: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(v["scenario"], v["check"], v["outcome"]) for v in results["verdicts"]]


def test_every_verdict_is_an_item_of_the_right_outcome(child: Child) -> None:
    done = child.suite("-v")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert counts(done) == FULL, done.stdout
    for line in (
        "conformance::toy/qemu/read/basic::read/fail FAILED",
        "conformance::toy/qemu/read/basic::read/known XFAIL (it was always so)",
        "conformance::toy/qemu/read/basic::read/warn WARN",
        "conformance::toy/qemu/read/basic::read/unclear SKIPPED (INCONCLUSIVE",
        "conformance::toy/qemu/read/basic::read/unsupported SKIPPED (",
    ):
        assert line in done.stdout
    assert re.search(r"expected this\n.*actual +that\n.*evidence .*evidence/toy/qemu/read/basic/events.jsonl:1\n", done.stdout)


@pytest.mark.parametrize("distribution", [(), ("-n", "2"), ("-n", "2", "--dist", "load")])
def test_each_scenario_is_recorded_once_and_verdicts_do_not_depend_on_workers(
    child: Child, distribution: tuple[str, ...]
) -> None:
    done = child.suite(*distribution)
    assert counts(done) == FULL, done.stdout + done.stderr
    recorded = Counter(child.log)
    assert recorded.pop("prepare") == 1
    assert recorded == {f"record {s}": 1 for s in ("read/basic", "read/more", "read/broken", "read/slow", "write/basic")}
    results = child.results
    assert not results["unfinished"]
    assert [run["scenario"] for run in results["runs"]] == list(dict.fromkeys(v["scenario"] for v in results["verdicts"]))
    assert Counter(outcome for _, _, outcome in outcomes(results)) == {
        "PASS": 12, "FAIL": 2, "WARN": 1, "INCONCLUSIVE": 1, "UNSUPPORTED": 1,
    }  # fmt: skip


def test_the_same_results_with_and_without_workers(tmp_path: Path) -> None:
    found = []
    for name, arguments in (("alone", ()), ("two", ("-n", "2"))):
        (tmp_path / name).mkdir()
        child = Child(tmp_path / name)
        child.suite(*arguments)
        found.append(outcomes(child.results))
    assert found[0] == found[1]


def test_strict_fails_what_was_not_met_or_not_seen(child: Child) -> None:
    done = child.suite("--nvme-strict")
    assert counts(done) == {"passed": 12, "failed": 3, "xfailed": 1, "skipped": 1}, done.stdout


def test_a_stage_alone_and_a_check_alone(child: Child) -> None:
    done = child.suite("--nvme-stage", "write")
    assert counts(done) == {"passed": 2}
    assert outcomes(child.results) == [("write/basic", "write/pass", "PASS"), ("write/basic", "every/alive", "PASS")]
    done = child.suite("--nvme-check", "read/fail", "--nvme-out", "alone")
    assert counts(done) == {"failed": 1}
    assert [line for line in child.log if line != "prepare"] == ["record write/basic", "record read/basic"]


def test_the_labs_failure_is_an_error_and_never_the_drivers(child: Child) -> None:
    done = child.suite("--nvme-scenario", "read/broken", "--nvme-scenario", "read/more", TOY_BROKEN="9")
    assert counts(done) == {"passed": 3, "errors": 2}, done.stdout
    assert "the toy broke" in done.stdout
    assert [o for s, _, o in outcomes(child.results) if s == "read/broken"] == ["ERROR", "ERROR"]


def test_a_worker_that_dies_leaves_a_result_that_says_so(child: Child) -> None:
    done = child.suite("-n", "2", "--max-worker-restart", "0", TOY_KILL="1")
    assert done.returncode != 0
    results = child.results
    assert "verdicts are missing" in results["unfinished"]
    assert "read/slow" not in {v["scenario"] for v in results["verdicts"]}


def test_seeds_draw_other_devices(child: Child) -> None:
    serials = set()
    for seed in ("1", "2", "1"):
        out = f"out{seed}-{len(child.log)}"
        child.suite("--nvme-seed", seed, "--nvme-check", "write/pass", "--nvme-out", out)
        identity = json.loads((child.folder / out / "evidence/toy/qemu/write/basic/identity.json").read_text())
        serials.add((seed, identity["scenario"]["device"]["controllers"][0]["serial"]))
    assert len(serials) == len({serial for _, serial in serials}) == 2


@pytest.mark.parametrize(
    ("option", "name", "says"),
    [
        ("--nvme-stage", "raed", "did you mean 'read'"),
        ("--nvme-check", "read/pas", "did you mean 'read/pass'"),
        ("--nvme-scenario", "read/basik", "did you mean 'read/basic'"),
        ("--nvme-device", "qemo", "did you mean 'qemu'"),
        ("--nvme-driver", "u-boat", "did you mean 'u-boot'"),
    ],
)
def test_unknown_names_are_wrong_usage_with_the_nearest(child: Child, option: str, name: str, says: str) -> None:
    done = child.suite(option, name)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not child.log


def test_a_known_failure_of_no_check_is_wrong_usage(child: Child) -> None:
    manifest = child.folder / "toy.toml"
    manifest.write_text(manifest.read_text().replace("read/known", "read/knwon"))
    done = child.suite()
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "did you mean 'read/known'" in done.stderr


def test_results_are_never_overwritten(child: Child) -> None:
    child.suite("--nvme-check", "write/pass")
    done = child.suite("--nvme-check", "write/pass")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "holds results already" in done.stderr


def test_what_is_only_collected_is_not_prepared(child: Child) -> None:
    done = child.suite("--collect-only", "-q", "--nvme-stage", "write")
    assert "conformance::toy/qemu/write/basic::write/pass" in done.stdout
    assert not child.log
    assert not (child.folder / "out").exists()


INVISIBLE = """
import sys

def test_mine():
    ours = {name for name in sys.modules if name.split(".")[0] in ("lab", "conformance", "images")}
    assert ours == {"conformance", "conformance.plugin", "conformance.run", "conformance.run.handshake"}, ours
"""


def test_installed_but_not_asked_it_is_invisible(child: Child) -> None:
    (child.folder / "test_mine.py").write_text(INVISIBLE)
    done = child.pytest()
    assert counts(done) == {"passed": 1}, done.stdout
    assert "NVMe" not in done.stdout
    done = child.pytest("--pyargs", "conformance")
    assert done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED, done.stdout


def test_it_lives_beside_other_tests(child: Child) -> None:
    (child.folder / "test_mine.py").write_text("def test_mine():\n    pass\n")
    done = child.suite("test_mine.py", "--nvme-stage", "write", "-n", "2")
    assert counts(done) == {"passed": 3}, done.stdout
    assert len(child.results["verdicts"]) == 2


def test_both_devices_are_put_in_front_of_a_driver_unless_one_is_named(child: Child) -> None:
    done = child.pytest(
        "-p", "toy", "--pyargs", "conformance", "--nvme-driver", "toy.toml", "--nvme-stage", "write", "--nvme-out", "out"
    )
    assert counts(done) == {"passed": 4}, done.stdout
    assert {v["device"] for v in child.results["verdicts"]} == {"qemu", "lab"}
    assert child.log.count("record write/basic") == 2


def test_an_id_that_pytest_prints_can_be_pasted_back(child: Child) -> None:
    done = child.pytest(
        "-p", "toy", "conformance::toy/qemu/read/basic::read/fail", "--nvme-driver", "toy.toml", "--nvme-out", "out",
        COLUMNS="200",
    )  # fmt: skip
    assert counts(done) == {"failed": 1}, done.stdout + done.stderr
    assert "FAILED conformance::toy/qemu/read/basic::read/fail - expected this, actual that" in done.stdout
    assert [line for line in child.log if line != "prepare"] == ["record read/basic"]


def test_the_reason_of_a_failure_stands_in_the_short_summary_of_workers_too(child: Child) -> None:
    done = child.suite("-n", "2", "--nvme-check", "read/fail", "--nvme-check", "read/pass", COLUMNS="200")
    assert "FAILED conformance::toy/qemu/read/basic::read/fail - expected this, actual that" in done.stdout


def test_markers_select_by_level_stage_and_device(child: Child) -> None:
    found = child.suite("--collect-only", "-q", "--strict-markers", "-m", "read and recommended").stdout
    ids = [line for line in found.splitlines() if "::" in line]
    assert ids
    assert all(id.endswith("::read/warn") for id in ids)
    assert counts(child.suite("--strict-markers", "-m", "write and qemu and mandatory"))["passed"] == 1


def test_a_stage_collects_its_own_checks_and_one_item_for_the_rules_of_others(tmp_path: Path) -> None:
    child = Child(tmp_path)
    command = ("--pyargs", "conformance", "--nvme-driver", "reference", "--nvme-device", "lab", "--nvme-stage", "detect")
    ids = [line for line in child.pytest("--collect-only", "-q", *command).stdout.splitlines() if "::" in line]
    assert len(ids) < 350
    assert {id.rpartition("::")[2].partition("/")[0] for id in ids} == {"detect", "every", "other-stages"}
    one = "conformance::reference/lab/detect/basic::other-stages"
    done = child.pytest(one, "--nvme-stage", "detect", "--nvme-out", "out")
    assert counts(done) == {"passed": 1}, done.stdout + done.stderr
    assert len(child.results["verdicts"]) > 50
    assert not child.results["unfinished"]


def test_reruns_are_refused_with_a_remedy(child: Child) -> None:
    (child.folder / "conftest.py").write_text("def pytest_addoption(parser):\n    parser.addoption('--reruns', type=int)\n")
    done = child.suite("--reruns", "2", "--nvme-check", "read/fail", "--rootdir", ".", "-c", "/dev/null", "--confcutdir", ".")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout + done.stderr
    assert "would judge the same recording again" in done.stderr
    assert "--nvme-confirm records anew what failed" in done.stderr


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_a_failure_that_does_not_come_back_in_a_fresh_recording_is_flaky(child: Child, workers: tuple[str, ...]) -> None:
    selected = ("--nvme-scenario", "write/basic", "--nvme-confirm")
    done = child.suite(*selected, *workers, TOY_FLAKY="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert child.log.count("record write/basic") == 2
    verdict = next(v for v in child.results["verdicts"] if v["check"] == "write/pass")
    assert (verdict["outcome"], verdict["reason"]) == ("FLAKY", "it failed in 1 of 2 recordings (1 FAIL, 1 PASS)")
    assert [one["outcome"] for one in verdict["occurrences"]] == ["FAIL", "PASS"]
    assert all((child.folder / "out" / one["evidence"]).is_dir() for one in verdict["occurrences"])
    assert "1 flaky" in done.stdout


def test_a_failure_that_comes_back_stays_one_and_a_flaky_one_fails_strictly(child: Child) -> None:
    selected = ("--nvme-scenario", "write/basic", "--nvme-confirm")
    assert counts(child.suite(*selected, TOY_FLAKY="9"))["failed"] == 1
    (child.folder / "log").unlink()
    strictly = child.suite(*selected, "--nvme-strict", "--nvme-out", "strictly", TOY_FLAKY="1")
    assert counts(strictly)["failed"] == 1, strictly.stdout
