"""Scenarios: what a stage puts in front of a driver, drawn from a seed.

A scenario is a function from a `Draw` to a device and actions. It is resolved on the host before anything starts, so that
the evidence holds plain data; two seeds give other serial numbers, sizes and bytes, and must give the same verdicts.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lab.data.plan import Action, Controller, DeviceSpec, Fault, Namespace, Scenario

MIB = 1 << 20


@dataclass(frozen=True)
class Plan:
    """What a scenario's function returns."""

    device: DeviceSpec
    actions: Sequence[Action]
    faults: Sequence[Fault] = ()


class Draw:
    """The choices that a seed makes for one scenario."""

    def __init__(self, seed: int, scenario: str) -> None:
        """Seed the choices: the same seed and scenario id draw the same."""
        self._random = random.Random(f"{seed}/{scenario}")

    def between(self, low: int, high: int) -> int:
        """Return a number from ``low`` to ``high``, both included."""
        return self._random.randint(low, high)

    def choice(self, values: Sequence[str]) -> str:
        """Return one of some values."""
        return self._random.choice(values)

    def serial(self) -> str:
        """Twenty characters: the whole field, so that no terminator fits."""
        return "".join(self._random.choices(string.ascii_uppercase + string.digits, k=20))

    def fill(self) -> int:
        """Return a number that selects a pattern of bytes (`lab.data.content.block`)."""
        return self._random.getrandbits(48)

    def namespace(self, nsid: int = 1, *, block_size: int = 512, blocks: int = 0, **more: Any) -> Namespace:
        """Return a namespace of 16 to 48 MiB (unless ``blocks`` is given) with pattern in its first MiB and last 64 KiB."""
        count = blocks or self.between(16 * MIB, 48 * MIB) // block_size
        first, last = MIB // block_size, 65536 // block_size
        more.setdefault("areas", ((0, first), (count - last, last)))
        return Namespace(nsid=nsid, block_size=block_size, blocks=count, **more)

    def device(self, *namespaces: Namespace, **controller: Any) -> DeviceSpec:
        """One controller with these namespaces (one drawn namespace if there are none)."""
        held = namespaces or (self.namespace(),)
        return DeviceSpec(controllers=(Controller(serial=self.serial(), namespaces=held, **controller),))


Recipe = Callable[[Draw], Plan]


@dataclass(frozen=True)
class Template:
    """A scenario before its seed is known."""

    id: str
    title: str
    guest: Mapping[str, Any]
    hostile: bool
    recipe: Recipe

    @property
    def stage(self) -> str:
        """The stage, which is the first part of the id."""
        return self.id.partition("/")[0]

    def resolve(self, seed: int) -> Scenario:
        """Return the scenario as plain data."""
        draw = Draw(seed, self.id)
        plan = self.recipe(draw)
        return Scenario(
            id=self.id,
            stage=self.stage,
            title=self.title,
            seed=draw.fill(),
            device=plan.device,
            actions=tuple(plan.actions),
            faults=tuple(plan.faults),
            guest=self.guest,
            hostile=self.hostile,
        )


SCENARIOS: dict[str, Template] = {}
"""Every scenario by its id, filled as the stages are imported (`conformance.suite.selection`)."""


def scenario(id: str, title: str, *, hostile: bool = False, **guest: Any) -> Callable[[Recipe], Template]:
    """Register the decorated function as a scenario; ValueError where the id is taken.

    Before a ``hostile`` device a driver may fail, as long as it fails in good order.
    """

    def register(recipe: Recipe) -> Template:
        if id in SCENARIOS:
            raise ValueError(f"scenario {id} is declared twice")
        SCENARIOS[id] = Template(id, title, guest, hostile, recipe)
        return SCENARIOS[id]

    return register


def do(action: str, /, **arguments: Any) -> Action:
    """Return an action, short enough to list many."""
    return Action(action, arguments)


LOAD = do("load")
