from __future__ import annotations

from pathlib import Path

import pytest

from conformance.judging import files
from conformance.judging.compare import compare
from conformance.judging.coverage import coverage_entries, covered_objects, lost_functions
from conformance.judging.models import Cite, CoverageEntry, Results, RunEntry, VerdictEntry
from conformance.suite.check import Outcome
from lab.data.coverage import FunctionCoverage, ObjectCoverage, RecordingCoverage, write_coverage

SIZES = {"probe": "3135", "read": "444", "suspend": "11"}


def recording(root: Path, device: str, scenario: str, reason: str = "", **masks: int) -> RunEntry:
    """Return a recording whose functions executed what their masks say."""
    functions = tuple(FunctionCoverage(n, 16 * at, sizes, masks.get(n, 0)) for at, (n, sizes) in enumerate(SIZES.items()))
    evidence = f"evidence/toy/{device}/{scenario}"
    (root / evidence).mkdir(parents=True)
    objects = () if reason else (ObjectCoverage("toy.ko", "aa", functions, (0xC000,)),)
    write_coverage(root / evidence, RecordingCoverage(objects, reason))
    return RunEntry(driver="toy", device=device, scenario=scenario, stage="read", evidence=evidence, seconds=1.0)


@pytest.fixture
def runs(tmp_path: Path) -> list[RunEntry]:
    return [
        recording(tmp_path, "lab", "read/one", probe=0b1111, read=0b001),
        recording(tmp_path, "lab", "read/two", probe=0b0001, read=0b011),
        recording(tmp_path, "qemu", "read/one", probe=0b0001, read=0b100),
    ]


def entry(entries: list[CoverageEntry], device: str) -> CoverageEntry:
    return next(one for one in entries if one.device == device)


def test_recordings_add_up_per_device_and_over_all(runs: list[RunEntry], tmp_path: Path) -> None:
    entries = coverage_entries(runs, tmp_path)
    assert [(one.device, one.executed, one.entered) for one in entries] == [("all", 7, 2), ("lab", 6, 2), ("qemu", 2, 2)]
    assert {one.instructions for one in entries} == {9}
    assert [one.name for one in entry(entries, "all").never_entered] == ["suspend"]
    assert [one.name for one in entry(entries, "lab").by_coverage] == ["suspend", "read", "probe"]


def test_what_each_scenario_alone_reaches_is_counted(runs: list[RunEntry], tmp_path: Path) -> None:
    found = {one.scenario: (one.executed, one.alone) for one in entry(coverage_entries(runs, tmp_path), "lab").scenarios}
    assert found == {"read/one": (5, 3), "read/two": (3, 1)}


def test_blocks_are_counted_by_their_first_instruction(runs: list[RunEntry], tmp_path: Path) -> None:
    probe = next(f for f in entry(coverage_entries(runs, tmp_path), "lab").functions if f.name == "probe")
    assert (probe.blocks, probe.blocks_executed) == (1, 1)


def test_a_scenario_names_the_functions_that_it_alone_enters(tmp_path: Path) -> None:
    runs = [recording(tmp_path, "lab", "read/one", probe=1, suspend=1), recording(tmp_path, "lab", "read/two", probe=1)]
    (only,) = coverage_entries(runs, tmp_path)
    assert {one.scenario: one.functions for one in only.scenarios} == {"read/one": ["suspend"], "read/two": []}


def test_a_check_has_what_was_executed_where_it_judged_something(runs: list[RunEntry], tmp_path: Path) -> None:
    def verdict(device: str, scenario: str, outcome: Outcome) -> VerdictEntry:
        cite = Cite(revision="B", section="1", title="t")
        return VerdictEntry(
            driver="toy",
            device=device,
            scenario=scenario,
            stage="read",
            check="read/nlb",
            level="M",
            outcome=outcome,
            cite=cite,
        )

    verdicts = [verdict("lab", "read/one", Outcome.INCONCLUSIVE), verdict("lab", "read/two", Outcome.PASS),
                verdict("qemu", "read/one", Outcome.FAIL)]  # fmt: skip
    found = {one.device: [(c.check, c.scenarios, c.executed) for c in one.checks]
             for one in coverage_entries(runs, tmp_path, verdicts)}  # fmt: skip
    assert found == {"all": [("read/nlb", 2, 7)], "lab": [("read/nlb", 1, 3)], "qemu": [("read/nlb", 1, 2)]}


def test_each_instruction_knows_how_many_scenarios_executed_it(runs: list[RunEntry], tmp_path: Path) -> None:
    objects, _ = covered_objects(runs, tmp_path)
    hits = {function.name: counts for function, counts in next(one for one in objects if one.device == "lab").hits()}
    assert hits == {"probe": [2, 1, 1, 1], "read": [2, 1, 0], "suspend": [0, 0]}


def test_a_reason_is_told_once(tmp_path: Path) -> None:
    runs = [recording(tmp_path, "qemu", f"read/{n}", reason="no symbols") for n in range(3)]
    (only,) = coverage_entries(runs, tmp_path)
    assert (only.reason, only.functions) == ("no symbols", [])


def test_damaged_coverage_is_named_and_the_rest_counts(runs: list[RunEntry], tmp_path: Path) -> None:
    (tmp_path / runs[0].evidence / "coverage.json").write_text("{")
    entries = coverage_entries(runs[:2], tmp_path)
    assert entry([one for one in entries if not one.reason], "lab").executed == 3
    assert "coverage.json holds no coverage" in next(one.reason for one in entries if one.reason)


def test_without_coverage_there_is_nothing(tmp_path: Path) -> None:
    run = RunEntry(driver="toy", device="lab", scenario="read/one", stage="read", evidence="evidence/none", seconds=1.0)
    assert coverage_entries([run], tmp_path) == []


def test_shards_are_covered_together(runs: list[RunEntry], tmp_path: Path) -> None:
    parts = [(tmp_path, Results(runs=[run], coverage=coverage_entries([run], tmp_path))) for run in runs]
    assert files.merge(parts, tmp_path).coverage == coverage_entries(runs, tmp_path)
    kept = Results(coverage=coverage_entries(runs, tmp_path))  # its recordings are somewhere else
    assert files.merge([(tmp_path, kept)], tmp_path).coverage == kept.coverage


def test_a_comparison_tells_functions_that_are_no_longer_entered(runs: list[RunEntry], tmp_path: Path) -> None:
    old, new = coverage_entries(runs, tmp_path), coverage_entries(runs, tmp_path)
    assert not lost_functions(old, new)
    entry(new, "lab").functions[1].executed = 0
    (lost,) = compare(Results(coverage=old), Results(coverage=new)).unreached
    assert (lost.device, lost.object, lost.functions) == ("lab", "toy.ko", ("read",))
