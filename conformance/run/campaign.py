"""What a run is going to do: drivers × devices × scenarios × checks, all of it resolved before anything starts.

A `Campaign` is plain data. The process that plans it sends it to the workers, so that all of them mean the same.
"""

from __future__ import annotations

import copyreg
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Any

from conformance.judging.results import DriverEntry, KnownEntry, LeftOut, Results, ShardEntry, read
from conformance.run import costs
from conformance.suite.selection import CHECKS, SCENARIOS, Selection, select
from lab import defects, drivers
from lab.data.manifest import STAGES, DriverManifest
from lab.data.plan import DeviceKind, Scenario
from lab.device import lab as lab_device
from lab.device import qemu as qemu_device
from lab.errors import LabError, UsageError, nearest
from lab.settings import Settings
from lab.toolchain import Qemu, Toolchain, prepare
from lab.toolchain.qemu import dotted

DEFAULT_DRIVER = "linux"
REFERENCE = "reference"
DEFAULT_SEED = 0
"""Fixed, so that a failure in CI is the same failure at home."""
DEVICES: tuple[DeviceKind, ...] = ("qemu", "lab")
"""What can be recorded on."""
DEFAULT_DEVICES: tuple[DeviceKind, ...] = ("qemu", "lab")

UNEQUIPPED = Toolchain(None, None)
"""Before `equip`."""

Progress = Callable[[str], None]


def _read_only(content: dict[str, Any]) -> MappingProxyType[str, Any]:
    return MappingProxyType(content)


# A toolchain holds read-only mappings, which pickle does not know.
copyreg.pickle(MappingProxyType, lambda proxy: (_read_only, (dict(proxy),)))


@dataclass(frozen=True)
class Request:
    """What the user asked for; nothing named means all."""

    drivers: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    scenarios: tuple[str, ...] = ()
    seed: int = DEFAULT_SEED
    strict: bool = False
    defect: str = ""  # seeded into the reference driver
    shard: str = ""  # "2/5": only this part of the scenarios; "" is all of them
    times: Path | None = None  # earlier results, by whose seconds scenarios are ordered and split
    only: tuple[str, ...] = ()  # driver/device/scenario; none: all


@dataclass(frozen=True)
class Job:
    """One scenario on one driver and device: recorded once, judged by each of its checks."""

    driver: DriverManifest
    device: DeviceKind
    scenario: Scenario
    checks: tuple[str, ...]

    @property
    def name(self) -> str:
        """driver/device/scenario: its test's name, and its evidence's folder."""
        return f"{self.driver.name}/{self.device}/{self.scenario.id}"


@dataclass(frozen=True)
class Campaign:
    """Everything that a worker must know. ``out`` is the folder of results."""

    request: Request
    drivers: tuple[DriverManifest, ...]
    jobs: tuple[Job, ...]
    left_out: tuple[LeftOut, ...] = ()
    toolchain: Toolchain = UNEQUIPPED
    out: Path = Path()
    costs: Mapping[str, float] = field(default_factory=dict)
    """Seconds that each job is expected to take."""
    shard: ShardEntry | None = None
    replays: Path | None = None
    """The evidence whose scenario, seed and all, this is once more."""

    @property
    def portable(self) -> Campaign:
        """Without what is true of this machine only."""
        return replace(self, toolchain=UNEQUIPPED, out=Path())

    @property
    def in_rounds(self) -> list[Job]:
        """The jobs as they are to be started."""
        by_name = {job.name: job for job in self.jobs}
        return [by_name[name] for name in costs.in_rounds({name: self.costs.get(name, 0.0) for name in by_name})]

    def results(self) -> Results:
        """Results without a verdict yet."""
        return Results(
            lab=_lab(self),
            drivers={manifest.name: _entry(manifest, self.request) for manifest in self.drivers},
            narrowed=bool(self.request.checks or self.request.scenarios or self.request.only),
            strict=self.request.strict,
            shards=[self.shard] if self.shard else [],
            left_out=list(self.left_out),
        )


