"""What a result says about its run: the lab's version, the toolchain, the host, the drivers' claims."""

from __future__ import annotations

import os
import platform
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

from conformance.judging.models import DriverEntry, KnownEntry, Results
from conformance.run.driver_versions import driver_version, lines_of, named, source
from conformance.run.plan import Campaign, RunRequest, default_driver
from conformance.suite.selection import CHECKS, SCENARIOS
from lab.data.manifest import PARTS, DriverManifest
from lab.data.scenario_file import is_file_name
from lab.toolchain.qemu import dotted
from lab.version import lab_version


def new_results(campaign: Campaign) -> Results:
    """Return the campaign's results without any verdict."""
    request = campaign.request
    return Results(
        lab=_lab(campaign),
        drivers={manifest.name: _driver(manifest, campaign) for manifest in campaign.drivers},
        narrowed=bool(request.checks or request.scenarios or request.only or request.cover),
        strict=request.strict,
        shards=[campaign.shard] if campaign.shard else [],
        cover=list(campaign.cover),
        left_out=list(campaign.left_out),
    )


def _lab(campaign: Campaign) -> dict[str, Any]:
    request, toolchain = campaign.request, campaign.toolchain
    files = [str(Path(name).absolute()) for name in request.scenarios if is_file_name(name)]
    return {
        "version": lab_version(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seed": None if campaign.replays else request.seed,
        **({"replays": str(campaign.replays)} if campaign.replays else {}),
        "asked": {
            "drivers": list(request.drivers) or [default_driver(request)],
            "defect": request.defect,
            "variant": request.variant,
            **({"files": files} if files else {}),
        },
        "qemu": toolchain.qemu
        and {
            "version": dotted(toolchain.qemu.version),
            "origin": toolchain.qemu.origin,
            "sha256": toolchain.qemu.sha256,
        },
        "versions": {name: dict(facts) for name, facts in toolchain.versions.items()},
        "host": {
            "system": platform.system(),
            "release": platform.release(),
            "machine": platform.machine(),
            "cpus": len(os.sched_getaffinity(0)),
            "python": ".".join(map(str, sys.version_info[:3])),
        },
    }


def _driver(manifest: DriverManifest, campaign: Campaign) -> DriverEntry:
    lines = lines_of(manifest)
    known = [
        KnownEntry(
            check=entry.check,
            reason=entry.reason,
            devices=list(entry.devices),
            owner=entry.owner,
            expires=entry.expires.isoformat() if entry.expires else "",
            expired=not entry.excuses_on(date.today()),
            link=entry.link,
            line=lines.get(entry.check, 0),
            versions=entry.versions,
            scenarios=list(entry.scenarios),
        )
        for entry in manifest.known
    ]
    package = campaign.toolchain.package_of(manifest.needs)
    return DriverEntry(
        base=manifest.base,
        release=manifest.release,
        package=package,
        stages=list(manifest.stages),
        profiles=list(manifest.profiles),
        asked=selected_parts(manifest, campaign.request),
        known=known,
        version=driver_version(manifest, campaign.toolchain.versions) or package.partition(" ")[2],
        manifest=named(manifest),
        source=source(manifest),
        line=lines.get("claims", 0),
    )


def selected_parts(manifest: DriverManifest, request: RunRequest) -> list[str]:
    """Return the stages and profiles that must get a verdict: the selected ones, or else those that the driver claims.

    Of several that were selected a driver is not asked for the profiles that it does not claim.
    """
    if request.stages or request.profiles:
        selected = list(dict.fromkeys((*request.stages, *request.profiles)))
        return [part for part in selected if part in request.stages or part in manifest.profiles] or selected
    if request.checks:
        return list(dict.fromkeys(CHECKS[check].stage for check in request.checks))
    if request.scenarios:
        return list(dict.fromkeys(SCENARIOS[scenario].stage for scenario in request.scenarios if scenario in SCENARIOS))
    if request.only:
        return list(dict.fromkeys(job.split("/")[2] for job in request.only))
    with_checks = {check.stage for check in CHECKS.values()}
    return [part for part in PARTS if part in with_checks and part in (*manifest.stages, *manifest.profiles)]
