"""What of a driver's code all recordings of a run have executed together, and what each of them alone.

Every recording has its own coverage.json (`lab.data.coverage`). An instruction counts as executed if one recording executed it;
the object must be the same file in all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from conformance.judging.models import (
    CoverageEntry,
    CoveredCheck,
    CoveredFunction,
    CoveredScenario,
    RunEntry,
    VerdictEntry,
)
from conformance.suite.check import Outcome
from lab.data.coverage import FunctionCoverage, ObjectCoverage, read_coverage
from lab.errors import LabError

JUDGED = frozenset({Outcome.FAIL, Outcome.FLAKY, Outcome.WARN, Outcome.PASS})
"""Outcomes of a check that has found something to judge."""
ALL_DEVICES = "all"
"""The device of an entry that joins those of several devices."""


@dataclass
class CoveredObject:
    """One object of a driver on a device: for each scenario, which instructions of each function it executed."""

    driver: str
    device: str
    name: str
    sha256: str
    functions: tuple[FunctionCoverage, ...]
    """What there is to execute."""
    sources: tuple[str, ...] = ()
    scenarios: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Scenario → a mask for each function."""
    checks: dict[str, set[str]] = field(default_factory=dict)
    """Check → the scenarios in which it has judged something."""

    def add(self, scenario: str, masks: Iterable[int]) -> None:
        """Add what a scenario executed; on several devices it executed all of it."""
        before = self.scenarios.get(scenario, (0,) * len(self.functions))
        self.scenarios[scenario] = tuple(old | new for old, new in zip(before, masks, strict=True))

    def executed(self) -> list[int]:
        """Return a mask for each function: what any scenario executed."""
        masks = [0] * len(self.functions)
        for each in self.scenarios.values():
            masks = [one | other for one, other in zip(masks, each, strict=True)]
        return masks

    def hits(self) -> Iterator[tuple[FunctionCoverage, list[int]]]:
        """Yield each function, and for each of its instructions by how many scenarios it was executed."""
        for number, function in enumerate(self.functions):
            masks = [each[number] for each in self.scenarios.values() if each[number]]
            yield function, [sum(mask >> n & 1 for mask in masks) for n in range(function.instructions)]

    def entry(self) -> CoverageEntry:
        """Return the figures as results.json holds them."""
        masks = self.executed()
        functions = [
            CoveredFunction(
                name=function.name,
                offset=function.offset,
                instructions=function.instructions,
                executed=mask.bit_count(),
                scenarios=sum(bool(each[number]) for each in self.scenarios.values()),
                blocks=function.blocks.bit_count(),
                blocks_executed=(function.blocks & mask).bit_count(),
                source=f"{self.sources[function.lines[0][1]]}:{function.lines[0][2]}" if function.lines else "",
            )
            for number, (function, mask) in enumerate(zip(self.functions, masks, strict=True))
        ]
        lines = self.line_hits()
        return CoverageEntry(
            driver=self.driver,
            device=self.device,
            object=self.name,
            sha256=self.sha256,
            instructions=sum(one.instructions for one in functions),
            executed=sum(one.executed for one in functions),
            blocks=sum(one.blocks for one in functions),
            blocks_executed=sum(one.blocks_executed for one in functions),
            lines=len(lines),
            lines_executed=sum(map(bool, lines.values())),
            functions=functions,
            scenarios=self._scenarios(),
            checks=self._checks(),
        )

    def line_hits(self) -> dict[tuple[str, int], int]:
        """Return (source file, line) → how many scenarios executed an instruction of it; {} without debug information."""
        hits: dict[tuple[str, int], int] = {}
        for number, function in enumerate(self.functions):
            masks = [each[number] for each in self.scenarios.values() if each[number]]
            for file, line, of_line in function.source_lines():
                key = self.sources[file], line
                hits[key] = max(hits.get(key, 0), sum(bool(mask & of_line) for mask in masks))
        return hits

    def _scenarios(self) -> list[CoveredScenario]:
        entered = [sum(bool(each[number]) for each in self.scenarios.values()) for number in range(len(self.functions))]
        return [
            CoveredScenario(
                scenario=name,
                executed=sum(mask.bit_count() for mask in each),
                alone=alone,
                functions=[f.name for f, mask, by in zip(self.functions, each, entered, strict=True) if mask and by == 1],
            )
            for (name, each), alone in zip(self.scenarios.items(), self._alone(), strict=True)
        ]

    def _checks(self) -> list[CoveredCheck]:
        """Return what was executed where each check had something to judge; scenarios that differ in nothing count once."""
        found, known = [], dict[frozenset[str], int]()
        for check, names in self.checks.items():
            scenarios = frozenset(names & self.scenarios.keys())
            if scenarios not in known:
                joined = [0] * len(self.functions)
                for name in scenarios:
                    joined = [one | other for one, other in zip(joined, self.scenarios[name], strict=True)]
                known[scenarios] = sum(mask.bit_count() for mask in joined)
            found.append(CoveredCheck(check=check, scenarios=len(scenarios), executed=known[scenarios]))
        return found

    def _alone(self) -> list[int]:
        """Return for each scenario how many instructions it alone executed."""
        once, again = [0] * len(self.functions), [0] * len(self.functions)
        for each in self.scenarios.values():
            again = [twice | (seen & mask) for twice, seen, mask in zip(again, once, each, strict=True)]
            once = [seen | mask for seen, mask in zip(once, each, strict=True)]
        only = [seen & ~twice for seen, twice in zip(once, again, strict=True)]
        return [sum((mask & own).bit_count() for mask, own in zip(each, only, strict=True)) for each in self.scenarios.values()]


