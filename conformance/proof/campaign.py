"""The proof of both halves, over several processes: every defect is caught, and no legal driver is failed.

The unmodified driver and each combination of legal variants go through every scenario: whatever fails there is a false alarm.
So does the liar, a driver that answers correctly and does nothing: no check of what the device or the disk saw may pass it.
All of it happens in process, on the programmable controller, with every check judging.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

from conformance.proof.defects import Examined, examine, false_alarms, false_passes, scenarios_of
from conformance.proof.recording import Alarm, one_place
from conformance.proof.variants import Complaint, VariantReport, complaints, shows, unknown_names
from conformance.suite.selection import SCENARIOS
from lab.defects import DEFECTS, Defect
from lab.errors import UsageError
from lab.variants import JOIN, VARIANTS, Variant, groups

OBJECTS = 50_000
"""Objects that a worker makes before it looks for garbage: a recording has so many, of which nearly all go without a search."""


@dataclass(frozen=True)
class CampaignReport:
    """What came of a campaign."""

    examined: tuple[Examined, ...]
    false_alarms: tuple[Alarm, ...]
    """On the unmodified driver."""
    false_passes: tuple[Alarm, ...]
    """On the liar."""
    variants: tuple[VariantReport, ...] = ()
    together: tuple[Complaint, ...] = ()
    """Alarms that only a combination of variants raises."""

    @property
    def caught(self) -> int:
        """How many defects are caught by their own check."""
        return sum(bool(one.caught) for one in self.examined)

    @property
    def alarmed(self) -> int:
        """How many legal variants raise an alarm."""
        return sum(bool(one.alarms) for one in self.variants)

    @property
    def good(self) -> bool:
        """Everything is caught, and nothing else is wrong."""
        return self.caught == len(self.examined) and not (
            self.false_alarms or self.false_passes or self.errors or self.together or self.alarmed or self.invisible
        )

    @property
    def errors(self) -> tuple[Alarm, ...]:
        """What the lab could not judge."""
        return tuple(alarm for one in self.examined for alarm in one.errors)

    @property
    def invisible(self) -> tuple[str, ...]:
        """Variants whose recordings do not differ from the unmodified driver's where they should: they prove nothing."""
        return tuple(one.variant for one in self.variants if not one.shows)

    def to_json(self) -> dict[str, Any]:
        """Return it as ``nvme-lab defects --json`` prints it."""
        return {
            "defects": [one.to_json() for one in self.examined],
            "caught": self.caught,
            "total": len(self.examined),
            "false_alarms": [vars(alarm) for alarm in self.false_alarms],
            "false_passes": [vars(alarm) for alarm in self.false_passes],
            "errors": [vars(alarm) for alarm in self.errors],
            "variants": [one.to_json() for one in self.variants],
            "variants_alarmed": self.alarmed,
            "variants_total": len(self.variants),
            "combinations": [{"variants": one.variant.split(JOIN), **vars(one.alarm)} for one in self.together],
        }


@dataclass
class Share:
    """What one process does in one scenario: it records the unmodified driver once for all of it, and makes its images once."""

    scenario: str
    seed: int
    unmodified: bool = False
    """Whether the unmodified driver and the liar go through it."""
    defects: list[str] = field(default_factory=list)
    """Those that can show here first; each goes on through its other scenarios until it is caught."""
    shown: list[str] = field(default_factory=list)
    """Variants that are said to show here first."""
    sets: list[list[str]] = field(default_factory=list)
    """Variants that go through it together."""

    @property
    def recordings(self) -> int:
        """How many recordings it takes at least."""
        return 2 * self.unmodified + len(self.defects) + len(self.shown) + len(self.sets)


@dataclass(frozen=True)
class Done:
    """What came of a share."""

    false_alarms: list[Alarm]
    false_passes: list[Alarm]
    examined: dict[str, Examined]
    shown: dict[str, str]
    complaints: list[list[Complaint]]


def _do(share: Share) -> Done:
    scenario, seed = share.scenario, share.seed
    with one_place():
        return Done(
            false_alarms(scenario, seed) if share.unmodified else [],
            false_passes(scenario, seed) if share.unmodified else [],
            {id: examine(id, seed) for id in share.defects},
            {id: _shows(id, seed) for id in share.shown},
            [complaints(scenario, seed, ids) for ids in share.sets],
        )


def _prepare_worker() -> None:
    """Spare Python the search for garbage among what was imported, which stays to the end."""
    gc.freeze()
    gc.set_threshold(OBJECTS)


def campaign(
    defects: Iterable[Defect],
    variants: Iterable[Variant] = (),
    *,
    seed: int = 0,
    jobs: int | None = None,
    alone: bool = False,
    on_done: Callable[[Examined], None] | None = None,
) -> CampaignReport:
    """Run these defects and legal variants, ``jobs`` at once (None: one a processor), and the unmodified driver.

    Where all defects are run, that one goes through all scenarios, else through those where they can show. Variants go
    through all scenarios, in combinations, or ``alone`` one by one. A defect or variant that names what does not exist is
    reported as missed or invisible; the campaign goes on.
    """
    ids, chosen = [defect.id for defect in defects], list(variants)
    scenarios = list(SCENARIOS) if set(ids) >= set(DEFECTS) else list(dict.fromkeys(s for id in ids for s in _scenarios(id)))
    sets = [[one] for one in chosen] if alone else groups(chosen)
    shares: dict[str, Share] = {}

    def share(name: str) -> Share:
        return shares.setdefault(name, Share(name, seed))

    for id in ids:
        share(next(iter(_scenarios(id)), "")).defects.append(id)
    for one in chosen:
        share(next(iter(one.scenarios), "")).shown.append(one.id)
    for name in scenarios:
        share(name).unmodified = True
    for name in SCENARIOS if sets else ():
        share(name).sets = [[one.id for one in group] for group in sets]
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])  # so the suite is imported once for all workers
    with ProcessPoolExecutor(jobs or len(os.sched_getaffinity(0)), context, _prepare_worker) as pool:
        try:
            longest_first = sorted(shares.values(), key=lambda one: -one.recordings)
            futures = {one.scenario: pool.submit(_do, one) for one in longest_first}
            examined = []
            for id in ids:
                examined.append(futures[next(iter(_scenarios(id)), "")].result().examined[id])
                if on_done:
                    on_done(examined[-1])
            done = {name: future.result() for name, future in futures.items()}
        finally:
            pool.shutdown(cancel_futures=True)  # an interrupted campaign waits for nothing that has not begun
    # in the order of the sets, and in each of the scenarios
    reported = [one for number in range(len(sets)) for name in SCENARIOS for one in done[name].complaints[number]]
    seen = {id: where for one in done.values() for id, where in one.shown.items()}
    return CampaignReport(
        tuple(examined),
        tuple(alarm for name in scenarios for alarm in done[name].false_alarms),
        tuple(alarm for name in scenarios for alarm in done[name].false_passes),
        tuple(VariantReport(one.id, seen[one.id], tuple(c.alarm for c in reported if c.variant == one.id)) for one in chosen),
        tuple(complaint for complaint in reported if JOIN in complaint.variant),
    )


def _scenarios(id: str) -> list[str]:
    """Return where a defect can show; nowhere for one that names no check of the suite."""
    try:
        return scenarios_of(DEFECTS[id])
    except UsageError:
        return []


def _shows(id: str, seed: int) -> str:
    """Return where a variant shows, and "" for one that names what does not exist."""
    variant = VARIANTS[id]
    return "" if unknown_names(variant) else shows(variant, seed)
