"""What a run records: drivers × devices × scenarios × checks, resolved before anything starts.

A `Campaign` is plain data. The process that plans it sends it to the workers, so that all of them mean the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

from conformance.judging.files import read
from conformance.judging.models import CoverEntry, LeftOut, ShardEntry
from conformance.run import costs
from conformance.run.cover import cover, key_of
from conformance.run.scenario_files import load_scenarios
from conformance.run.scenario_report import scope
from conformance.suite.check import EVERY
from conformance.suite.selection import CHECKS, Selection, select
from lab import defects, drivers, variants
from lab.data.manifest import PROFILES, DriverManifest, part_name
from lab.data.plan import MACHINE, DeviceKind, Scenario
from lab.data.scenario_file import STAGE as FILE_STAGE
from lab.data.scenario_file import is_file_name
from lab.errors import UsageError, nearest
from lab.toolchain import Toolchain

DEFAULT_DRIVER = "linux"
REFERENCE = "reference"
DEFAULT_SEED = 0
"""Fixed, so that a failure in CI is the same failure at home."""
DEVICES: tuple[DeviceKind, ...] = get_args(DeviceKind)
"""Devices that can be recorded; all of them by default."""

WITHOUT_WIRE = frozenset({"out", "store"})
"""Witnesses that a real machine has."""

UNPREPARED = Toolchain(None, None)
"""The toolchain of a campaign that `conformance.run.prepare` has not prepared."""


@dataclass(frozen=True)
class RunRequest:
    """The selection of a user; an empty field selects everything."""

    drivers: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    scenarios: tuple[str, ...] = ()
    seed: int = DEFAULT_SEED
    strict: bool = False
    defect: str = ""  # seeded into the reference driver
    variant: str = ""  # legal variants of the reference driver, joined by "+"
    shard: str = ""  # "2/5": only this part of the scenarios; "" is all of them
    times: Path | None = None  # earlier results, by whose seconds scenarios are ordered and split
    cover: Path | None = None  # earlier results: only a few scenarios that judge and find all that they did
    coverage: bool = False  # which code of the driver each scenario executes
    stop_at: str = ""  # stop the guest there, and write down where it is: an event of lab.recording.stopping, or a check
    only: tuple[str, ...] = ()  # driver/device/scenario; none: all
    ids: tuple[str, ...] = ()  # items of pytest by their ids; none: all
    confirm: bool = False  # under pytest: what failed in a new way is recorded once more before it is reported


@dataclass(frozen=True)
class Job:
    """One scenario on one driver and device: recorded once, judged by each of its checks."""

    driver: DriverManifest
    device: DeviceKind
    scenario: Scenario
    checks: tuple[str, ...]
    repetition: int = 0
    """Which of several recordings of the same scenario, from 1 on; 0 where there is but one."""

    @property
    def name(self) -> str:
        """Return driver/device/scenario: the name of its test and of its evidence folder."""
        return f"{self.driver.name}/{self.device}/{self.scenario.id}"

    @property
    def scope(self) -> str:
        """Return the name with the number of the repetition."""
        return scope(self.name, self.repetition)


@dataclass(frozen=True)
class Campaign:
    """Everything that a worker must know. ``out`` is the folder of results."""

    request: RunRequest
    drivers: tuple[DriverManifest, ...]
    jobs: tuple[Job, ...]
    left_out: tuple[LeftOut, ...] = ()
    toolchain: Toolchain = UNPREPARED
    out: Path = Path()
    costs: Mapping[str, float] = field(default_factory=dict)
    """Expected seconds of each job."""
    shard: ShardEntry | None = None
    cover: tuple[CoverEntry, ...] = ()
    """How many scenarios were chosen, where not all that were selected are recorded."""
    replays: Path | None = None
    """The evidence whose scenario, seed included, is recorded again."""

    @property
    def portable(self) -> Campaign:
        """Return the campaign without what holds on this machine only."""
        return replace(self, toolchain=UNPREPARED, out=Path())

    @property
    def in_rounds(self) -> list[Job]:
        """Return the jobs in the order in which they start: one repetition after the other."""
        found = []
        for repetition in dict.fromkeys(job.repetition for job in self.jobs):
            by_name = {job.name: job for job in self.jobs if job.repetition == repetition}
            found += [by_name[name] for name in costs.in_rounds({name: self.costs.get(name, 0.0) for name in by_name})]
        return found

    def folder_of(self, repetition: int) -> Path:
        """Return the folder of results of a repetition; 0 is a run without any."""
        return self.out / str(repetition) if repetition else self.out

    def repeated(self, times: int) -> Campaign:
        """Return the campaign with each job so many times."""
        return replace(self, jobs=tuple(replace(job, repetition=n) for n in range(1, times + 1) for job in self.jobs))

    @property
    def repetitions(self) -> list[Campaign]:
        """Return each repetition as a campaign with a folder of its own; the campaign itself where there is none."""
        numbers = dict.fromkeys(job.repetition for job in self.jobs)
        jobs = {number: tuple(job for job in self.jobs if job.repetition == number) for number in numbers}
        return [replace(self, jobs=jobs[number], out=self.folder_of(number)) for number in numbers] or [self]


def plan(request: RunRequest, *, only_claimed: bool = True) -> Campaign:
    """Resolve a request. UsageError for a name that does not exist.

    ``only_claimed`` leaves out what the manifests do not claim: it is not judged, but a user may sit down at such a guest.
    """
    if request.shard:
        parse_shard(request.shard)
    asked = request.drivers or (default_driver(request),)
    names = tuple(dict.fromkeys(name for driver in asked for name in drivers.expand(driver)))
    manifests = tuple(
        _with_absolute_path(seed_variant(seed_defect(drivers.find(name), request.defect), request.variant)) for name in names
    )
    files = [name for name in request.scenarios if is_file_name(name)]
    named = [name for name in request.scenarios if name not in files]
    selection = select(request.stages, request.checks, named, request.profiles)
    scenarios = _scenarios(request, files, selection)
    _check_manifests(manifests)
    devices = [device for device in DEVICES if device in (request.devices or DEVICES)]
    for device in request.devices:
        if device not in DEVICES:
            raise UsageError(f"there is no device {device!r}{nearest(device, DEVICES)}")
    _check_reach(manifests, devices)
    jobs = [
        job
        for manifest in manifests
        for device in drivers.devices(manifest)
        if device in devices
        for scenario in scenarios
        if (job := _job(manifest, device, scenario, selection)).checks and (not request.only or job.name in request.only)
    ]
    claimed, unclaimed = list[Job](), list[Job]()
    for job in jobs:
        (claimed if _claims(job) or not only_claimed else unclaimed).append(job)
    left_out = tuple(
        leave_out(job, f"the manifest does not claim {part_name(job.scenario.stage)}")
        for job in unclaimed
        if job.scenario.stage not in PROFILES or job.scenario.stage in request.profiles
        if job.device != MACHINE or job.scenario.stage in request.stages  # where no stage can be judged, that is no news
    )
    return Campaign(request, manifests, tuple(claimed), left_out)


def in_cover(campaign: Campaign) -> Campaign:
    """Return the campaign with the scenarios of a cover only, where one is requested (`conformance.run.cover`)."""
    earlier, jobs = campaign.request.cover, campaign.jobs
    if earlier is None:
        return campaign
    wanted = {key_of(*job.name.split("/", 2)): frozenset(job.checks) for job in jobs}
    chosen = cover(read(earlier), wanted)
    kept = tuple(job for job in jobs if key_of(*job.name.split("/", 2)) in chosen)
    return replace(campaign, jobs=kept, cover=(CoverEntry(result=earlier.absolute().name, scenarios=len(kept), of=len(jobs)),))


def parse_shard(text: str) -> tuple[int, int]:
    """Parse "2/5" into numbers; UsageError for anything else."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    number, of = map(int, found.groups()) if found else (0, 0)
    if not 1 <= number <= of:
        raise UsageError(f"there is no shard {text!r}", remedy="a shard is its number and how many there are: 1/5, 2/5, … 5/5")
    return number, of


