"""Costs of scenarios, by which slow ones start early and shards are even: from earlier runs, else estimated.

A wrong cost makes a run longer, never different: verdicts do not depend on the order.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from conformance.judging.models import Results
from lab.data.plan import Scenario

FILE = "seconds.json"
"""In the cache: driver/device/scenario → seconds of its last recording on this machine."""
START_SECONDS, ACTION_SECONDS, FAULT_SECONDS = 0.8, 0.05, 0.5
"""Estimates: a guest and its device; one question to the driver; one fault."""
WAITS = frozenset({"io-queues/no-queue", "read/out-of-order"})
WAIT_SECONDS = 15.0
"""Estimate for scenarios in which a driver may wait for its own time-out."""
ROUND = 8
"""Scenarios of a round (`in_rounds`)."""


def estimate(scenario: Scenario) -> float:
    """Return estimated seconds, the same on every machine."""
    waits = WAIT_SECONDS * (scenario.id in WAITS)
    return START_SECONDS + ACTION_SECONDS * len(scenario.actions) + FAULT_SECONDS * len(scenario.faults) + waits


def measured(results: Results) -> dict[str, float]:
    """Return driver/device/scenario → seconds of every scenario that was recorded at the first attempt."""
    return {"/".join(run.key): run.seconds for run in results.runs if not run.retry_reason}


def remembered(cache: Path | None) -> dict[str, float]:
    """Return the seconds that this machine remembers; none without a readable cache."""
    if cache is not None:
        with suppress(OSError, ValueError, AttributeError):
            kept = json.loads((cache / FILE).read_text(encoding="utf-8"))
            return {str(name): float(seconds) for name, seconds in kept.items()}
    return {}


def of_other_versions(names: Iterable[str], known: Mapping[str, float]) -> dict[str, float]:
    """Return for driver/device/scenario what is known of other versions of that driver: the most of them.

    They wait for the same time-outs, which no estimate knows.
    """
    most: dict[str, float] = {}
    for name, seconds in known.items():
        key = _without_version(name)
        most[key] = max(most.get(key, 0.0), seconds)
    return {name: most[key] for name in names if (key := _without_version(name)) in most}


def _without_version(name: str) -> str:
    driver, _, rest = name.partition("/")
    return f"{driver.partition('@')[0]}/{rest}"


def remember(cache: Path | None, found: Mapping[str, float]) -> None:
    """Add to what this machine remembers. Of two runs that end at the same moment one may be lost: these are estimates."""
    if cache is None or not found:
        return
    draft = cache / f"{FILE}.{os.getpid()}"
    with suppress(OSError):
        draft.write_text(json.dumps({**remembered(cache), **found}, indent=0, sort_keys=True), encoding="utf-8")
        draft.replace(cache / FILE)


def split(costs: Mapping[str, float], parts: int) -> list[list[str]]:
    """Split names into ``parts`` parts of even cost: the dearest first, each to the part that has least so far.

    The same for the same costs, whatever their order. No part costs more than the dearest name above another.
    """
    loads = [0.0] * parts
    found: list[list[str]] = [[] for _ in range(parts)]
    for name in dearest_first(costs, costs):
        least = loads.index(min(loads))
        loads[least] += costs[name]
        found[least].append(name)
    return found


def in_rounds(costs: Mapping[str, float]) -> list[str]:
    """Order names in rounds, each from one of the dearest down to one of the cheapest; the dearest comes first.

    The slowest scenarios wait for a driver's time-out: all of them at once would leave the processors idle, and one that comes
    last would keep a single worker busy.
    """
    names = dearest_first(costs, costs)
    rounds = math.ceil(len(names) / ROUND)
    return [name for first in range(rounds) for name in names[first::rounds]]


def dearest_first(names: Iterable[str], costs: Mapping[str, float]) -> list[str]:
    """Sort by cost, and by name where costs are equal."""
    return sorted(names, key=lambda name: (-costs[name], name))
