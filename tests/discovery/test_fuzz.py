"""Fuzzing: what is drawn, what is kept, that a seed draws the same again, and what only a mutation can find."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.commands import run_command
from conformance.discovery.behaviours import FUZZED, USES, Effect
from conformance.discovery.cases import prepared, singles
from conformance.discovery.fuzz import FINDINGS, INPUTS, STATE, Fuzzing, FuzzState, open_state
from conformance.discovery.mutations import MOST_ACTIONS, MOST_FAULTS, MUTATIONS, effects, mutate, sparse
from conformance.discovery.novelty import block_features, driver_lines, wire_features
from conformance.discovery.oracles import SAFETY, judging
from conformance.discovery.places import Place, places
from conformance.discovery.trial import Bench, attempt, reference_bench
from conformance.run.plan import seed_defect
from conformance.run.scenario_files import load_scenario
from conformance.suite.selection import find_scenario
from lab.controller.faults import check_fault
from lab.data.coverage import FunctionCoverage, ObjectCoverage, RecordingCoverage
from lab.data.plan import Fault, Scenario
from lab.defects.defect import DEFECTS, defect
from lab.errors import UsageError
from lab.nvme.commands import Identify
from lab.nvme.identify import Cns
from lab.reference.identification import Identification

BENCH = reference_bench()
READS_TOO_FAR = "any:reads-too-far"
SQES, SUPPORTED = 512, 0x66
"""A byte of Identify Controller, and what it is on a device of the lab."""


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return sparse(prepared(find_scenario("read/basic", 0), ["unload", "load", "read"]))


@pytest.fixture(scope="module")
def found(scenario: Scenario) -> list[Place]:
    return places(attempt(BENCH, scenario, checks=[], events=True).events, "nv0")


def test_every_mutation_changes_something_that_the_device_can_be(scenario: Scenario, found: list[Place]) -> None:
    draw, current, changed = random.Random(1), scenario, set[str]()
    for _ in range(400):
        for mutation in MUTATIONS:
            if (other := mutation(draw, current, found)) is not None and other != current:
                changed.add(mutation.__name__)
        current = mutate(draw, current, found)
        assert len(current.faults) <= MOST_FAULTS
        assert len(current.actions) <= MOST_ACTIONS + 3
        assert len({fault.name for fault in current.faults}) == len(current.faults)
        for fault in current.faults:
            check_fault(fault)
    assert changed == {mutation.__name__ for mutation in MUTATIONS}


def test_a_seed_draws_the_same(scenario: Scenario, found: list[Place]) -> None:
    drawn = [mutate(random.Random(7), scenario, found) for _ in range(2)]
    assert drawn[0] == drawn[1] != mutate(random.Random(8), scenario, found)


def test_a_device_that_lies_is_judged_by_safety_only(scenario: Scenario) -> None:
    lying = Fault(name="sweep-1", behaviour="edit-completion", queue="admin", opcode=6, nth=1, arguments={"fields": {"DW0": 1}})
    assert effects(scenario) == {Effect.FAILURE}
    told = Scenario(**{**vars(scenario), "faults": (lying,)})
    assert Effect.DATA_LIE in effects(told)
    assert {check.id for check in judging(told, effects(told))} == SAFETY
    assert FUZZED.keys() - USES.keys() == {"edit-completion"}


def test_what_is_reached_are_lines_of_the_driver_and_steps_on_the_wire(scenario: Scenario) -> None:
    lines: set[tuple[str, ...]] = set()
    tried = attempt(BENCH, scenario, checks=[], events=True, watch=driver_lines(lines))
    assert {kind for kind, *_ in lines} == {"line"}
    assert len(lines) > 400
    assert "/execution.py" in {file for _, file, _ in lines}
    steps = wire_features(scenario, tried.events)
    assert ("wire", "write CC # EN=# IOSQES=# IOCQES=#") in {(kind, one.replace("  ", " ")) for kind, one, _ in steps}


@pytest.fixture
def too_far() -> Iterator[Bench]:
    """Yield a driver that crashes on Identify data which no real device and no fixed pattern returns."""

    @defect(READS_TOO_FAR)
    class ReadsTooFar(Identification):
        """Crashes where reserved bytes of Identify Controller are set, and the others are right."""

        def identify(self, cns: Cns, nsid: int = 0) -> bytes:
            raw = super().identify(cns, nsid)
            if cns == Cns.CONTROLLER and raw[SQES] == SUPPORTED and any(raw[310:500]):
                raise IndexError("list index out of range")
            return raw

    yield Bench(seed_defect(BENCH.driver, READS_TOO_FAR), "lab", BENCH.toolchain)
    del DEFECTS[READS_TOO_FAR]


def test_a_mistake_that_only_a_mutation_shows_is_found_and_shrunk(
    too_far: Bench, scenario: Scenario, found: list[Place], tmp_path: Path
) -> None:
    lies = [case for case in singles(scenario, found, ["corrupt", "replace"]) if case.strikes[0].place.words == "Identify 1"]
    assert len(lies) == 4
    assert not [case.name for case in lies if attempt(too_far, case.stricken, case.effects).failures]
    state, said = FuzzState(driver="reference", defect=READS_TOO_FAR, seed=5), list[str]()
    fuzzing = Fuzzing(state, too_far, [lies[0].stricken], tmp_path, 1, said.append)
    for _ in range(40):
        fuzzing.run(1, rounds=1)
        if state.groups:
            break
    (group,) = state.groups
    assert (group.check, group.confirmed, group.control, group.counts) == ("every/panic", True, "passes", True)
    assert "IndexError" in said[0]
    least = load_scenario(tmp_path / group.scenario)
    assert [action.name for action in least.actions] == ["load"]
    (fault,) = least.faults
    assert (fault.behaviour in ("corrupt", "replace"), fault.opcode) == (True, Identify.OPCODE)


def test_rounds_are_the_same_and_a_corpus_goes_on(scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conformance.discovery.fuzz.ROUND", 6)

    def fuzz(folder: Path, *rounds: int) -> FuzzState:
        state = open_state(folder, FuzzState(driver="reference", seed=3))
        for count in rounds:
            state = open_state(folder, FuzzState(driver="reference", seed=3))
            Fuzzing(state, BENCH, [scenario], folder, 1, lambda _: None).run(5, rounds=count)
        return state

    one, other = fuzz(tmp_path / "one", 2), fuzz(tmp_path / "other", 1, 1)
    assert (one.rounds, one.lines, one.pairs, one.inputs) == (other.rounds, other.lines, other.pairs, other.inputs)
    kept = [sorted(path.read_text() for path in (tmp_path / name / INPUTS).iterdir()) for name in ("one", "other")]
    assert kept[0] == kept[1]
    assert len(kept[0]) == one.inputs > 2
    assert not list((tmp_path / "one" / FINDINGS).iterdir())


def test_the_command_fuzzes_and_refuses_a_foreign_corpus(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("conformance.discovery.fuzz.ROUND", 4)
    corpus = str(tmp_path / "corpus")
    assert run_command(["fuzz", "--corpus", corpus, "--scenario", "read/basic", "--rounds", "1", "--jobs", "1", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == json.loads((tmp_path / "corpus" / STATE).read_text())
    assert (said["rounds"], said["groups"]) == (1, [])
    with pytest.raises(UsageError, match="is a corpus of seed 0, not 1"):
        open_state(tmp_path / "corpus", FuzzState(driver="reference", seed=1))


def test_what_a_driver_in_a_guest_reaches_are_blocks_of_its_code() -> None:
    functions = FunctionCoverage("nvme_probe", 0, "1111", 0b1011, 0b0011), FunctionCoverage("nvme_remove", 4, "1")
    reached = RecordingCoverage((ObjectCoverage("nvme.ko", "aa", functions),))
    assert block_features(reached) == {("block", "nvme.ko", "nvme_probe", "0"), ("block", "nvme.ko", "nvme_probe", "1")}
    assert block_features(RecordingCoverage(reason="KVM")) == block_features(None) == set()


@pytest.mark.slow
def test_a_driver_in_a_guest_is_fuzzed_by_its_blocks(tmp_path: Path) -> None:
    options = ("--scenario", "identify/basic", "--minutes", "0.001", "--jobs", "1")
    assert run_command(["fuzz", "--driver", "linux", *options, "--corpus", str(tmp_path)]) == 0
    state = FuzzState.model_validate_json((tmp_path / STATE).read_text())
    assert state.executions == state.inputs == 1
    assert state.blocks > 500
