"""Fuzzing a driver from the device's side: mutated scenarios, of which those stay that reach something new.

Rounds make it deterministic: the scenarios of a round are drawn from the seed and from what earlier rounds have kept, and their
results are taken in the order in which they were drawn, however many processes recorded them.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from conformance.discovery.behaviours import Effect
from conformance.discovery.groups import Group, grouped
from conformance.discovery.journal import Entry
from conformance.discovery.mutations import effects, mutate
from conformance.discovery.novelty import Feature, block_features, driver_lines, wire_features
from conformance.discovery.oracles import judging
from conformance.discovery.places import Place, places
from conformance.discovery.pool import Workers, workers
from conformance.discovery.shrink import Goal, shrink
from conformance.discovery.shrunk_file import Story, file_text
from conformance.discovery.trial import REFERENCE, Bench, attempt, reference_bench
from conformance.run.scenario_files import load_scenario
from lab.data.plan import Scenario
from lab.data.scenario_file import scenario_toml
from lab.errors import LabError, UsageError
from lab.files import write_atomically

STATE = "fuzz.json"
INPUTS, FINDINGS = "inputs", "findings"
ROUND = 32
"""Scenarios of a round."""
MOST_INPUTS, MOST_FINDINGS = 2000, 50
SHRINK_MINUTES = 1.0


class FuzzState(BaseModel):
    """The format of fuzz.json: how far a corpus has come."""

    schema_: Literal[1] = Field(default=1, alias="schema")
    driver: str
    defect: str = ""
    seed: int
    rounds: int = 0
    executions: int = 0
    seconds: float = 0.0
    inputs: int = 0
    lines: int = 0
    """Of the driver that were reached, where it is Python in the lab's own process."""
    blocks: int = 0
    """Of the driver's machine code that were executed, where it runs in a guest and its code is known."""
    pairs: int = 0
    """Of successive steps on the wire that were seen."""
    errors: int = 0
    groups: list[Group] = []


@dataclass(frozen=True)
class Reached:
    """What came of one scenario."""

    entry: Entry
    features: frozenset[Feature]
    places: tuple[Place, ...]


@dataclass(frozen=True)
class Piece:
    """A scenario to try; ``by_all`` judges it by all checks that its device leaves."""

    scenario: Scenario
    by_all: bool


@dataclass
class Input:
    """A scenario of the corpus, and where its recording came."""

    scenario: Scenario
    places: Sequence[Place]


