"""What one boot of a user's system shows: its console, its output, what it does to NVMe."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from conformance.suite.scenario import LOAD
from conformance.suite.selection import SCENARIOS
from lab import drivers
from lab.data import manifest
from lab.data.events import Event, RegisterWrite, Submitted
from lab.data.evidence import Evidence
from lab.errors import LabError
from lab.guest.console import plain
from lab.guest.folder import run_folder
from lab.nvme.commands import CreateIoSq, Identify, Read
from lab.nvme.registers import CC
from lab.recording.record import record
from lab.toolchain import Toolchain

Output = Literal["serial", "debug-console"]
OUTPUTS: tuple[Output, ...] = ("serial", "debug-console")
NEVER = "(?!)"
"""A pattern that matches nothing, so that all output is read until the time is over."""
SCENARIO = "read/basic"
PROMPT_ENDS = tuple(">#$%:]")
STEPS = ("detect", "admin-queue", "identify", "io-queues", "read")


@dataclass(frozen=True)
class Look:
    """What the guest printed, and what the device saw."""

    output: Output
    said: str
    steps: tuple[str, ...]  # the stages of which something was seen at the device, without a gap
    trouble: str = ""  # why it ended before its time

    @property
    def last_line(self) -> str:
        """The last line of output; a prompt still has its cursor behind it."""
        return next((line for line in reversed(self.said.splitlines()) if line.strip()), "")

    @property
    def prompts(self) -> bool:
        """Return whether the guest waits for input."""
        return bool(self.said) and not self.said.endswith("\n") and self.last_line.rstrip().endswith(PROMPT_ENDS)

    @property
    def ready(self) -> str:
        """A pattern for the last line: a prompt as it is, anything else with any numbers in it."""
        if self.prompts:
            return f"^{_escaped(self.last_line)}"
        return "^" + re.sub(r"\d+", r"\\d+", _escaped(self.last_line.rstrip()))


def _escaped(text: str) -> str:
    """As a regular expression that people can still read."""
    return re.escape(text).replace("\\ ", " ")


def look(boot: dict[str, Any], path: Path, seconds: float, toolchain: Toolchain, say: Callable[[str], None]) -> Look:
    """Boot a guest with QEMU's NVMe device, once for each output on which it may print.

    ``boot`` is a manifest's table, with paths relative to ``path``. LabError where QEMU cannot start it.
    """
    for output in OUTPUTS:
        say(f"booting it for {seconds:g} s, listening to its {output.replace('-', ' ')}")
        found = _once({**boot, "output": output}, path, seconds, toolchain)
        if found.said.strip():
            return found
    return found


def _once(boot: dict[str, Any], path: Path, seconds: float, toolchain: Toolchain) -> Look:
    data = {
        "name": "unknown",
        "adapter": "generic-serial",
        "boot": {**boot, "input": "none", "ready": NEVER, "seconds": seconds},
    }
    driver = manifest.parse(data, path, drivers.adapters())
    scenario = replace(SCENARIOS[SCENARIO].resolve(0), actions=(LOAD,))
    with run_folder() as scratch:
        evidence = Evidence(record(driver, scenario, "qemu", scratch / "evidence", toolchain=toolchain))
        said = plain((evidence.folder / "console.log").read_bytes().decode(errors="replace"))
        end = evidence.end
        if end is not None and end.outcome == "lab-error" and not said.strip():
            raise LabError(f"It does not boot: {end.reason}", remedy="correct the file, or skip this look with --no-boot")
        seen = set(_seen(evidence.events()))
        trouble = end.reason if end and end.outcome != "complete" else ""
    steps = next((STEPS[:count] for count in range(len(STEPS), 0, -1) if seen.issuperset(STEPS[1:count])), STEPS[:1])
    return Look(boot["output"], said, steps, trouble)


def _seen(events: Iterator[Event]) -> Iterator[str]:
    """Return the stages that an event shows."""
    for event in events:
        match event:
            case RegisterWrite(offset=CC.OFFSET) if CC(event.value).EN:
                yield "admin-queue"
            case Submitted(command=Identify()):
                yield "identify"
            case Submitted(command=CreateIoSq()):
                yield "io-queues"
            case Submitted(command=Read()):
                yield "read"
