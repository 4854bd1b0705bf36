"""A suite small enough to know every verdict of, and a recorder that needs no QEMU. Not a test: tests put it in a child's way.

Importing it replaces the suite's checks and scenarios, the toolchain and the recorder in this process. Workers import it
because the campaign that they are sent holds a `ToyQemu`.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import conformance.run.prepare
import conformance.suite.selection
import lab.drivers
import lab.recording.record
from conformance.record.record import Record
from conformance.suite.check import CHECKS, MANDATORY, RECOMMENDED, Finding, Level, check
from conformance.suite.citations import PRACTICE
from conformance.suite.scenario import LOAD, SCENARIOS, Draw, Plan, scenario
from lab.data.events import ActionEnded, ActionStarted, Submitted
from lab.data.evidence import EvidenceWriter
from lab.data.identity import Identity
from lab.data.machine import MachineReport
from lab.data.manifest import DriverManifest
from lab.data.plan import Scenario
from lab.errors import LabError
from lab.toolchain import Qemu, Toolchain
from lab.toolchain.cache import Cache

LOG = Path(os.environ.get("TOY_LOG", "toy.log"))
"""A line for everything that happened, from whichever process."""

CHECKS.clear()
SCENARIOS.clear()


def _scenario(id: str) -> None:
    @scenario(id, f"the toy's {id}")
    def recipe(draw: Draw) -> Plan:
        return Plan(draw.device(), [LOAD])


for name in ("read/basic", "read/more", "read/broken", "read/slow", "write/basic"):
    _scenario(name)


def _check(id: str, level: Level, ok: bool | None, *, needs: tuple[str, ...] = (), scenarios: tuple[str, ...]) -> None:
    @check(id, cite=PRACTICE, level=level, why="practice", witnesses=["out"], needs=needs, scenarios=scenarios)
    def find(record: Record) -> Iterator[Finding]:
        """Behaves."""
        flaky = id == "write/pass" and record.events[1].answer["status"] == "flaky"  # type: ignore[attr-defined]
        if ok is not None:
            yield Finding(ok and not flaky, record.events[0], "this", "this" if ok and not flaky else "that")


READ = ("read/basic", "read/more", "read/broken", "read/slow")
_check("read/pass", MANDATORY, True, scenarios=READ)
_check("read/fail", MANDATORY, False, scenarios=("read/basic",))
_check("read/known", MANDATORY, False, scenarios=("read/basic",))
_check("read/better", MANDATORY, True, scenarios=("read/basic",))
_check("read/warn", RECOMMENDED, False, scenarios=("read/basic",))
_check("read/unclear", MANDATORY, None, scenarios=("read/basic",))
_check("read/unsupported", MANDATORY, True, needs=("mount",), scenarios=("read/basic",))
_check("read/sampled", MANDATORY, True, scenarios=("read/more",))
_check("write/pass", RECOMMENDED if "TOY_RECOMMENDS" in os.environ else MANDATORY, True, scenarios=("write/basic",))


@check("every/alive", cite=PRACTICE, level=MANDATORY, why="practice", witnesses=["out"])
def alive(record: Record) -> Iterator[Finding]:
    """Lives."""
    yield Finding(True, record.events[0], "alive", "alive")


@dataclass(frozen=True)
class ToyQemu(Qemu):
    pass


def toolchain(*_: Any) -> Toolchain:
    note("prepare")
    qemu = ToyQemu(("toy",), {}, (11, 1, 3), "option", None, "00", (), None)
    cache = Cache(Path(os.environ["TOY_CACHE"])) if "TOY_CACHE" in os.environ else None
    return Toolchain(qemu, None, {}, {"toy": {"version": "1", "sha256": "00"}}, cache)


def note(text: str) -> None:
    with LOG.open("a") as log:
        log.write(f"{text}\n")


def built_from(damaged: bool) -> Path:
    """Return what of the cache the toy is made of; a bit of it may be flipped."""

    def build(folder: Path) -> None:
        (folder / "rom").write_bytes(b"toy")

    rom = Cache(Path(os.environ["TOY_CACHE"])).entry("trees", "toy", build) / "rom"
    if damaged:
        rom.write_bytes(b"toz")
    return rom


def record(
    manifest: DriverManifest, scenario: Scenario, device: str, folder: Path, *, made_of: Any, loaded: Any, **how: object
) -> Path:
    """Record the toy, however it is asked to."""
    note(f"record {scenario.id}")
    attempt = LOG.read_text().splitlines().count(f"record {scenario.id}")
    if scenario.id == "read/broken" and attempt <= int(os.environ.get("TOY_BROKEN", 0)):
        raise LabError("the toy broke", remedy="repair it")
    if scenario.id == "read/slow" and attempt <= int(os.environ.get("TOY_KILL", 0)):
        folder.mkdir(parents=True)
        os.kill(os.getpid(), signal.SIGKILL)
    status = "flaky" if scenario.id == "write/basic" and attempt <= int(os.environ.get("TOY_FLAKY", 0)) else "success"
    stopped = scenario.id == "write/basic" and attempt <= int(os.environ.get("TOY_STOPPED", 0))
    if stopped:
        status = "no disk"  # which no check takes for a failure
    driver = manifest.model_dump(mode="json")
    data = {
        "driver": {**{key: driver[key] for key in ("name", "stages", "known")}, "actions": ["load", "read", "write"]},
        "device": device,
        "scenario": scenario.to_json(),
    }
    writer = EvidenceWriter(folder, Identity.model_validate(data))
    writer.record(ActionStarted(t=time.time(), number=0, action="load", arguments={}))
    writer.record(ActionEnded(t=time.time(), number=0, action="load", answer={"status": status}))
    loaded()
    writer.record(Submitted(t=time.time(), controller="nv0", sqid=0, raw=bytes(64)))
    if scenario.id == "read/slow" and os.environ.get("TOY_SLOW"):
        note("slow")
        try:
            assert not threading.Event().wait(60), "the toy was not interrupted"
        finally:
            note("ended in order")
    writer.close("complete", machine=MachineReport(bound=1.0, longest_stall=0.0, longest_stop=3.0 if stopped else 0.0))
    if damaged := int(os.environ.get("TOY_DAMAGED", 0)):
        made_of([built_from(damaged=status == "flaky" and attempt <= damaged)])
    return folder


for module, name, stand_in in (
    (conformance.run.prepare, "prepare", toolchain),
    (lab.drivers, "adapter", lambda manifest, toolchain: None),
    (lab.recording.record, "record", record),
):
    mock.patch.object(module, name, stand_in).start()
