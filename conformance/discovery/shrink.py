"""The smallest scenario that fails the same check in the same way, found by taking away one thing after the other.

A smaller scenario counts only if the driver fails in it as before, and if the unmodified reference driver does not: so nothing
is taken away without which the check would fail any driver.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import islice
from typing import TypeAlias

from conformance.discovery.oracles import RECOVERS, Failure
from conformance.discovery.pool import Workers, workers
from conformance.discovery.reductions import PASSES, possible, size
from conformance.discovery.trial import Bench, attempt, reference_bench
from conformance.suite.check import CHECKS, Check
from lab.data.plan import Scenario
from lab.errors import LabError

Kind: TypeAlias = tuple[str, str, str]


@dataclass(frozen=True)
class Goal:
    """What a smaller scenario must still do: fail this check with a finding of this kind, on this bench."""

    bench: Bench
    kind: Kind
    control: bool = True
    """The reference driver must not fail it so."""

    @property
    def check(self) -> str:
        """Return the id of the check."""
        return self.kind[0]

    @property
    def checks(self) -> list[Check]:
        """Return the check; none where it is `RECOVERS`."""
        return [CHECKS[self.check]] if self.check in CHECKS else []

    def failure(self, scenario: Scenario, bench: Bench | None = None) -> Failure | None:
        """Return the failure of this kind that a scenario shows; None if it shows none."""
        tried = attempt(bench or self.bench, scenario, checks=self.checks, recovers=self.check == RECOVERS)
        return next((failure for failure in tried.failures if failure.kind == self.kind), None)

    def met(self, scenario: Scenario) -> bool:
        """Return whether a scenario still does it."""
        if self.failure(scenario) is None:
            return False
        return not self.control or self.failure(scenario, reference_bench()) is None


Tests: TypeAlias = Callable[[Sequence[Scenario]], list[bool]]
"""Say of each of some scenarios whether it still fails."""


@dataclass
class Shrunk:
    """The result: ``complete`` means that nothing more can be taken away."""

    scenario: Scenario
    trials: int = 0
    complete: bool = False


class Shrinker:
    """Takes away what is not needed; ``width`` scenarios are tested at once."""

    def __init__(self, tests: Tests, width: int, *, on_smaller: Callable[[Scenario, int], None], until: float) -> None:
        """Test by ``tests``; ``until`` is when it ends, on the monotonic clock."""
        self._tests, self._width, self._on_smaller, self._until = tests, width, on_smaller, until
        self._known: dict[str, bool] = {}
        self.trials = 0

    def shrink(self, scenario: Scenario) -> Shrunk:
        """Return the smallest scenario that is found."""
        current, before = scenario, None
        while current != before and not self._over:
            before = current
            for smaller in PASSES:
                current = self._exhaust(smaller, current)
        return Shrunk(current, self.trials, complete=not self._over)

    @property
    def _over(self) -> bool:
        return time.monotonic() > self._until

    def _exhaust(self, smaller: Callable[[Scenario], Iterator[Scenario]], current: Scenario) -> Scenario:
        """Try the steps of one pass until none is left. After a step succeeds, go on at its place: those before it failed."""
        position = 0
        while not self._over:
            most = size(current)
            candidates = (one for one in islice(smaller(current), position, None))
            found = self._first(candidates, most)
            if found is None:
                return current
            skipped, current = found
            position += skipped
            self._on_smaller(current, self.trials)
        return current

    def _first(self, candidates: Iterable[Scenario], most: float) -> tuple[int, Scenario] | None:
        """Return the first candidate that still fails, and how many came before it."""
        numbered = ((n, one) for n, one in enumerate(candidates) if possible(one) and size(one) < most)
        while batch := list(islice(numbered, self._width)):
            results = self._test([one for _, one in batch])
            for (number, one), fails in zip(batch, results, strict=True):
                if fails:
                    return number, one
            if self._over:
                return None
        return None

    def _test(self, scenarios: Sequence[Scenario]) -> list[bool]:
        digests = [sha256(json.dumps(one.to_json(), sort_keys=True).encode()).hexdigest() for one in scenarios]
        new = {digest: one for digest, one in zip(digests, scenarios, strict=True) if digest not in self._known}
        if new:
            self.trials += len(new)
            self._known.update(zip(new, self._tests(list(new.values())), strict=True))
        return [self._known[digest] for digest in digests]


def first_of(scenario: Scenario, failure: Failure, ended: Sequence[float]) -> Scenario:
    """Return the scenario without what was asked after the failure; ``ended`` are the times at which answers came."""
    needed = next((number for number, t in enumerate(ended, 1) if t >= failure.t), len(scenario.actions))
    return replace(scenario, actions=scenario.actions[:needed])


def shrink(scenario: Scenario, goal: Goal, *, jobs: int, minutes: float, on_smaller: Callable[[Scenario, int], None]) -> Shrunk:
    """Return the smallest scenario that meets the goal. LabError where the scenario itself does not."""
    if not goal.met(scenario):
        raise LabError(
            f"{scenario.id} does not fail {goal.check} in the same way when it is recorded again.",
            remedy="a failure that does not come back cannot be shrunk; nvme-lab run --repeat 20 counts how often it does",
        )
    until = time.monotonic() + 60 * minutes
    if goal.bench.in_process:
        alone = Shrinker(lambda scenarios: [goal.met(one) for one in scenarios], 1, on_smaller=on_smaller, until=until)
        return alone.shrink(scenario)
    pool: Workers[tuple[int, Scenario], bool] = workers(_met, jobs, goal.bench, _prepare, goal)
    with pool.running():
        return Shrinker(lambda scenarios: _side_by_side(pool, scenarios), jobs, on_smaller=on_smaller, until=until).shrink(
            scenario
        )


def _side_by_side(pool: Workers[tuple[int, Scenario], bool], scenarios: Sequence[Scenario]) -> list[bool]:
    left = iter(enumerate(scenarios))
    results = {number: fails for (number, _), fails in pool.each(lambda: next(left, None))}
    return [results[number] for number in range(len(scenarios))]


_goal: Goal


def _prepare(goal: Goal) -> None:
    global _goal
    _goal = goal


def _met(piece: tuple[int, Scenario]) -> bool:
    return _goal.met(piece[1])
