"""The cases of a sweep: a scenario with one fault at one place, or with two."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from conformance.discovery.behaviours import RECOVERY, USES, Effect, Use
from conformance.discovery.places import Place
from lab.data.plan import Action, Fault, Scenario

PATIENCE = 2
"""Seconds that a driver may wait for a command before it does something, where that can be set."""
BLOCKS = 8
PAIRS_OF_ONE = 8
"""Pairs that are tried with one first fault: its own recording costs as much as one of them."""
PREFIX = "sweep"
"""What names of a sweep's faults begin with."""


@dataclass(frozen=True)
class Strike:
    """One behaviour with its arguments at one place."""

    behaviour: str
    arguments: Mapping[str, Any]
    place: Place

    @property
    def use(self) -> Use:
        """Return how a sweep uses the behaviour."""
        return USES[self.behaviour]

    @property
    def words(self) -> str:
        """Return it in words: its behaviour, arguments and place."""
        shown = " ".join(f"{name}={_short(value)}" for name, value in self.arguments.items())
        return f"{self.behaviour}{f' {shown}' if shown else ''} at {self.place.words}"

    def fault(self, number: int) -> Fault:
        """Return the fault for a scenario; ``number`` distinguishes the faults of one case."""
        counted = {} if self.place.kind == "start" else {"nth": self.place.nth}
        return Fault(
            name=f"{PREFIX}-{number}",
            behaviour=self.behaviour,
            arguments=self.arguments,
            **{**self.place.strikes, **counted},
        )


@dataclass(frozen=True)
class Case:
    """A scenario, what strikes in it, and what that leaves to be judged."""

    scenario: Scenario
    strikes: tuple[Strike, ...]

    @property
    def name(self) -> str:
        """Return the name, unique in a sweep."""
        return f"{self.scenario.id}: {' + '.join(strike.words for strike in self.strikes) or 'calm'}"

    @property
    def effects(self) -> frozenset[Effect]:
        """Return what the device becomes."""
        return frozenset(strike.use.effect for strike in self.strikes)

    @property
    def lasts(self) -> bool:
        """Return whether the device stays broken."""
        return any(strike.use.lasts for strike in self.strikes)

    @property
    def stricken(self) -> Scenario:
        """Return the scenario with the faults in it."""
        faults = tuple(strike.fault(number) for number, strike in enumerate(self.strikes, 1))
        return replace(
            self.scenario,
            title=f"{self.scenario.title}; {' + '.join(strike.words for strike in self.strikes)}",
            faults=(*self.scenario.faults, *faults),
            hostile=self.scenario.hostile or self.effects != {Effect.LEGAL},
        )


def prepared(scenario: Scenario, actions: Iterable[str]) -> Scenario:
    """Return the scenario as a sweep records it: with a short time-out, and `RECOVERY` at its end if it can be asked."""
    namespace = next((one for one in scenario.device.controllers[0].namespaces if one.attached), None)
    asked = scenario.actions
    if namespace and set(RECOVERY) <= set(actions) and not any(action.name in ("unload", "shutdown") for action in asked):
        read = Action("read", {"nsid": namespace.nsid, "lba": 0, "blocks": BLOCKS})
        asked = (*asked, Action("unload"), Action("load"), read)
    return replace(scenario, actions=asked, guest={"command_seconds": PATIENCE, **scenario.guest})


def singles(scenario: Scenario, places: Sequence[Place], behaviours: Iterable[str] = ()) -> Iterator[Case]:
    """Yield a case for each behaviour (all of the table if none is named) with each of its arguments at each place."""
    for name in behaviours or USES:
        use = USES[name]
        for place in places:
            if place.kind not in use.at or (use.with_data and not place.returns_data) or (use.moving and not place.moves_data):
                continue
            for arguments in use.arguments_at(place.what):
                yield Case(scenario, (Strike(name, arguments, place),))


def following(first: Case, seen: Sequence[Place], behaviours: Iterable[str] = ()) -> list[Case]:
    """Return all pairs of a case and a second strike at a place where the driver came only after the first one.

    ``seen`` are the places of a recording of the first case since it struck. So what only happens while a driver recovers is
    struck too.
    """
    found = singles(first.scenario, [place for place in seen if place.kind != "start"], behaviours)
    return [Case(first.scenario, (*first.strikes, *second.strikes)) for second in found]


@dataclass(frozen=True)
class Followed:
    """A case whose recording shows where a second fault can strike, and how many such pairs are tried."""

    first: Case
    count: int

    @property
    def name(self) -> str:
        """Return the name, unique in a sweep."""
        return f"{self.first.name} + {self.count} others"


def followed(cases: Sequence[Case], count: int, seed: int) -> list[Followed]:
    """Return cases for ``count`` pairs in all, drawn from a seed."""
    draw = random.Random(seed)
    firsts = [case for case in cases if Effect.DATA_LIE not in case.effects and not case.lasts]
    chosen = draw.sample(firsts, min(len(firsts), -(-count // PAIRS_OF_ONE)))
    return [Followed(case, min(PAIRS_OF_ONE, count - number * PAIRS_OF_ONE)) for number, case in enumerate(chosen)]


def select(cases: Iterable[Case], seed: int, limit: int | None, shard: tuple[int, int]) -> list[Case]:
    """Return cases in an order that a seed draws, so that a part of them covers all places: of this shard, at most so many."""
    shuffled = list(cases)
    random.Random(seed).shuffle(shuffled)
    number, of = shard
    return shuffled[:limit][number - 1 :: of]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 12 else f"{text[:4]}…({len(text)})"
