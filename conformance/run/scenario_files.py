"""Scenarios in files, with what only the suite and the programmable controller know: shipped scenarios, checks, behaviours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from conformance.suite.selection import CHECKS, find_scenario
from lab.controller.faults import check_fault
from lab.data.plan import Action, Scenario
from lab.data.scenario_file import ScenarioFile, read_scenario
from lab.errors import UsageError, nearest


def load_scenarios(names: Iterable[str], seed: int = 0) -> list[Scenario]:
    """Return the scenarios of these files. UsageError for a file that is none, and for two of the same name."""
    found: dict[str, Path] = {}
    scenarios = []
    for path in dict.fromkeys(map(Path, names)):
        scenario = load_scenario(path, seed)
        if other := found.get(scenario.id):
            raise UsageError(f"two scenarios are named {scenario.id!r}: {other} and {path}", remedy="rename one of the files")
        found[scenario.id] = path
        scenarios.append(scenario)
    return scenarios


def load_scenario(path: Path, seed: int = 0) -> Scenario:
    """Return the scenario of a file. UsageError, which names file and key, for a file that is none."""
    read = read_scenario(path, lambda name, drawn: find_scenario(name, seed if drawn is None else drawn))
    for number, fault in enumerate(read.scenario.faults):
        try:
            check_fault(fault)
        except UsageError as error:
            raise UsageError(f"{path}: fault[{number}]: {error.what}", remedy=error.remedy) from error
    for number, check in enumerate(read.checks or ()):
        if check not in CHECKS:
            raise UsageError(f"{path}: checks[{number}]: there is no check {check!r}{nearest(check, CHECKS)}")
    return replace(read.scenario, checks=_checks(read))


def _checks(read: ScenarioFile) -> tuple[str, ...]:
    """Return the checks of single scenarios that judge this one.

    Those of the scenario that it is made from judge it where it still asks their question: nothing was taken away of what is
    asked or goes wrong, and the device is the same.
    """
    if read.checks is not None or read.origin is None:
        return read.checks or ()
    here, origin = read.scenario, read.origin
    if here.device != origin.device or here.guest != origin.guest or here.hostile != origin.hostile:
        return ()
    if not all(fault in here.faults for fault in origin.faults) or not _contains(here.actions, origin.actions):
        return ()
    return tuple(check.id for check in CHECKS.values() if origin.id in check.scenarios)


def _contains(actions: Sequence[Action], wanted: Sequence[Action]) -> bool:
    """Return whether all wanted actions are there, in their order."""
    left = iter(actions)
    return all(action in left for action in wanted)
