"""The file of a shrunk scenario, as somebody reads it who has never seen the lab."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from conformance.discovery.oracles import RECOVERS, Failure
from conformance.discovery.shrink import Shrunk
from conformance.suite.check import CHECKS
from lab.controller import behaviour
from lab.data.manifest import DriverManifest
from lab.data.plan import DeviceKind, Fault
from lab.data.scenario_file import scenario_toml
from lab.nvme.commands import BY_OPCODE
from lab.version import lab_version


@dataclass(frozen=True)
class Story:
    """What happened, and what was made of it."""

    driver: DriverManifest
    device: DeviceKind
    origin: str
    failure: Failure
    extent: str
    shrunk: Shrunk
    controlled: bool


def commands(story: Story, path: Path) -> list[str]:
    """Return what reproduces the failure."""
    variables = story.driver.variables
    shipped = story.driver.path.parent.name == "manifests"
    parts = ["nvme-lab run --driver", story.driver.name if shipped else str(story.driver.path), "--device", story.device]
    for option in ("defect", "variant"):
        parts += [f"--{option}", variables[option]] if variables.get(option) else []
    check = ["--check", story.failure.check] if story.failure.check in CHECKS else []
    return [" ".join([*parts, "--scenario", str(path), *check])]


def file_text(story: Story) -> str:
    """Return the file."""
    found = replace(story.shrunk.scenario, title=f"{story.failure.check} fails, shrunk from {story.shrunk.scenario.id}")
    comments = {
        "": "\n".join(_head(story)),
        "faults": "\n".join(f"{fault.name}: {_fault(fault)}" for fault in found.faults),
        "actions": "What the driver is asked, in order.",
        "device": "The device.",
    }
    return scenario_toml(found, found.checks, comments)


def _head(story: Story) -> Iterator[str]:
    failure, check = story.failure, CHECKS.get(story.failure.check)
    yield f"{story.driver.name} fails {failure.check}" if check else f"{story.driver.name} does not recover"
    if check:
        yield f"  rule      {check.statement}"
        yield f"  cites     {check.cite}"
    yield f"  expected  {failure.expected}"
    yield f"  actual    {failure.actual}"
    yield ""
    least = "Nothing more can be taken away." if story.shrunk.complete else "Perhaps more can be taken away: the time was over."
    yield f"Shrunk from {story.origin} ({story.extent}) in {story.shrunk.trials} recordings. {least}"
    if story.controlled:
        yield "The reference driver of NVMe Lab does not fail it."
    if failure.check == RECOVERS:
        yield "No specification asks for that; the device is in order again when the driver is loaded for the last time."
    yield f"NVMe Lab {lab_version()}. Reproduce it by:"
    yield from (f"  {line}" for line in commands(story, Path("THIS-FILE.toml")))


def _fault(fault: Fault) -> str:
    """Return what a fault does and when, in a sentence."""
    kind = behaviour.find(fault.behaviour)
    does = " ".join((kind.__doc__ or fault.behaviour).split()).replace("``", "") if kind else fault.behaviour
    return f"{_when(fault)}: {does}"


def _when(fault: Fault) -> str:
    if fault.register is not None:
        register = fault.register if isinstance(fault.register, str) else f"{fault.register:#x} of BAR0"
        what = f"{fault.access or 'access'} of {register}"
    elif fault.opcode is not None:
        command = BY_OPCODE["admin" if fault.queue == "admin" else "io"].get(fault.opcode)
        what = command.__name__ if command else f"command {fault.opcode:#x}"
    elif fault.queue is not None:
        what = f"command on {'the admin queue' if fault.queue == 'admin' else 'an I/O queue'}"
    else:
        what = "chance"
    over = f" over LBA {fault.lba}" if fault.lba is not None else ""
    if fault.nth is not None:
        return f"At {what} number {fault.nth}{over}"
    times = f", {fault.times} times at most" if fault.times is not None else ""
    return f"At each {what}{over}{times}"
