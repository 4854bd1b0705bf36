"""The whole suite: every stage's scenarios and checks, and what of them a selection means."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import conformance.suite.rules
import conformance.suite.stages.admin_queue
import conformance.suite.stages.detect
import conformance.suite.stages.features
import conformance.suite.stages.identify
import conformance.suite.stages.io_queues
import conformance.suite.stages.multi_namespace
import conformance.suite.stages.multiqueue
import conformance.suite.stages.read
import conformance.suite.stages.reset
import conformance.suite.stages.situations
import conformance.suite.stages.write  # noqa: F401  (importing a stage declares its scenarios and checks)
from conformance.suite.check import CHECKS, Check
from conformance.suite.scenario import SCENARIOS, Template
from lab import extensions
from lab.data.manifest import STAGES
from lab.errors import UsageError, nearest

for _brought in extensions.points(extensions.CHECKS):  # of other packages
    extensions.imported(_brought)

__all__ = ["CHECKS", "SCENARIOS", "Selection", "select", "stages"]


def stages() -> list[str]:
    """The stages that have checks, in the order of building a driver; what holds in all of them comes last."""
    have = {check.stage for check in CHECKS.values()}
    return [name for name in STAGES if name in have] + sorted(have - set(STAGES))


@dataclass(frozen=True)
class Selection:
    """What to record, and what to judge it by."""

    scenarios: tuple[Template, ...]
    checks: tuple[Check, ...]

    def checks_of(self, scenario: str) -> list[Check]:
        """The selected checks that judge this scenario: its own, and every invariant."""
        return [check for check in self.checks if check.invariant or scenario in check.scenarios]


def select(names: Iterable[str] = (), checks: Collection[str] = (), scenarios: Collection[str] = ()) -> Selection:
    """What stages, checks and scenarios of these names mean; nothing named means all. UsageError for unknown names.

    A stage is recorded by its own scenarios and judged by its checks and by the invariants of all stages. A check alone
    is recorded by the scenarios that it names, or by its stage's.
    """
    names = list(names)
    _known("stage", names, stages())
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
            raise UsageError(f"there is no {what} {name!r}{nearest(name, valid)}", remedy=f"nvme-lab list {what}s tells all")
