"""The profile can fail: each check catches a mistake of an SDK by its own finding, and leaves legal oddities alone.

The SDK is a program in the guest, named by a manifest, as a user brings one. All of it is on the programmable controller.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from conformance.judging.judge import Verdict, judge
from conformance.suite.check import CHECKS, Outcome
from conformance.suite.selection import SCENARIOS, select
from lab.data.evidence import Evidence
from lab.data.manifest import DriverManifest, parse
from lab.drivers.bundle import zipapp
from lab.drivers.registry import adapters
from lab.recording.record import record
from lab.toolchain import Toolchain
from tests.passthrough import wrong_sdk

pytestmark = pytest.mark.slow

OTHER_SEED = 11
"""Not that of a run: what is caught must not hang on one draw."""
CAUGHT_IN = {
    "passthrough/command:last-dwords-lost": "passthrough/commands",
    "passthrough/answer:nothing-returned": "passthrough/lengths",
    "passthrough/zeros-based:one-more": "passthrough/threads",
    "passthrough/once:sent-twice": "passthrough/namespaces",
    "passthrough/completion:status-code-only": "passthrough/status",
    "passthrough/completion:no-dword-0": "passthrough/status",
    "passthrough/completion:dword-1-lost": "passthrough/status",
    "passthrough/data:last-byte": "passthrough/namespaces",
    "passthrough/data:one-buffer-for-all": "passthrough/threads",
    "passthrough/metadata:left-out": "passthrough/metadata",
    "passthrough/namespace:always-the-first": "passthrough/namespaces",
    "passthrough/length:unchecked": "passthrough/lengths",
    "passthrough/privilege:reports-success": "passthrough/unprivileged",
    "passthrough/timeout:reports-success": "passthrough/timeout",
    "passthrough/closed:number-kept": "passthrough/closed",
    "passthrough/mounted:not-looked": "passthrough/mounted",
    "passthrough/consent:never-asked": "passthrough/destructive",
    "passthrough/reason:just-no": "passthrough/destructive",
    "passthrough/availability:always": "passthrough/unprivileged",
    "passthrough/signal:sent-again": "passthrough/signals",
}
LEGAL_IN = {
    "one-block-a-command": "passthrough/namespaces",
    "narrow-interfaces": "passthrough/status",
    "character-devices": "passthrough/closed",
    "identifies-first": "passthrough/commands",
    "one-by-one": "passthrough/threads",
    "unaligned-buffers": "passthrough/metadata",
    "ignores-signals": "passthrough/signals",
    "refuses-more": "passthrough/destructive",
}
LEGAL_FOR_THE_REST = {
    "passthrough/lengths": "identifies-first",
    "passthrough/unprivileged": "character-devices",
    "passthrough/mounted": "narrow-interfaces",
    "passthrough/timeout": "narrow-interfaces",
}

Judged = Callable[[str, str], dict[str, Verdict]]


@pytest.fixture
def judged(tmp_path: Path, toolchain: Toolchain) -> Judged:
    """Record a scenario with the wrong SDK as a user's program, and judge it by all checks of the scenario."""
    file = tmp_path / "sdk.pyz"
    file.write_bytes(zipapp(("lab/nvme", "lab/passthrough"), Path(wrong_sdk.__file__).read_text()))

    def judged(changed: str, scenario: str) -> dict[str, Verdict]:
        evidence = record(manifest(tmp_path, changed), SCENARIOS[scenario].resolve(OTHER_SEED), "lab", tmp_path / "evidence",
                          toolchain=toolchain)  # fmt: skip
        return {verdict.check.id: verdict for verdict in judge(Evidence(evidence), select().checks_of(scenario))}

    return judged


def manifest(folder: Path, changed: str) -> DriverManifest:
    """Return Linux with the SDK of a user."""
    data = {
        "name": "own-sdk", "adapter": "linux", "needs": ["linux-guest"], "profiles": ["passthrough"],
        "push": {"modules": ["nvme-core", "nvme"]}, "passthrough": {"program": "sdk.pyz", "arguments": [changed]},
        "limits": {"shortest_timeout": 1000.0},  # no time-out decides here, so a slow machine changes no verdict
    }  # fmt: skip
    return parse(data, folder / "own-sdk.toml", adapters())


@pytest.mark.parametrize("mistake", CAUGHT_IN)
def test_a_mistake_is_caught_by_its_own_check(mistake: str, judged: Judged) -> None:
    verdicts = judged(mistake, CAUGHT_IN[mistake])
    own = verdicts[mistake.partition(":")[0]]
    assert own.outcome is (Outcome.FAIL if own.check.level == "M" else Outcome.WARN), own
    assert any(not finding.ok for finding in own.findings)
    assert not [verdict for verdict in verdicts.values() if verdict.outcome is Outcome.ERROR]


@pytest.mark.parametrize(
    ("oddity", "scenario"), [*LEGAL_IN.items(), *((oddity, scenario) for scenario, oddity in LEGAL_FOR_THE_REST.items())]
)
def test_a_legal_oddity_is_left_alone(oddity: str, scenario: str, judged: Judged) -> None:
    verdicts = judged(oddity, scenario)
    assert not {
        id: verdict for id, verdict in verdicts.items() if verdict.outcome in (Outcome.FAIL, Outcome.WARN, Outcome.ERROR)
    }
    assert any(verdict.outcome is Outcome.PASS and id.startswith("passthrough/") for id, verdict in verdicts.items())


def test_every_check_has_a_mistake_and_a_neighbour() -> None:
    ours = {id: check for id, check in CHECKS.items() if check.stage == "passthrough"}
    assert {mistake.partition(":")[0] for mistake in CAUGHT_IN} == set(ours)
    assert set(wrong_sdk.MISTAKES) == set(CAUGHT_IN)
    assert set(wrong_sdk.ODDITIES) == set(LEGAL_IN)
    legal = {*LEGAL_IN.values(), *LEGAL_FOR_THE_REST}
    assert [id for id, check in ours.items() if not legal & set(check.scenarios)] == []