@dataclass
class Fuzzing:
    """One corpus folder, and what goes on in it. ``say`` shows a line."""

    state: FuzzState
    bench: Bench
    seeds: Sequence[Scenario]
    folder: Path
    jobs: int
    say: Callable[[str], None]
    _corpus: list[Input] = field(init=False, default_factory=list)
    _seen: set[Feature] = field(init=False, default_factory=set)
    _shown: float = field(init=False, default=0.0)

    def run(self, minutes: float, rounds: int | None = None) -> FuzzState:
        """Fuzz for so long, or so many rounds; go on where the folder's last round ended. What was found is always written."""
        began, before = time.monotonic(), self.state.seconds
        for name in (INPUTS, FINDINGS):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        pool: Workers[Piece, Reached] = workers(reach, self.jobs, self.bench, _prepare, self.bench)
        with pool.running():
            known = sorted((self.folder / INPUTS).glob("*.toml"))
            first = [load_scenario(path) for path in known] or list(self.seeds)
            self._round(pool, first, keep=not known)
            if not self._corpus:
                raise LabError("None of the scenarios that fuzzing starts from could be recorded.", remedy="name others")
            self._write()
            last = None if rounds is None else self.state.rounds + rounds
            while time.monotonic() - began < 60 * minutes and self.state.rounds != last:
                self._round(pool, self._drawn(), keep=True)
                self.state.rounds += 1
                self.state.seconds = before + time.monotonic() - began
                self._write()
                self._progress()
        return self.state

    def _drawn(self) -> list[Scenario]:
        """Return the scenarios of the next round: mostly of what was kept last, which is the farthest."""
        draw = random.Random(f"{self.state.seed} {self.state.rounds}")
        newest = self._corpus[-len(self._corpus) // 4 - 1 :]
        chosen = [draw.choice(newest if draw.random() < 0.5 else self._corpus) for _ in range(ROUND)]
        return [mutate(draw, one.scenario, one.places) for one in chosen]

    def _results(
        self, pool: Workers[Piece, Reached], scenarios: Sequence[Scenario], *, by_all: bool = False
    ) -> Iterator[tuple[Scenario, Reached]]:
        """Yield what came of scenarios, in their order."""
        numbered = [replace(one, id=f"file/{number}", stage="file") for number, one in enumerate(scenarios)]
        left = iter([Piece(scenario, by_all) for scenario in numbered])
        results = {piece.scenario.id: reached for piece, reached in pool.each(lambda: next(left, None))}
        for scenario in numbered:
            yield scenario, results[scenario.id]

    def _round(self, pool: Workers[Piece, Reached], scenarios: Sequence[Scenario], *, keep: bool) -> None:
        """Try scenarios, and judge those by all checks that reached something new."""
        new = [one for one, reached in self._results(pool, scenarios) if self._take(one, reached, keep=keep)]
        for scenario, reached in self._results(pool, new, by_all=True):
            self._judge(scenario, reached)

    def _take(self, scenario: Scenario, reached: Reached, *, keep: bool) -> bool:
        """Count a scenario; return whether it reached something new, which keeps it."""
        self.state.executions += 1
        if reached.entry.error:
            self.state.errors += 1
            return False
        self._judge(scenario, reached)
        if not reached.features - self._seen:
            return False
        self._seen |= reached.features
        kinds = Counter(kind for kind, *_ in self._seen)
        self.state.lines, self.state.blocks, self.state.pairs = kinds["line"], kinds["block"], kinds["wire"]
        if len(self._corpus) < MOST_INPUTS:
            self._corpus.append(Input(scenario, reached.places))
            self.state.inputs = len(self._corpus)
            if keep:
                path = self.folder / INPUTS / f"{len(self._corpus):05}.toml"
                write_atomically(path, scenario_toml(replace(scenario, title="an input of fuzzing")))
        return True

    def _judge(self, scenario: Scenario, reached: Reached) -> None:
        """Keep a failure of a new kind: shrunk, as a scenario file."""
        for group in grouped([reached.entry]):
            same = next((one for one in self.state.groups if one.key == group.key), None)
            if same is not None:
                same.cases = [*same.cases, f"round {self.state.rounds}"][:MOST_FINDINGS]
            elif len(self.state.groups) < MOST_FINDINGS:
                found = group.model_copy(update={"cases": [f"round {self.state.rounds}"]})
                self._keep(scenario, reached, found)
                self.state.groups.append(found)
                self._write()
                counted = "" if found.counts else "  (the reference driver fails too, or it did not come back)"
                self.say(f"{found.outcome}  {found.check}: {found.actual}{counted}")

    def _keep(self, scenario: Scenario, reached: Reached, group: Group) -> None:
        failure = reached.entry.failures[0]
        name = f"{FINDINGS}/{len(self.state.groups) + 1:03}-{group.check.replace('/', '-')}.toml"
        goal = Goal(self.bench, failure.kind, control=False)
        unmodified = self.bench.driver.name == REFERENCE and not self.bench.driver.variables.get("defect")
        if not unmodified:
            fails = goal.failure(scenario, reference_bench()) is not None
            group.control = "fails too" if fails else "passes"
            goal = replace(goal, control=not fails)
        group.scenario = name
        try:
            found = shrink(scenario, goal, jobs=self.jobs, minutes=SHRINK_MINUTES, on_smaller=lambda *_: None)
        except LabError:
            group.confirmed = False
            write_atomically(self.folder / name, scenario_toml(scenario, comments={"": f"{failure.check}: {failure.actual}"}))
            return
        group.confirmed = True
        extent = f"{len(scenario.actions)} actions, {len(scenario.faults)} faults"
        story = Story(self.bench.driver, self.bench.device, "an input of fuzzing", failure, extent, found, goal.control)
        write_atomically(self.folder / name, file_text(story))

    def _write(self) -> None:
        write_atomically(self.folder / STATE, self.state.model_dump_json(by_alias=True, indent=1) + "\n")

    def _progress(self) -> None:
        now = time.monotonic()
        if now - self._shown >= 10:
            self._shown = now
            self.say(progress(self.state))


def progress(state: FuzzState) -> str:
    """Return how far it has come, in a line."""
    rate = state.executions / state.seconds if state.seconds else 0.0
    lines = f"{state.lines} lines of the driver, " if state.lines else ""
    lines += f"{state.blocks} blocks of the driver, " if state.blocks else ""
    found = f"{len(state.groups)} kinds of failures" if state.groups else "no failure"
    return f"{state.executions} scenarios ({rate:.0f}/s), {state.inputs} kept, {lines}{state.pairs} steps on the wire, {found}"


def open_state(folder: Path, state: FuzzState) -> FuzzState:
    """Return the state of a corpus folder, the given one if it has none. UsageError if it is of another driver or seed."""
    path = folder / STATE
    if not path.exists():
        return state
    try:
        found = FuzzState.model_validate_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} cannot be read: {error}", remedy="choose another folder with --corpus") from error
    for name in ("driver", "defect", "seed"):
        if getattr(found, name) != getattr(state, name):
            here, there = getattr(state, name), getattr(found, name)
            raise UsageError(f"{folder} is a corpus of {name} {there!r}, not {here!r}.", remedy="choose another with --corpus")
    return found


# -- in the processes -------------------------------------------------------------------------------------------------

_bench: Bench


def _prepare(bench: Bench) -> None:
    global _bench
    _bench = bench


def reach(piece: Piece) -> Reached:
    """Record and judge a scenario, and return what it reached.

    Judging by all checks costs several times what recording costs, so at first a panic, a missing answer and the bytes count;
    a scenario that reached something new is recorded again and judged by all.
    """
    scenario, lines, watched = piece.scenario, set[Feature](), _bench.in_process and not piece.by_all
    checks = judging(scenario, effects(scenario) if piece.by_all else {*effects(scenario), Effect.WIRE_LIE})
    tried = attempt(_bench, scenario, checks=checks, events=True, watch=driver_lines(lines) if watched else None, cover=True)
    controller = scenario.device.controllers[0].id
    entry = Entry.of(scenario.id, tried)
    entry.where = tried.function if entry.failures else ""
    return Reached(
        entry,
        frozenset(lines | block_features(tried.coverage) | wire_features(scenario, tried.events)),
        tuple(places(tried.events, controller)),
    )
