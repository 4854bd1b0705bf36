"""Whatever dies while scenarios are recorded, no driver is blamed for it, no verdict is lost and nothing is left behind."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.suite.check import Outcome
from tests.chaos.campaign import CALM, MAIN, UNBLAMED, hits, leaks, run

SAMPLE = ("detect/basic", "admin-queue/basic", "io-queues/basic", "read/basic", "write/basic")


@pytest.fixture
def runtime() -> Iterator[Path]:
    """Where the run folders of a campaign are; its name is short, for sockets are in there."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        yield Path(folder)


def campaign(folder: Path, runtime: Path, seed: int, *arguments: str) -> list[str]:
    """Run it undisturbed and struck, and compare. Return the strikes."""
    mark = uuid.uuid4().hex
    calm = run(folder, runtime, CALM, *arguments)
    struck = run(folder, runtime, MAIN, *arguments, seed=seed, mark=mark)
    assert not leaks(runtime, mark)
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


def test_strikes_that_missed_do_not_count() -> None:
    lines = [
        "qemu a/qemu/read/x",
        "missed a/qemu/read/x: no QEMU",
        "bit a/qemu/read/y",
        "flipped debs/one.deb 7 255",
        "stop a/b/c",
    ]
    assert hits(lines) == {"bit": 1, "stop": 1}
