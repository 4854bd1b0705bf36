"""Mutations of a scenario: what a device does wrong and when, the bytes it returns, its shape, and what the driver is asked.

All choices come from one `random.Random`, so that a seed draws the same scenarios everywhere.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from conformance.discovery.behaviours import FUZZED, Effect, Use
from conformance.discovery.cases import Strike
from conformance.discovery.places import Place
from lab.data.plan import Action, Controller, DeviceSpec, Fault, Namespace, Scenario

MOST_FAULTS, MOST_ACTIONS = 4, 24
STEPS = (1, 1, 1, 2, 3)
"""How many mutations make the next scenario of one: mostly one."""
INTERESTING = (0, 1, 2, 3, 7, 8, 0x7F, 0x80, 0xFF, 0x100, 0xFFFF, 0x1_0000, 0x7FFF_FFFF, 0xFFFF_FFFF)
DELAYS_MS = (1, 20, 400, 1900, 2100, 6000)
"""Around the time-outs that the scenarios of a sweep set."""
DATA_BYTES = 4096
PATTERN_BLOCKS = 64

Mutation = Callable[[random.Random, Scenario, Sequence[Place]], Scenario | None]
"""Returns the changed scenario; None where there is nothing to change. ``places`` are those of the scenario's recording."""


def effects(scenario: Scenario) -> frozenset[Effect]:
    """Return what the faults of a scenario make of the device: `Effect.FAILURE` at least, so that none is judged too hard."""
    return frozenset(
        {Effect.FAILURE, *(FUZZED[fault.behaviour].effect for fault in scenario.faults if fault.behaviour in FUZZED)}
    )


def sparse(scenario: Scenario) -> Scenario:
    """Return the scenario with a few blocks of pattern only: to make the others costs more than to record it."""
    controllers = tuple(
        replace(one, namespaces=tuple(replace(namespace, areas=_few(namespace)) for namespace in one.namespaces))
        for one in scenario.device.controllers
    )
    return replace(scenario, device=DeviceSpec(controllers=controllers))


def _few(namespace: Namespace) -> tuple[tuple[int, int], ...]:
    return tuple((first, min(count, PATTERN_BLOCKS)) for first, count in namespace.areas)


def mutate(draw: random.Random, scenario: Scenario, places: Sequence[Place]) -> Scenario:
    """Return another scenario, one or a few steps away."""
    changed = scenario
    for _ in range(draw.choice(STEPS)):
        for _ in range(8):
            if (found := draw.choice(MUTATIONS)(draw, changed, places)) is not None:
                changed = found
                break
    return replace(changed, hostile=True)


# -- faults ---------------------------------------------------------------------------------------------------------


def add_fault(draw: random.Random, scenario: Scenario, places: Sequence[Place]) -> Scenario | None:
    """Let one more behaviour strike, at a place where the driver came."""
    if len(scenario.faults) >= MOST_FAULTS or not places:
        return None
    name = draw.choice(list(FUZZED))
    use = FUZZED[name]
    fitting = [place for place in places if _fits(use, place)]
    if not fitting:
        return None
    strike = Strike(name, _arguments(draw, name, use), draw.choice(fitting))
    taken = {fault.name for fault in scenario.faults}
    number = next(n for n in range(1, MOST_FAULTS + 2) if f"sweep-{n}" not in taken)
    return replace(scenario, faults=(*scenario.faults, strike.fault(number)))


def _fits(use: Use, place: Place) -> bool:
    return place.kind in use.at and (place.returns_data or not use.with_data) and (place.moves_data or not use.moving)


def _arguments(draw: random.Random, name: str, use: Use) -> Mapping[str, Any]:
    """Draw arguments: bytes, values, times."""
    match name:
        case "corrupt":
            return {"offset": _offset(draw), "length": draw.choice((1, 2, 4, 8, 64)), "xor": draw.choice((1, 0x80, 0xFF))}
        case "replace":
            size = draw.choice((1, 2, 4, 8))
            return {
                "offset": _offset(draw),
                "hex": (draw.choice(INTERESTING) & (1 << 8 * size) - 1).to_bytes(size, "little").hex(),
            }
        case "register-value":
            return {
                "value": draw.choice(INTERESTING),
                "mask": draw.choice((0xFFFF_FFFF, 1 << draw.randrange(32), 0xFF, 0xFFFF)),
            }
        case "edit-completion":
            return {
                "fields": draw.choice(
                    ({"DW0": draw.choice(INTERESTING)}, {"SCT": draw.randrange(8), "SC": draw.randrange(256)})
                )
            }
        case "status" | "completion-status":
            return {"sct": draw.choice((0, 0, 1, 2, 3, 7)), "sc": draw.randrange(1, 256), "dnr": draw.randrange(2)}
        case "delay" | "slow-ready" | "slow-disable" | "slow-shutdown":
            return {"ms": draw.choice(DELAYS_MS)}
        case "spurious-interrupt":
            return {"vector": draw.randrange(4), "count": draw.choice((1, 3))}
    return draw.choice(use.arguments)


def _offset(draw: random.Random) -> int:
    """Draw an offset in data: fields of Identify lie mostly in its first kilobyte."""
    return draw.randrange(draw.choice((32, 128, 1024, DATA_BYTES)))


def drop_fault(draw: random.Random, scenario: Scenario, _places: Sequence[Place]) -> Scenario | None:
    """Let one behaviour less strike."""
    if not scenario.faults:
        return None
    gone = draw.choice(scenario.faults)
    return replace(scenario, faults=tuple(fault for fault in scenario.faults if fault is not gone))