def default_driver(request: RunRequest) -> str:
    """Return the driver of a request that names none."""
    return REFERENCE if request.defect or request.variant else DEFAULT_DRIVER


def _seeded(manifest: DriverManifest, request: RunRequest) -> DriverManifest:
    return seed_variant(seed_defect(manifest, request.defect), request.variant)


def seed_defect(manifest: DriverManifest, defect: str) -> DriverManifest:
    """Return the driver with a seeded defect. UsageError for an unknown defect, or for another driver than the lab's own."""
    if not defect:
        return manifest
    if manifest.adapter not in drivers.SEEDABLE:
        raise UsageError(f"no defect can be seeded into the driver {manifest.name!r}", remedy=f"--driver {REFERENCE}")
    if defect != defects.LIAR:
        defects.find(defect)
    return manifest.model_copy(update={"variables": {**manifest.variables, "defect": defect}})


def seed_variant(manifest: DriverManifest, variant: str) -> DriverManifest:
    """Return the driver with legal variants. UsageError for an unknown variant, or for another driver than the lab's own."""
    if not variant:
        return manifest
    if manifest.adapter not in drivers.SEEDABLE:
        raise UsageError(f"the driver {manifest.name!r} has no legal variants", remedy=f"--driver {REFERENCE}")
    variants.find(variant)
    return manifest.model_copy(update={"variables": {**manifest.variables, "variant": variant}})


