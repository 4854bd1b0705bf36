"""Whatever dies while scenarios are recorded, no driver is blamed for it, no verdict is lost and nothing is left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from conformance.judging.files import read, schema
from conformance.judging.models import FILE, Results
from conformance.suite.check import Outcome
from lab.guest.folder import shared_root, sweep

HERE = Path(__file__).parent
MAIN = "import mayhem; from conformance.cli import main; main()"
CALM = "from conformance.cli import main; main()"
UNBLAMED = {Outcome.PASS, Outcome.INCONCLUSIVE}
"""What is sampled from the memory of a guest on QEMU's device may be seen in one run and overwritten in another."""
SAMPLE = ("detect/basic", "admin-queue/basic", "io-queues/basic", "read/basic", "write/basic")


@pytest.fixture
def runtime() -> Iterator[Path]:
    """Where the run folders of a campaign are; its name is short, for sockets are in there."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        yield Path(folder)


def run(folder: Path, runtime: Path, main: str, *arguments: str, seed: int = 0, mark: str = "") -> Results:
    """``nvme-lab run`` in a child; its results, which must be whole."""
    env = {
        **os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]), "XDG_RUNTIME_DIR": str(runtime),
        "CHAOS_MARK": mark, "MAYHEM_LOG": str(folder / "strikes"), "MAYHEM_SEED": str(seed),
    }  # fmt: skip
    out = folder / ("struck" if main == MAIN else "calm")
    command = [sys.executable, "-c", main, "run", "--jobs", "2", "--out", str(out), *arguments]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1, 2), done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    jsonschema.validate(json.loads((out / FILE).read_text()), schema())
    found = read(out)
    assert not found.unfinished
    for recorded in found.runs:
        assert (out / recorded.evidence / "identity.json").is_file()
        assert not recorded.retry_reason or f"recorded again  {'/'.join(recorded.key)}, after" in done.stdout
    return found


def marked(mark: str) -> list[int]:
    """Return the processes that have the mark in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"CHAOS_MARK={mark}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
        except OSError:  # it has ended
            continue
    return found


def campaign(folder: Path, runtime: Path, seed: int, *arguments: str) -> list[str]:
    """Run it undisturbed and struck, and compare. Return the strikes."""
    mark = uuid.uuid4().hex
    calm = run(folder, runtime, CALM, *arguments)
    struck = run(folder, runtime, MAIN, *arguments, seed=seed, mark=mark)
    assert not marked(mark), "processes outlived the campaign"
    assert not list(runtime.rglob("run-*")), "run folders outlived the campaign"
    assert not sweep(shared_root()), "run folders outlived the campaign"
    strikes = (folder / "strikes").read_text().splitlines()
    expected = {verdict.key: verdict for verdict in calm.verdicts}
    assert [verdict.key for verdict in struck.verdicts] == list(expected)
    again = {run.key for run in struck.runs if run.retry_reason}
    for verdict in struck.verdicts:
        if verdict.outcome is Outcome.ERROR:
            assert verdict.known is None
            assert any(strike.endswith(f" {'/'.join(verdict.key[:3])}") for strike in strikes), verdict
        else:
            calm_one = expected[verdict.key]
            same = (verdict.outcome, verdict.known) == (calm_one.outcome, calm_one.known)
            assert same or {verdict.outcome, calm_one.outcome} == UNBLAMED, verdict
    errors = {verdict.key[:3] for verdict in struck.verdicts if verdict.outcome is Outcome.ERROR}
    hit = {tuple(strike.partition(" ")[2].split("/", 2)) for strike in strikes if not strike.startswith("missed")}
    assert again | errors <= hit
    assert again, "no strike has hit anything"
    return strikes


@pytest.mark.usefixtures("toolchain")
def test_a_few_accidents(tmp_path: Path, runtime: Path) -> None:
    scenarios = [argument for id in SAMPLE for argument in ("--scenario", id)]
    strikes = campaign(tmp_path, runtime, 6, "--driver", "u-boot", *scenarios)
    assert {"qemu", "worker"} < {strike.partition(" ")[0] for strike in strikes}
    assert 6 <= len(strikes)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(2))
def test_accidents_over_two_hundred_scenarios(tmp_path: Path, runtime: Path, seed: int) -> None:
    strikes = campaign(tmp_path, runtime, seed, "--driver", "u-boot", "--driver", "linux")
    assert {strike.partition(" ")[0] for strike in strikes} >= {"qemu", "thread", "socket", "worker"}
    assert len(strikes) > 100