def change_fault(draw: random.Random, scenario: Scenario, _places: Sequence[Place]) -> Scenario | None:
    """Draw a fault's arguments anew, or let it strike at another time, or several times."""
    if not scenario.faults:
        return None
    number = draw.randrange(len(scenario.faults))
    fault = scenario.faults[number]
    use = FUZZED.get(fault.behaviour)
    changed: Fault
    match draw.randrange(3):
        case 0 if use:
            changed = replace(fault, arguments=_arguments(draw, fault.behaviour, use))
        case 1 if fault.nth:
            changed = replace(fault, nth=max(1, fault.nth + draw.choice((-2, -1, 1, 2))))
        case _:
            changed = replace(fault, nth=None, times=draw.choice((1, 2, 3)))
    return replace(scenario, faults=(*scenario.faults[:number], changed, *scenario.faults[number + 1 :]))


# -- the device -----------------------------------------------------------------------------------------------------


def change_controller(draw: random.Random, scenario: Scenario, _places: Sequence[Place]) -> Scenario | None:
    """Give the controller another shape, which a driver may refuse but must survive."""
    first, *others = scenario.device.controllers
    changed: Controller
    match draw.randrange(6):
        case 0:
            changed = replace(first, mdts=draw.choice((0, 1, 2, 5)))
        case 1:
            changed = replace(first, io_queues=draw.choice((1, 2, 16)))
        case 2:
            changed = replace(first, vectors=draw.choice((0, 1, 2, 9)))
        case 3:
            changed = replace(first, write_cache=not first.write_cache)
        case _:
            name, values = draw.choice(
                (("MQES", (1, 2, 7, 63, 0xFFFF)), ("DSTRD", (0, 1, 4)), ("TO", (1, 2, 20)), ("CQR", (0, 1)))
            )
            changed = replace(first, cap={**first.cap, name: draw.choice(values)})
    return replace(scenario, device=DeviceSpec(controllers=(changed, *others)))


def change_namespaces(draw: random.Random, scenario: Scenario, _places: Sequence[Place]) -> Scenario | None:
    """Add a namespace, or change the first one's blocks."""
    first, *others = scenario.device.controllers
    if not first.namespaces:
        return None
    nsids = [namespace.nsid for namespace in first.namespaces]
    held = list(first.namespaces)
    match draw.randrange(3):
        case 0 if len(held) < 3:
            held.append(Namespace(nsid=max(nsids) + draw.choice((1, 3)), blocks=4096, attached=draw.random() < 0.7))
        case 1:
            held[0] = replace(held[0], blocks=draw.choice((2048, 4096, 70000)), areas=((0, 64),))
        case _:
            held[0] = replace(held[0], block_size=draw.choice((512, 4096)), blocks=8192, areas=((0, 64),))
    return replace(scenario, device=DeviceSpec(controllers=(replace(first, namespaces=tuple(held)), *others)))


# -- actions --------------------------------------------------------------------------------------------------------


def add_action(draw: random.Random, scenario: Scenario, _places: Sequence[Place]) -> Scenario | None:
    """Ask one more question, or do something to the device, after the load."""
    if len(scenario.actions) >= MOST_ACTIONS:
        return None
    at = draw.randint(1, len(scenario.actions))
    return replace(scenario, actions=(*scenario.actions[:at], *_asked(draw, scenario), *scenario.actions[at:]))


def _asked(draw: random.Random, scenario: Scenario) -> Sequence[Action]:
    namespaces = scenario.device.controllers[0].namespaces
    plain = [[Action(name)] for name in ("list", "reset", "rescan", "identify", "smart", "queues")]
    plain.append([Action("unload"), Action("load")])
    if not namespaces:
        return draw.choice(plain)
    namespace = draw.choice(namespaces)
    blocks = draw.choice((1, 2, 8, 9, 64, 200))
    where = {"nsid": namespace.nsid, "lba": draw.randrange(max(namespace.blocks - blocks, 1)), "blocks": blocks}
    return draw.choice((
        *plain,
        [Action("read", where)],
        [Action("read", where)],
        [Action("write", {**where, "fill": draw.getrandbits(32)}), Action("read", where)],
        [Action("flush", {"nsid": namespace.nsid})],
        [Action("zeroes", where), Action("read", where)],
        [Action("trim", where)],
        [Action("detach", {"nsid": namespace.nsid}), Action("read", where), Action("attach", {"nsid": namespace.nsid})],
        [Action("warn", {"warning": draw.choice((1, 2, 4))})],
        [Action("get-feature", {"feature": draw.randrange(1, 0x20)})],
    ))  # fmt: skip


def drop_action(draw: random.Random, scenario: Scenario, _places: Sequence[Place]) -> Scenario | None:
    """Ask one question less."""
    if len(scenario.actions) < 3:
        return None
    gone = draw.randrange(1, len(scenario.actions))
    return replace(scenario, actions=(*scenario.actions[:gone], *scenario.actions[gone + 1 :]))


def swap_actions(draw: random.Random, scenario: Scenario, _places: Sequence[Place]) -> Scenario | None:
    """Exchange two questions."""
    if len(scenario.actions) < 3:
        return None
    asked = list(scenario.actions)
    one, other = draw.sample(range(1, len(asked)), 2)
    asked[one], asked[other] = asked[other], asked[one]
    return replace(scenario, actions=tuple(asked))


MUTATIONS: tuple[Mutation, ...] = (
    add_fault, add_fault, add_fault, change_fault, change_fault, drop_fault,
    change_controller, change_namespaces, add_action, add_action, drop_action, swap_actions,
)  # fmt: skip
"""What is drawn from; what stands there twice is drawn twice as often."""
