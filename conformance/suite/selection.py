"""The whole suite: the scenarios and checks of every stage and profile, and what of them a selection means."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import conformance.suite.profiles.bare_metal
import conformance.suite.profiles.hand_over
import conformance.suite.profiles.passthrough
import conformance.suite.profiles.performance
import conformance.suite.profiles.servicing
import conformance.suite.profiles.zoned
import conformance.suite.rules
import conformance.suite.stages.admin_queue
import conformance.suite.stages.claims
import conformance.suite.stages.data_pointers
import conformance.suite.stages.detect
import conformance.suite.stages.features
import conformance.suite.stages.fields
import conformance.suite.stages.identify
import conformance.suite.stages.io_queues
import conformance.suite.stages.leftovers
import conformance.suite.stages.lending
import conformance.suite.stages.limits
import conformance.suite.stages.multi_namespace
import conformance.suite.stages.multiqueue
import conformance.suite.stages.offers
import conformance.suite.stages.power
import conformance.suite.stages.queue_memory
import conformance.suite.stages.read
import conformance.suite.stages.refused
import conformance.suite.stages.registers
import conformance.suite.stages.reset
import conformance.suite.stages.settings
import conformance.suite.stages.several
import conformance.suite.stages.situations
import conformance.suite.stages.values
import conformance.suite.stages.vectors
import conformance.suite.stages.waiting
import conformance.suite.stages.write  # noqa: F401  (importing a stage declares its scenarios and checks)
from conformance.suite.check import CHECKS, EVERY, Check
from conformance.suite.scenario import SCENARIOS, Template
from lab import extensions
from lab.data.manifest import PROFILES, STAGES
from lab.data.plan import Scenario
from lab.errors import UsageError, nearest

for _brought in extensions.points(extensions.CHECKS):  # of other packages
    extensions.imported(_brought)

OF_THE_USER = ("passthrough",)
"""Profiles whose recordings hold commands that the driver did not make up itself."""

__all__ = ["CHECKS", "SCENARIOS", "Selection", "find_scenario", "profiles", "select", "stages"]


def stages() -> list[str]:
    """Return the stages that have checks, in the order of building a driver; what holds in all of them comes last."""
    have = {check.stage for check in CHECKS.values()}
    return [name for name in STAGES if name in have] + sorted(have - {*STAGES, *PROFILES})


def profiles() -> list[str]:
    """Return the profiles that have checks."""
    have = {check.stage for check in CHECKS.values()}
    return [name for name in PROFILES if name in have]


def find_scenario(name: str, seed: int) -> Scenario:
    """Return a scenario of the suite, drawn from a seed; UsageError for an unknown one."""
    _known("scenario", [name], SCENARIOS)
    return SCENARIOS[name].resolve(seed)


@dataclass(frozen=True)
class Selection:
    """What to record, and what to judge it by."""

    scenarios: tuple[Template, ...]
    checks: tuple[Check, ...]

    def checks_of(self, scenario: str) -> list[Check]:
        """Return the selected checks that judge this scenario: its own, and every invariant.

        In a passthrough recording only the rules of every stage are invariants: its commands are the user's, not the driver's.
        A scenario that is none of the suite's, such as `lab.testing` records, is judged by the invariants.
        """
        return self._judging(scenario, SCENARIOS[scenario].stage if scenario in SCENARIOS else "", ())

    def checks_for(self, scenario: Scenario) -> list[Check]:
        """Return the selected checks that judge this scenario, which may be that of a file: by the checks it names, too."""
        return self._judging(scenario.id, scenario.stage, scenario.checks)

    def _judging(self, scenario: str, stage: str, named: Collection[str]) -> list[Check]:
        invariants = {
            check.id for check in self.checks if check.invariant and (check.stage == EVERY or stage not in OF_THE_USER)
        }
        return [check for check in self.checks if check.id in invariants or scenario in check.scenarios or check.id in named]


def select(
    stages_named: Iterable[str] = (),
    checks: Collection[str] = (),
    scenarios: Collection[str] = (),
    profiles_named: Iterable[str] = (),
) -> Selection:
    """Return what these stages, checks, scenarios and profiles select; no names select all. UsageError for unknown names.

    A stage is recorded by its own scenarios and judged by its checks and by the invariants of all stages. A check alone
    is recorded by the scenarios that it names, or by its stage's.
    """
    stages_named, profiles_named = list(stages_named), list(profiles_named)
    _known("stage", stages_named, stages())
    _known("profile", profiles_named, profiles())
    names = [*stages_named, *profiles_named]
    _known("check", checks, CHECKS)
    _known("scenario", scenarios, SCENARIOS)
    chosen = [CHECKS[name] for name in checks] or [
        check for check in CHECKS.values() if not names or check.stage in names or check.invariant
    ]
    if scenarios:
        wanted = set(scenarios)
    elif checks:
        wanted = {s for check in chosen for s in check.scenarios or _of_stage(check.stage)}
    else:
        wanted = {s for s, template in SCENARIOS.items() if not names or template.stage in names}
        wanted |= {s for check in chosen if names and check.stage in names for s in check.scenarios}
    return Selection(tuple(t for name, t in SCENARIOS.items() if name in wanted), tuple(chosen))


def _of_stage(stage: str) -> list[str]:
    return [name for name, template in SCENARIOS.items() if template.stage == stage] or list(SCENARIOS)[:1]


def _known(what: str, names: Iterable[str], valid: Collection[str]) -> None:
    for name in names:
        if name not in valid:
            raise UsageError(f"there is no {what} {name!r}{nearest(name, valid)}", remedy=f"nvme-lab list {what}s shows all")
