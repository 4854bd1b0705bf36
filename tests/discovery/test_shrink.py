"""The smallest scenario that still fails: what is taken away, what stays, and what a reader of the file learns."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from conformance.commands import run_command
from conformance.discovery.oracles import Failure
from conformance.discovery.reductions import PASSES, fewer_controllers, possible, size, without_parts
from conformance.discovery.shrink import Goal, Shrinker, shrink
from conformance.discovery.trial import Bench, record, reference_bench
from conformance.run.plan import seed_defect
from conformance.run.scenario_files import load_scenario
from conformance.suite.scenario import LOAD, do
from lab.data.plan import Action, Controller, DeviceSpec, Fault, Namespace, Scenario
from lab.errors import LabError
from lab.nvme.commands import Abort, Read

BENCH = reference_bench()
IGNORED = Bench(seed_defect(BENCH.driver, "reset/abort:bit-ignored"), "lab", BENCH.toolchain)
"""A driver that takes a command for aborted that was not: only a lost command and a refused Abort together show it."""


def crowded() -> Scenario:
    """Return a scenario of thirty actions, three faults and two controllers, of which a few matter."""
    first = Namespace(blocks=32768, areas=((0, 2048),))
    controllers = (
        Controller(id="nv0", serial="FIRST", namespaces=(first, Namespace(nsid=2, blocks=4096)), mdts=3, cap={"MQES": 63}),
        Controller(id="nv1", serial="SECOND", namespaces=(Namespace(nsid=3, blocks=4096),)),
    )
    reads = [do("read", nsid=1, lba=8 * n, blocks=4) for n in range(28)]
    return Scenario(
        id="file/crowded",
        stage="file",
        title="much happens",
        seed=12345,
        device=DeviceSpec(controllers=controllers),
        actions=(LOAD, *reads, do("list")),
        faults=(
            Fault(name="slow", behaviour="delay", queue="io", opcode=Read.OPCODE, nth=2, arguments={"ms": 20}),
            Fault(name="lost", behaviour="drop", queue="io", opcode=Read.OPCODE, nth=17),
            Fault(name="refused", behaviour="status", queue="admin", opcode=Abort.OPCODE, arguments={"sc": 0, "dw0": 1}),
        ),
        guest={"command_seconds": 2, "cpus": 2},
        hostile=True,
    )


def test_parts_are_taken_from_halves_to_single_ones() -> None:
    assert list(without_parts("abcd")) == [
        (), ("a", "b"), ("c", "d"), ("a", "b", "c"), ("a", "b", "d"), ("a", "c", "d"), ("b", "c", "d"),
    ]  # fmt: skip
    assert list(without_parts(())) == []


def test_every_step_of_every_pass_that_counts_is_smaller_and_ends() -> None:
    whole = crowded()
    for smaller in PASSES:
        steps = [one for one in smaller(whole) if possible(one) and size(one) < size(whole)]
        assert steps, smaller.__name__
        assert whole not in steps
        assert all(one.hostile and one.guest.get("command_seconds") == 2 for one in steps)


def test_a_controller_goes_with_the_actions_that_name_it() -> None:
    whole = replace(crowded(), actions=(LOAD, do("noop", nsid=3), do("noop", nsid=1, controller="nv0")))
    (alone,) = (one for one in fewer_controllers(whole) if [c.id for c in one.device.controllers] == ["nv0"])
    assert [action.name for action in alone.actions] == ["load", "noop"]


def test_what_only_two_faults_show_keeps_both_and_nothing_else() -> None:
    whole = crowded()
    found = IGNORED_GOAL.failure(whole)
    assert found is not None
    sizes: list[float] = []
    began = time.monotonic()
    shrunk = shrink(whole, IGNORED_GOAL, jobs=1, minutes=1, on_smaller=lambda one, trials: sizes.append(size(one)))
    assert shrunk.complete, f"{time.monotonic() - began} s"
    least = shrunk.scenario
    assert sizes == sorted(sizes, reverse=True)
    assert [action.name for action in least.actions] == ["load", "read"]
    assert least.actions[1].arguments == {"nsid": 1, "lba": 0, "blocks": 1}
    assert [fault.name for fault in least.faults] == ["lost", "refused"]
    assert [fault.nth for fault in least.faults] == [1, None]
    assert [(len(c.namespaces), c.cap) for c in least.device.controllers] == [(1, {})]
    assert IGNORED_GOAL.met(least)


IGNORED_GOAL = Goal(IGNORED, Failure(
    "read/owned-memory", "FAIL", "memory that stays open until the completion",
    "0x800006000 is closed, and CID 1 of SQ 1 is in flight",
).kind)  # fmt: skip


def test_what_fails_every_driver_is_no_smaller_failure() -> None:
    """A corrupted block fails read/exact on any driver: the control refuses such a scenario."""
    wrong = replace(crowded(), faults=(Fault(name="wrong", behaviour="corrupt", queue="io", opcode=Read.OPCODE, nth=1),))
    failure = Goal(BENCH, Failure("read/exact", "FAIL").kind)
    kind = next(one.kind for one in _failures(wrong) if one.check == "read/exact")
    assert Goal(IGNORED, kind, control=False).met(wrong)
    assert not Goal(IGNORED, kind).met(wrong)
    assert not failure.met(crowded())


def _failures(scenario: Scenario) -> Sequence[Failure]:
    from conformance.discovery.trial import attempt

    return attempt(BENCH, scenario).failures


def test_a_failure_that_does_not_come_back_is_said() -> None:
    with pytest.raises(LabError, match="does not fail read/exact in the same way when it is recorded again"):
        shrink(crowded(), Goal(BENCH, Failure("read/exact", "FAIL").kind), jobs=1, minutes=1, on_smaller=lambda *_: None)


def test_time_that_is_over_leaves_what_was_found() -> None:
    shrinker = Shrinker(lambda scenarios: [True for _ in scenarios], 1, on_smaller=lambda *_: None, until=0.0)
    shrunk = shrinker.shrink(crowded())
    assert (shrunk.scenario, shrunk.complete) == (crowded(), False)


def test_the_command_writes_a_file_that_fails_as_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evidence, file = tmp_path / "evidence", tmp_path / "least.toml"
    record(IGNORED, crowded(), evidence)
    assert run_command(["shrink", str(evidence), "-o", str(file), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["check"], said["complete"]) == ("read/owned-memory", True)
    assert said["commands"] == [
        "nvme-lab run --driver reference --device lab --defect reset/abort:bit-ignored "
        f"--scenario {file} --check read/owned-memory"
    ]
    least = load_scenario(file)
    assert least.actions == (Action("load"), Action("read", {"nsid": 1, "lba": 0, "blocks": 1}))
    text = file.read_text()
    assert text.startswith("# reference fails read/owned-memory\n#   rule      Lets the device reach only memory")
    assert "# lost: At Read number 1: The command is never executed" in text
    assert "# The reference driver of NVMe Lab does not fail it." in text
    assert IGNORED_GOAL.met(least)


def test_wrong_usage_of_the_command_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evidence = tmp_path / "evidence"
    record(BENCH, crowded(), evidence)
    for arguments, message in (
        ((str(evidence),), "Nothing mandatory fails in"),
        ((str(evidence), "--check", "read/exact"), "read/exact does not fail in"),
        ((str(evidence), "--check", "read/exac"), "there is no check 'read/exac'; did you mean 'read/exact'"),
        ((str(tmp_path / "none"),), "There is no evidence in"),
    ):
        assert run_command(["shrink", *arguments]) == 4
        assert message in capsys.readouterr().err