def plan(request: Request) -> Campaign:
    """What the request means. UsageError for a name that does not exist."""
    if request.shard:
        _shard_numbers(request.shard)
    selection = select(request.stages, request.checks, request.scenarios)
    names = tuple(dict.fromkeys(request.drivers)) or (_default(request),)
    manifests = tuple(_placed(seeded(drivers.find(name), request.defect)) for name in names)
    _check_manifests(manifests)
    devices = [device for device in DEVICES if device in (request.devices or DEFAULT_DEVICES)]
    for device in request.devices:
        if device not in DEVICES:
            raise UsageError(f"there is no device {device!r}{nearest(device, DEVICES)}")
    _check_reach(manifests, devices)
    jobs = [
        job
        for manifest in manifests
        for device in drivers.devices(manifest)
        if device in devices
        for template in selection.scenarios
        if (job := _job(manifest, device, template.resolve(request.seed), selection)).checks
        and (not request.only or job.name in request.only)
    ]
    claimed = [job for job in jobs if job.scenario.stage in job.driver.stages]
    left_out = tuple(
        _left_out(job, f"the manifest does not claim stage {job.scenario.stage}") for job in jobs if job not in claimed
    )
    return Campaign(request, manifests, tuple(claimed), left_out)


def _default(request: Request) -> str:
    return REFERENCE if request.defect else DEFAULT_DRIVER


def _placed(manifest: DriverManifest) -> DriverManifest:
    """Wherever it is used: workers need not have our working folder."""
    return manifest.model_copy(update={"path": manifest.path.absolute()})


def seeded(manifest: DriverManifest, defect: str) -> DriverManifest:
    """The driver with a mistake in it, if one is asked for. UsageError for an unknown one, or another driver than ours."""
    if not defect:
        return manifest
    if manifest.adapter not in drivers.SEEDABLE:
        raise UsageError(f"no defect can be seeded into the driver {manifest.name!r}", remedy=f"--driver {REFERENCE}")
    if defect != defects.LIAR:
        defects.find(defect)
    return manifest.model_copy(update={"variables": {**manifest.variables, "defect": defect}})


def equip(campaign: Campaign, settings: Settings, progress: Progress) -> Campaign:
    """The campaign with its toolchain, which is fetched and built if need be, and without what the device cannot be."""
    prepared = toolchain(campaign, settings, progress)
    for manifest in campaign.drivers:
        drivers.adapter(manifest, prepared)  # a manifest that does not suit its adapter is wrong usage, said at once
    obstacles = {job.name: obstacle(job, prepared.qemu_for(job.driver.boot.arch)) for job in campaign.jobs}
    left_out = tuple(_left_out(job, why) for job in campaign.jobs if (why := obstacles[job.name]) is not None)
    campaign = replace(
        campaign,
        toolchain=prepared,
        jobs=tuple(job for job in campaign.jobs if obstacles[job.name] is None),
        left_out=(*campaign.left_out, *left_out),
    )
    return _priced(_shard(campaign))


def equip_offline(campaign: Campaign, settings: Settings) -> tuple[Campaign, str]:
    """The campaign with what the cache holds, or as it is; and why nobody can say yet what the device cannot be."""
    try:
        return equip(campaign, replace(settings, offline=True), lambda text: None), ""
    except UsageError:
        raise
    except LabError as error:
        return _priced(_shard(campaign)), error.what


def toolchain(campaign: Campaign, settings: Settings, progress: Progress) -> Toolchain:
    """All that the campaign's drivers want of this machine."""
    wants = dict.fromkeys(want for manifest in campaign.drivers for want in drivers.wants(manifest))
    return prepare(settings, tuple(wants), progress)


def _priced(campaign: Campaign) -> Campaign:
    """With what each job will cost, by all that is known here."""
    here = costs.remembered(cache_root(campaign))
    return replace(campaign, costs={**_estimates(campaign), **here, **_times(campaign.request)})


def _shard(campaign: Campaign) -> Campaign:
    """The asked part of the campaign. It is split by what all machines know alike, so that each finds the same parts."""
    if not campaign.request.shard:
        return campaign
    number, of = _shard_numbers(campaign.request.shard)
    known = _times(campaign.request)
    seconds = {name: known.get(name, estimate) for name, estimate in _estimates(campaign).items()}
    parts = costs.split(seconds, of)
    meaning = replace(campaign.request, shard="", times=None), parts
    return replace(
        campaign,
        jobs=tuple(job for job in campaign.jobs if job.name in set(parts[number - 1])),
        shard=ShardEntry(number=number, of=of, split=sha256(repr(meaning).encode()).hexdigest()[:16]),
    )


