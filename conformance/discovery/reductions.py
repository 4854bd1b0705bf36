"""Smaller scenarios: what can be taken away from one, in passes from the largest parts to the smallest.

A pass yields scenarios that differ from the given one by one step. Whether they still make sense is not asked here: one that
names a namespace which is gone cannot be recorded, and so proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, replace
from math import log2
from typing import Any, TypeVar

from lab.controller import behaviour
from lab.data.actions import ARGUMENTS
from lab.data.plan import Action, Controller, DeviceSpec, Fault, Namespace, Scenario
from lab.data.scenario_file import scenario_toml

T = TypeVar("T")
Reduction = Callable[[Scenario], Iterator[Scenario]]

PLAIN_SERIAL = "S"
KEPT_GUEST = frozenset({"command_seconds"})
"""What of the guest stays: without a short time-out each trial takes minutes."""
_IDENTITY = frozenset({"id", "nsid", "name", "behaviour", "serial", "namespaces"})
"""Fields that say which one it is; others are set back to their defaults."""
_PREDICATES = ("controller", "sqid", "nsid", "cdw10", "mask", "match", "fields", "value", "value_mask", "times")
"""What a fault need not say. Queue, opcode and register stay: a reader wants to know what is struck."""


def size(scenario: Scenario) -> float:
    """Return how large a scenario is: the text of its file, and its numbers."""
    return len(scenario_toml(scenario)) + sum(log2(1 + number) for number in _numbers(scenario.to_json()))


def _numbers(value: Any) -> Iterator[int]:
    if isinstance(value, Mapping):
        for one in value.values():
            yield from _numbers(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _numbers(one)
    elif isinstance(value, int) and value > 0:
        yield value


# -- lists ----------------------------------------------------------------------------------------------------------


def without_parts(items: Sequence[T]) -> Iterator[tuple[T, ...]]:
    """Yield the items without one part of them: halves first, then quarters, at last each alone, the last ones first."""
    length = len(items)
    while length:
        for end in range(len(items), 0, -length):
            yield (*items[: max(end - length, 0)], *items[end:])
        length //= 2


def fewer_actions(scenario: Scenario) -> Iterator[Scenario]:
    """Take actions away."""
    for actions in without_parts(scenario.actions):
        if actions:
            yield replace(scenario, actions=actions)


def earlier_faults(scenario: Scenario) -> Iterator[Scenario]:
    """Let faults strike earlier, so that what was asked before is not needed."""
    for number, fault in enumerate(scenario.faults):
        for nth in _lower(fault.nth):
            yield replace(scenario, faults=_exchanged(scenario.faults, number, replace(fault, nth=nth)))


def fewer_faults(scenario: Scenario) -> Iterator[Scenario]:
    """Take faults away, with the actions that switch them."""
    for faults in without_parts(scenario.faults):
        names = {fault.name for fault in faults}
        kept = tuple(a for a in scenario.actions if a.name not in ("fault", "release") or a.arguments.get("name") in names)
        yield replace(scenario, faults=faults, actions=kept)


def fewer_controllers(scenario: Scenario) -> Iterator[Scenario]:
    """Take controllers away, with the actions that name them, and namespaces with theirs."""
    for controllers in without_parts(scenario.device.controllers):
        if controllers:
            yield _on(scenario, controllers)
    for number, controller in enumerate(scenario.device.controllers):
        for namespaces in without_parts(controller.namespaces):
            yield _on(scenario, _exchanged(scenario.device.controllers, number, replace(controller, namespaces=namespaces)))


def _on(scenario: Scenario, controllers: Sequence[Controller]) -> Scenario:
    """Return the scenario on other controllers, without the actions that name what is not there."""
    there = {controller.id: {one.nsid for one in controller.namespaces} for controller in controllers}
    any_of = {nsid for nsids in there.values() for nsid in nsids}

    def possible(action: Action) -> bool:
        named = action.arguments.get("controller")
        nsid = action.arguments.get("nsid")
        return (named is None or named in there) and (nsid is None or nsid in (there[named] if named else any_of))

    actions = tuple(filter(possible, scenario.actions))
    return replace(scenario, device=DeviceSpec(controllers=tuple(controllers)), actions=actions)


def _exchanged(items: Sequence[T], number: int, item: T) -> tuple[T, ...]:
    return (*items[:number], item, *items[number + 1 :])


# -- fields ---------------------------------------------------------------------------------------------------------


def plainer_guest(scenario: Scenario) -> Iterator[Scenario]:
    """Leave the guest as it is by default, and its bytes to be those of seed 0."""
    for key in scenario.guest.keys() - KEPT_GUEST:
        yield replace(scenario, guest={name: value for name, value in scenario.guest.items() if name != key})
    yield replace(scenario, seed=0)


def plainer_device(scenario: Scenario) -> Iterator[Scenario]:
    """Set what is special about controllers and namespaces back to its default, one thing at a time, and lower numbers."""
    for number, controller in enumerate(scenario.device.controllers):
        for plainer in _plainer_controller(controller):
            yield _on(scenario, _exchanged(scenario.device.controllers, number, plainer))


def _plainer_controller(controller: Controller) -> Iterator[Controller]:
    yield replace(controller, serial=PLAIN_SERIAL)
    yield from _plainer(controller)
    for number, namespace in enumerate(controller.namespaces):
        for plainer in (*_plainer(namespace), *(replace(namespace, blocks=blocks) for blocks in _lower(namespace.blocks))):
            yield replace(controller, namespaces=_exchanged(controller.namespaces, number, plainer))


def _plainer(item: Any) -> Iterator[Any]:
    """Yield the item with one field as by default, or with one entry less in a mapping, or with a lower number."""
    for one in fields(item):
        value = getattr(item, one.name)
        default = one.default_factory() if one.default_factory is not MISSING else one.default
        if one.name in _IDENTITY or default is MISSING or value == default:
            continue
        yield replace(item, **{one.name: default})
        if isinstance(value, Mapping):
            for key in value:
                yield replace(item, **{one.name: {name: held for name, held in value.items() if name != key}})
                yield from (replace(item, **{one.name: {**value, key: lower}}) for lower in _lower(value[key]))
        elif isinstance(value, tuple):
            yield from (replace(item, **{one.name: shorter}) for shorter in without_parts(value))
        else:
            yield from (replace(item, **{one.name: lower}) for lower in _lower(value))


def plainer_faults(scenario: Scenario) -> Iterator[Scenario]:
    """Leave out what need not be said of faults, shorten their bytes, lower their numbers."""
    for number, fault in enumerate(scenario.faults):
        for plainer in _plainer_fault(fault):
            yield replace(scenario, faults=_exchanged(scenario.faults, number, plainer))


def _plainer_fault(fault: Fault) -> Iterator[Fault]:
    for name in _PREDICATES:
        if getattr(fault, name) is not None:
            absent: dict[str, Any] = {name: None}
            yield replace(fault, **absent)
    for lba in _lower(fault.lba):
        yield replace(fault, lba=lba)
    for times in _lower(fault.times):
        yield replace(fault, times=times)
    kind = behaviour.find(fault.behaviour)
    defaults = kind.ARGUMENTS if kind else {}
    for key, value in fault.arguments.items():
        yield replace(fault, arguments={name: held for name, held in fault.arguments.items() if name != key})
        if isinstance(value, Mapping):
            for left in without_parts(list(value.items())):
                yield replace(fault, arguments={**fault.arguments, key: dict(left)})
        elif isinstance(value, str) and key == "hex":
            yield from (replace(fault, arguments={**fault.arguments, key: text}) for text in _shorter_bytes(value))
        elif value != defaults.get(key):
            yield from (replace(fault, arguments={**fault.arguments, key: lower}) for lower in _lower(value))


def _shorter_bytes(text: str) -> Iterator[str]:
    """Yield shorter hexadecimal bytes, and the same with parts of them zero."""
    pairs = [text[at : at + 2] for at in range(0, len(text), 2)]
    length = len(pairs) // 2
    while length:
        yield "".join(pairs[:-length])
        for start in range(0, len(pairs), length):
            part = pairs[start : start + length]
            if any(pair != "00" for pair in part):
                yield "".join((*pairs[:start], *("00" for _ in part), *pairs[start + length :]))
        length //= 2


def plainer_actions(scenario: Scenario) -> Iterator[Scenario]:
    """Leave out arguments that may be left out, and lower numbers."""
    for number, action in enumerate(scenario.actions):
        for plainer in _plainer_action(action):
            yield replace(scenario, actions=_exchanged(scenario.actions, number, plainer))


def _plainer_action(action: Action) -> Iterator[Action]:
    for name, value in action.arguments.items():
        if not ARGUMENTS[action.name][name].required:
            yield Action(action.name, {key: held for key, held in action.arguments.items() if key != name})
        if name != "nsid":
            yield from (Action(action.name, {**action.arguments, name: lower}) for lower in _lower(value))


def _lower(value: Any) -> Iterator[int]:
    """Yield lower numbers: the lowest, then what lies half way, then a little less."""
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        return
    yield from dict.fromkeys(
        lower for lower in (0, 1, value // 64, value // 2, value * 7 // 8, value - 1) if 0 <= lower < value
    )


PASSES: tuple[Reduction, ...] = (
    earlier_faults, fewer_actions, fewer_faults, fewer_controllers,
    plainer_device, plainer_guest, plainer_faults, plainer_actions,
)  # fmt: skip
"""From what takes most away to what takes least."""


def is_namespace_whole(namespace: Namespace) -> bool:
    """Return whether all areas of a namespace lie in it."""
    return namespace.blocks > 0 and all(0 <= first and first + count <= namespace.blocks for first, count in namespace.areas)


def possible(scenario: Scenario) -> bool:
    """Return whether the scenario can be recorded, as far as one can tell."""
    namespaces = [one for controller in scenario.device.controllers for one in controller.namespaces]
    return bool(scenario.actions) and all(map(is_namespace_whole, namespaces))
