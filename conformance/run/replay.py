"""Plan a recorded scenario again from the identity of its evidence, and list what differs from then."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.judging.judge import Verdict, judge
from conformance.run.plan import Campaign, Job, RunRequest, seed_defect, seed_variant
from conformance.suite.selection import select
from lab import drivers
from lab.data import versions
from lab.data.coverage import FILE as COVERAGE
from lab.data.evidence import Evidence
from lab.data.manifest import DriverManifest
from lab.errors import UsageError

COMPARED = ("driver", "accelerator", "qemu", "versions", "lab", "host")
"""What of an identity may differ when the scenario is the same; of the driver, `APART` may without meaning anything."""
APART = frozenset({"driver.path", "accelerator.reason"})
ABSENT = "–"


@dataclass(frozen=True)
class ReplayDifference:
    """A fact that differs from then."""

    what: str
    then: str
    now: str


def plan_again(evidence: Evidence, driver: str = "") -> Campaign:
    """Return the evidence's scenario, device and driver as a campaign; ``driver`` names the manifest if the evidence does not.

    UsageError where the driver or the scenario no longer exists.
    """
    manifest = _manifest(evidence, driver)
    scenario, device = evidence.scenario, evidence.identity.device
    if device not in drivers.devices(manifest):
        raise UsageError(f"the driver {manifest.name!r} cannot be put in front of the device {device!r} any more")
    checks = select().checks_for(scenario)
    job = Job(manifest, device, scenario, tuple(check.id for check in checks))
    covered = (evidence.folder / COVERAGE).is_file()
    request = RunRequest(drivers=(str(manifest.path),), devices=(device,), scenarios=(scenario.id,), coverage=covered)
    return Campaign(request, (manifest,), (job,), replays=evidence.folder)


def former(evidence: Evidence) -> list[Verdict]:
    """Judge the recording that is replayed by today's checks."""
    return judge(evidence, select().checks_for(evidence.scenario))


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[ReplayDifference]:
    """Return the differences of two identities: manifests, files, versions, hashes, machine."""
    one, other = dict(_flat(then)), dict(_flat(now))
    return [
        ReplayDifference(what, one.get(what, ABSENT), other.get(what, ABSENT))
        for what in dict.fromkeys((*one, *other))
        if one.get(what) != other.get(what) and what not in APART
    ]


def _flat(identity: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    def leaves(value: Any, name: str) -> Iterator[tuple[str, str]]:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                yield from leaves(inner, f"{name}.{key}")
        else:
            yield name, value if isinstance(value, str) else json.dumps(value)

    for part in COMPARED:
        if part in identity:
            yield from leaves(identity[part], part)


def _manifest(evidence: Evidence, named: str) -> DriverManifest:
    recorded = evidence.identity.driver
    base, version = versions.split(recorded.name)
    plain = base if base in drivers.names() else recorded.path
    if not named and (not plain or (plain not in drivers.names() and not Path(plain).is_file())):
        where = f"is not at {plain} any more" if plain else "is not among the shipped ones"
        raise UsageError(f"The manifest of the driver {recorded.name!r} {where}.", remedy="name it with --driver")
    manifest = drivers.find(named or (f"{plain}{versions.SEPARATOR}{version}" if version else plain))
    if manifest.name != recorded.name:
        raise UsageError(f"{manifest.path} is the driver {manifest.name!r}; the evidence is of {recorded.name!r}.")
    seeded = seed_defect(manifest.model_copy(update={"path": manifest.path.absolute()}), recorded.variables.get("defect", ""))
    return seed_variant(seeded, recorded.variables.get("variant", ""))
