"""Prepare a planned campaign on this machine: its toolchain, what the devices can serve, its costs and its shard."""

from __future__ import annotations

import copyreg
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from conformance.judging.files import read
from conformance.run import costs
from conformance.run.plan import Campaign, Job, RunRequest, in_cover, leave_out
from conformance.run.shard import select_shard
from lab import drivers
from lab.data.plan import MACHINE
from lab.device import lab as lab_device
from lab.device import qemu as qemu_device
from lab.errors import LabError, UsageError
from lab.settings import Settings
from lab.toolchain import Qemu, Toolchain, check_overrides, prepare

LOG = logging.getLogger(__name__)

Progress = Callable[[str], None]


def _read_only(content: dict[str, Any]) -> MappingProxyType[str, Any]:
    return MappingProxyType(content)


# A toolchain holds read-only mappings, which pickle does not know.
copyreg.pickle(MappingProxyType, lambda proxy: (_read_only, (dict(proxy),)))


def prepare_campaign(campaign: Campaign, settings: Settings, progress: Progress) -> Campaign:
    """Fetch and build the toolchain, leave out what the devices cannot serve, add costs, select the shard."""
    toolchain = prepare_toolchain(campaign, settings, progress)
    for manifest in campaign.drivers:
        drivers.adapter(manifest, toolchain)  # a manifest that does not suit its adapter is wrong usage: report it now
    obstacles = {job.name: obstacle(job, toolchain.qemu_for(job.driver.boot.arch)) for job in campaign.jobs}
    LOG.info("%d scenarios, %d of them left out by their devices", len(obstacles), sum(map(bool, obstacles.values())))
    left_out = tuple(leave_out(job, reason) for job in campaign.jobs if (reason := obstacles[job.name]) is not None)
    campaign = replace(
        campaign,
        toolchain=toolchain,
        jobs=tuple(job for job in campaign.jobs if obstacles[job.name] is None),
        left_out=(*campaign.left_out, *left_out),
    )
    return _with_costs(_in_shard(in_cover(campaign)))


def prepare_offline(campaign: Campaign, settings: Settings) -> tuple[Campaign, str]:
    """Prepare with what the cache holds. Return the campaign, and why the devices' limits are unknown ("" if known)."""
    try:
        return prepare_campaign(campaign, replace(settings, offline=True), lambda _: None), ""
    except UsageError:
        raise
    except LabError as error:
        return _with_costs(_in_shard(in_cover(campaign))), error.what


def prepare_toolchain(campaign: Campaign, settings: Settings, progress: Progress) -> Toolchain:
    """Prepare everything that the campaign's drivers need of this machine."""
    wants = dict.fromkeys(want for manifest in campaign.drivers for want in drivers.wants(manifest))
    wants |= dict.fromkeys(want for job in campaign.jobs for want in drivers.programs(job.driver, job.scenario))
    names = [manifest.name for manifest in campaign.drivers]
    check_overrides(settings, wants, f"the driver{'s' if len(names) > 1 else ''} {', '.join(names)}")
    return prepare(settings, tuple(wants), progress, drivers.sources(campaign.drivers))


def cache_root(campaign: Campaign) -> Path | None:
    """Return the folder of the cache; None where there is none."""
    return campaign.toolchain.cache.root if campaign.toolchain.cache else None


def obstacle(job: Job, qemu: Qemu | None) -> str | None:
    """Return why the device cannot serve the scenario; None if it can. ``qemu`` is None where none takes part."""
    scenario, version = job.scenario, qemu.version if qemu else None
    if scenario.guest.get("in_process") and drivers.in_qemu(job.driver):
        return "it takes too long in a guest"
    if job.device == MACHINE:
        return "the device of a real machine serves no faults" if scenario.faults else None
    if job.device == "lab":
        return lab_device.unservable(scenario.device, version, scenario.faults)
    if scenario.faults:
        return "QEMU's own device serves no faults"
    return qemu_device.unservable(scenario.device, version or ())


def _with_costs(campaign: Campaign) -> Campaign:
    """Add the expected seconds of each job, by all that is known on this machine."""
    estimates, remembered = _estimates(campaign), costs.remembered(cache_root(campaign))
    others = costs.of_other_versions(estimates, remembered)
    return replace(campaign, costs={**estimates, **others, **remembered, **_earlier_seconds(campaign.request)})


def _in_shard(campaign: Campaign) -> Campaign:
    """Select the requested shard by costs that all machines agree on."""
    known = _earlier_seconds(campaign.request)
    return select_shard(campaign, {name: known.get(name, estimate) for name, estimate in _estimates(campaign).items()})


def _estimates(campaign: Campaign) -> dict[str, float]:
    return {job.name: costs.estimate(job.scenario) for job in campaign.jobs}


def _earlier_seconds(request: RunRequest) -> dict[str, float]:
    return costs.measured(read(request.times)) if request.times else {}