def covered_objects(runs: Iterable[RunEntry], folder: Path) -> tuple[list[CoveredObject], dict[tuple[str, str], str]]:
    """Return the objects of all drivers and devices, and (driver, device) → why nothing is known of them.

    ``folder`` is what the evidence's names are relative to. Recordings without coverage count for nothing.
    """
    found: dict[tuple[str, str, str, str], CoveredObject] = {}
    reasons: dict[tuple[str, str], str] = {}
    for run in runs:
        try:
            coverage = read_coverage(folder / run.evidence)
        except LabError as error:
            reasons.setdefault((run.driver, run.device), error.what)
            continue
        if coverage is None:
            continue
        if coverage.reason:
            reasons.setdefault((run.driver, run.device), coverage.reason)
        for one in coverage.objects:
            for device in (run.device, ALL_DEVICES):
                key = run.driver, device, one.name, one.sha256
                item = found.setdefault(key, CoveredObject(run.driver, device, one.name, one.sha256, _bare(one), one.sources))
                if item.functions == _bare(one):
                    item.add(run.scenario, (function.executed for function in one.functions))
    devices = Counter((item.driver, item.name, item.sha256) for item in found.values())
    several = {key for key, count in devices.items() if count > 2}  # two devices, and all of them
    objects = [i for i in found.values() if i.device != ALL_DEVICES or (i.driver, i.name, i.sha256) in several]
    return objects, reasons


def coverage_entries(runs: Iterable[RunEntry], folder: Path, verdicts: Iterable[VerdictEntry] = ()) -> list[CoverageEntry]:
    """Return the figures of all objects, by the checks of ``verdicts`` too; [] where no recording has coverage."""
    objects, reasons = covered_objects(runs, folder)
    judged = [verdict for verdict in verdicts if verdict.outcome in JUDGED] if objects else []
    for item in objects:
        for verdict in judged:
            if verdict.driver == item.driver and item.device in (verdict.device, ALL_DEVICES):
                item.checks.setdefault(verdict.check, set()).add(verdict.scenario)
    unknown = [CoverageEntry(driver=driver, device=device, reason=reason) for (driver, device), reason in reasons.items()]
    return [*sorted((item.entry() for item in objects), key=lambda e: (e.driver, e.device, e.object)), *unknown]


def lost_functions(old: Iterable[CoverageEntry], new: Iterable[CoverageEntry]) -> Mapping[tuple[str, str, str], list[str]]:
    """Return (driver, device, object) → functions that were entered before, are still there, and are no longer entered."""
    before = {entry.key: entry for entry in old}
    found = {}
    for entry in new:
        was = before.get(entry.key)
        entered = {function.name for function in was.functions if function.executed} if was else set()
        lost = [function.name for function in entry.functions if not function.executed and function.name in entered]
        if lost:
            found[entry.key] = lost
    return found


def _bare(one: ObjectCoverage) -> tuple[FunctionCoverage, ...]:
    return tuple(function.bare() for function in one.functions)