def leave_out(job: Job, reason: str) -> LeftOut:
    """Return the entry for a job that is not recorded."""
    return LeftOut(driver=job.driver.name, device=job.device, scenario=job.scenario.id, reason=reason)


def _with_absolute_path(manifest: DriverManifest) -> DriverManifest:
    """Return the manifest as workers need it, whose working folder may be another."""
    return manifest.model_copy(update={"path": manifest.path.absolute()})


def _job(manifest: DriverManifest, device: DeviceKind, scenario: Scenario, selection: Selection) -> Job:
    checks = selection.checks_for(scenario)
    if device == MACHINE:
        checks = [one for one in checks if {*one.witnesses} <= WITHOUT_WIRE and one.stage in (scenario.stage, EVERY)]
    return Job(manifest, device, scenario, tuple(check.id for check in checks))


def _scenarios(request: RunRequest, files: Sequence[str], selection: Selection) -> list[Scenario]:
    """Return the selected scenarios: of the suite, unless only files are named, and of files."""
    only_files = files and not (request.stages or request.profiles or len(files) < len(request.scenarios))
    shipped = [] if only_files else [template.resolve(request.seed) for template in selection.scenarios]
    return [*shipped, *load_scenarios(files, request.seed)]


def _claims(job: Job) -> bool:
    """Return whether the manifest claims a scenario's stage; those of files belong to none."""
    return job.scenario.stage in (*job.driver.stages, *job.driver.profiles, FILE_STAGE)


def _check_manifests(manifests: Sequence[DriverManifest]) -> None:
    seen: dict[str, DriverManifest] = {}
    for manifest in manifests:
        if (other := seen.setdefault(manifest.name, manifest)) is not manifest:
            raise UsageError(f"two drivers are named {manifest.name!r}: {other.path} and {manifest.path}")
        for known in manifest.known:
            if known.check not in CHECKS:
                raise UsageError(f"{manifest.path}: known: there is no check {known.check!r}{nearest(known.check, CHECKS)}")


def _check_reach(manifests: Sequence[DriverManifest], devices: Sequence[DeviceKind]) -> None:
    """Raise UsageError where no driver can be put in front of any of these devices."""
    reached = {manifest.name: drivers.devices(manifest) for manifest in manifests}
    if not any(device in devices for reaches in reached.values() for device in reaches):
        each = "; ".join(f"{name} reaches {' and '.join(reaches)}" for name, reaches in reached.items())
        raise UsageError(f"No driver reaches the device {' or '.join(devices)}: {each}.", remedy="name another device, or none")
