"""The hobby kernel before the suite: right, it passes, stage after stage; wrong, the named check fails."""

from __future__ import annotations

import tomllib

import pytest

from conformance.judging.judge import Verdict, judge
from conformance.suite.check import Outcome
from conformance.suite.selection import SCENARIOS, select
from lab.data.manifest import STAGES, DriverManifest
from lab.data.plan import DeviceKind
from tests.hobby.conftest import MANIFEST, Build, Recorded, manifest

SEED = 3
ACTIONS_OF_STEP = (("load", "info"), ("ready",), ("identify", "list", "rescan"), ("queues", "noop"), ("read",))
"""What each step adds to what can be asked."""


def judged(
    build: Build, recorded: Recorded, scenario: str, device: DeviceKind, steps: int = 5, flags: str = ""
) -> dict[str, Verdict]:
    """Return what every check says of the kernel of so many steps, asked what it can be asked by then."""
    actions = tomllib.loads(MANIFEST.read_text())["actions"]
    known = [name for step in ACTIONS_OF_STEP[:steps] for name in step]
    driver = manifest(
        {"kernel": str(build(steps, flags) / "kernel.elf")},
        actions={name: actions[name] for name in known},
        stages=STAGES[:steps],
        stops=STAGES[: min(steps, 4)],
    )
    return verdicts(recorded, driver, scenario, device)


def verdicts(recorded: Recorded, driver: DriverManifest, scenario: str, device: DeviceKind) -> dict[str, Verdict]:
    checks = select((), (), (scenario,)).checks_of(scenario)
    return {verdict.check.id: verdict for verdict in judge(recorded(driver, SCENARIOS[scenario].resolve(SEED), device), checks)}


def failed(verdicts: dict[str, Verdict]) -> set[str]:
    """Return the checks that found something wrong, or that could not be judged for the lab's own fault."""
    return {check for check, verdict in verdicts.items() if verdict.outcome in (Outcome.FAIL, Outcome.WARN, Outcome.ERROR)}


def passed(verdicts: dict[str, Verdict]) -> set[str]:
    return {check for check, verdict in verdicts.items() if verdict.outcome is Outcome.PASS}


def test_the_manifest_asks_for_all_that_the_steps_add() -> None:
    asked = tomllib.loads(MANIFEST.read_text())["actions"]
    assert [name for step in ACTIONS_OF_STEP for name in step] == list(asked)


@pytest.mark.parametrize(
    ("scenario", "device", "must"),
    [
        ("detect/basic", "lab", {"detect/cap", "detect/version", "detect/read-only-stage"}),
        ("identify/basic", "qemu", {"identify/strings", "identify/lba-format", "admin-queue/bus-master", "admin-queue/aqa"}),
        ("io-queues/small", "lab", {"io-queues/wrap", "io-queues/live-cq", "admin-queue/phase", "read/mdts-split"}),
        ("read/sizes", "qemu", {"read/exact", "read/prp2", "read/prp1-offset"}),
        ("read/sizes", "lab", {"read/exact", "read/prp2", "read/prp-list", "read/prp1-offset"}),
    ],
)
def test_it_passes(build: Build, recorded: Recorded, scenario: str, device: DeviceKind, must: set[str]) -> None:
    found = judged(build, recorded, scenario, device)
    assert not failed(found)
    assert must <= passed(found)


@pytest.mark.parametrize(
    ("steps", "scenario", "must"),
    [
        (1, "detect/stride", "detect/cap"),
        (2, "admin-queue/basic", "admin-queue/aligned"),
        (3, "identify/inactive", "identify/inactive"),
    ],
)
def test_a_step_is_judged_before_the_next_exists(
    build: Build, recorded: Recorded, steps: int, scenario: str, must: str
) -> None:
    found = judged(build, recorded, scenario, "lab", steps)
    assert not failed(found)
    assert must in passed(found)


@pytest.mark.parametrize(
    ("defect", "scenario", "check"),
    [
        ("-DDEFECT_READY", "admin-queue/basic", "admin-queue/quiet-until-ready"),
        ("-DDEFECT_PRP2", "read/basic", "read/prp2"),
    ],
)
def test_a_mistake_is_found(build: Build, recorded: Recorded, defect: str, scenario: str, check: str) -> None:
    assert check in failed(judged(build, recorded, scenario, "lab", flags=defect))


def test_a_controller_above_4_gib(build: Build, recorded: Recorded) -> None:
    """Firmware places 64-bit BARs there once something does not fit below."""
    huge = ["-object", "memory-backend-ram,id=huge,size=4G,share=on", "-device", "ivshmem-plain,memdev=huge"]
    driver = manifest({"kernel": str(build() / "kernel.elf"), "options": huge})
    found = verdicts(recorded, driver, "detect/bar64", "lab")
    assert not failed(found)
    assert "detect/bar64" in passed(found)