def _shard_numbers(text: str) -> tuple[int, int]:
    """ "2/5" as numbers; UsageError for what is no shard."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    number, of = map(int, found.groups()) if found else (0, 0)
    if not 1 <= number <= of:
        raise UsageError(f"there is no shard {text!r}", remedy="a shard is its number and how many there are: 1/5, 2/5, … 5/5")
    return number, of


def _estimates(campaign: Campaign) -> dict[str, float]:
    return {job.name: costs.estimate(job.scenario) for job in campaign.jobs}


def _times(request: Request) -> dict[str, float]:
    return costs.measured(read(request.times)) if request.times else {}


def cache_root(campaign: Campaign) -> Path | None:
    return campaign.toolchain.cache.root if campaign.toolchain.cache else None


def _job(manifest: DriverManifest, device: DeviceKind, scenario: Scenario, selection: Selection) -> Job:
    return Job(manifest, device, scenario, tuple(check.id for check in selection.checks_of(scenario.id)))


def obstacle(job: Job, qemu: Qemu | None) -> str | None:
    """Why the device cannot be what the scenario asks for; None if it can. ``qemu`` is None where none takes part."""
    scenario, version = job.scenario, qemu.version if qemu else None
    if scenario.guest.get("in_process") and drivers.in_qemu(job.driver):
        return "it takes too long in a guest"
    if job.device == "lab":
        return lab_device.unservable(scenario.device, version, scenario.faults)
    if scenario.faults:
        return "QEMU's own device serves no faults"
    return qemu_device.unservable(scenario.device, version or ())


def _left_out(job: Job, reason: str) -> LeftOut:
    return LeftOut(driver=job.driver.name, device=job.device, scenario=job.scenario.id, reason=reason)


def _check_manifests(manifests: Sequence[DriverManifest]) -> None:
    seen: dict[str, DriverManifest] = {}
    for manifest in manifests:
        if (other := seen.setdefault(manifest.name, manifest)) is not manifest:
            raise UsageError(f"two drivers are named {manifest.name!r}: {other.path} and {manifest.path}")
        for known in manifest.known:
            if known.check not in CHECKS:
                raise UsageError(f"{manifest.path}: known: there is no check {known.check!r}{nearest(known.check, CHECKS)}")


def _check_reach(manifests: Sequence[DriverManifest], devices: Sequence[DeviceKind]) -> None:
    """UsageError where no driver can be put in front of any of these devices."""
    reached = {manifest.name: drivers.devices(manifest) for manifest in manifests}
    if not any(device in devices for reaches in reached.values() for device in reaches):
        each = "; ".join(f"{name} reaches {' and '.join(reaches)}" for name, reaches in reached.items())
        raise UsageError(f"No driver reaches the device {' or '.join(devices)}: {each}.", remedy="name another device, or none")


def _entry(manifest: DriverManifest, request: Request) -> DriverEntry:
    known = [KnownEntry(check=k.check, reason=k.reason, devices=list(k.devices)) for k in manifest.known]
    return DriverEntry(stages=list(manifest.stages), asked=_asked(manifest, request), known=known)


def _asked(manifest: DriverManifest, request: Request) -> list[str]:
    """The stages that must not stay without a verdict: the named ones, or else those that the driver claims."""
    if request.stages:
        return list(dict.fromkeys(request.stages))
    if request.checks:
        return list(dict.fromkeys(CHECKS[check].stage for check in request.checks))
    if request.scenarios:
        return list(dict.fromkeys(SCENARIOS[scenario].stage for scenario in request.scenarios))
    if request.only:
        return list(dict.fromkeys(job.split("/")[2] for job in request.only))
    have = {check.stage for check in CHECKS.values()}
    return [stage for stage in STAGES if stage in have and stage in manifest.stages]


def _lab(campaign: Campaign) -> dict[str, Any]:
    qemu = campaign.toolchain.qemu
    return {
        "version": lab_version(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seed": None if campaign.replays else campaign.request.seed,
        **({"replays": str(campaign.replays)} if campaign.replays else {}),
        "asked": {"drivers": list(campaign.request.drivers) or [_default(campaign.request)], "defect": campaign.request.defect},
        "qemu": qemu and {"version": dotted(qemu.version), "origin": qemu.origin, "sha256": qemu.sha256},
        "versions": {name: dict(facts) for name, facts in campaign.toolchain.versions.items()},
        "host": {
            "system": platform.system(),
            "release": platform.release(),
            "machine": platform.machine(),
            "cpus": len(os.sched_getaffinity(0)),
            "python": ".".join(map(str, sys.version_info[:3])),
        },
    }


def lab_version() -> str:
    try:
        return version("nvme-lab")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "unknown"
