"""run.json: what a run was asked for, so that ``nvme-lab run --resume`` goes on with the same campaign."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from conformance.run.identity import new_results
from conformance.run.plan import Campaign, RunRequest
from lab import drivers
from lab.data import versions
from lab.data.scenario_file import is_file_name
from lab.errors import LabError, UsageError
from lab.files import write_atomically

FILE = "run.json"
FORMAT = 1
SAME = ("version", "qemu", "versions")
"""What of the lab's part of the results must be the same when a run goes on."""


def write_run(out: Path, campaign: Campaign, times: int) -> None:
    """Write what the run was asked for; ``times`` is its number of repetitions."""
    asked = campaign.request
    request = replace(
        asked,
        drivers=tuple(_absolute(name) for name in asked.drivers),
        scenarios=tuple(str(Path(name).absolute()) if is_file_name(name) else name for name in asked.scenarios),
        times=asked.times and asked.times.absolute(),
        cover=asked.cover and asked.cover.absolute(),
    )
    content = {"format": FORMAT, "times": times, "request": asdict(request), "campaign": describe(campaign)}
    try:
        write_atomically(out / FILE, json.dumps(content, indent=1, default=str) + "\n")
    except OSError as error:
        raise LabError(f"{out / FILE} cannot be written: {error.strerror}.", remedy="free some space") from error


def read_run(out: Path) -> tuple[RunRequest, int, dict[str, Any]]:
    """Return the request, the repetitions and the description of a run. UsageError if the folder does not hold it."""
    path = out / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise UsageError(f"{path}: format {content['format']!r}; this lab reads {FORMAT}.")
        request = TypeAdapter(RunRequest).validate_python(content["request"])
        return request, int(content["times"]), dict(content["campaign"])
    except OSError as error:
        raise UsageError(
            f"{out} holds no run that can go on: {FILE}: {error.strerror}.", remedy="name a folder that nvme-lab run wrote"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} cannot be read: {error!r}.", remedy="start a new run") from error


def describe(campaign: Campaign) -> dict[str, Any]:
    """Return what must be the same when the run goes on: the lab, the toolchain, the drivers, the scenarios and checks."""
    lab = new_results(campaign).lab
    return {
        **{name: lab[name] for name in SAME},
        "drivers": {m.name: sha256(m.model_dump_json().encode()).hexdigest() for m in campaign.drivers},
        "scenarios": {job.name: list(job.checks) for job in campaign.jobs},
    }


def check_same(before: Mapping[str, Any], campaign: Campaign, out: Path) -> None:
    """Raise UsageError where the campaign is not the one that was begun: its verdicts must not be mixed."""
    changed = list(_differences(dict(before), json.loads(json.dumps(describe(campaign), default=str))))
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise UsageError(
            f"The run in {out} cannot go on: since it began, {', '.join(changed[:3])}{more} changed.", remedy="start a new run"
        )


def _absolute(driver: str) -> str:
    """Return a driver's name, or its manifest's absolute path, with its version."""
    plain, version = drivers.split(driver)
    if not Path(plain).is_file():
        return driver
    return f"{Path(plain).absolute()}{versions.SEPARATOR}{version}" if version else str(Path(plain).absolute())


def _differences(before: Any, now: Any, name: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*before, *now]):
            yield from _differences(before.get(key), now.get(key), f"{name}.{key}".lstrip("."))
    elif before != now:
        yield name
