"""What one boot of a user's system shows: its console, its output, what it does to NVMe."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from conformance.onboarding.crashes import CRASH, crash_line, nothing_to_boot, without_firmware
from conformance.suite.scenario import LOAD
from conformance.suite.selection import SCENARIOS
from lab import drivers
from lab.architectures import ARCHITECTURES, X86_64
from lab.data import manifest
from lab.data.events import Event, RegisterWrite, Submitted
from lab.data.evidence import Evidence
from lab.deadline import Deadline
from lab.drivers.screen_prompt import ScreenSession
from lab.drivers.serial_session import SCREEN_TEXT, SerialSession
from lab.errors import NO_ACCESS, LabError
from lab.guest.console import plain
from lab.guest.folder import run_folder
from lab.guest.idle import prompts
from lab.guest.machine import Machine
from lab.nvme.commands import CreateIoSq, Identify, Read
from lab.nvme.registers import CC
from lab.recording.record import record
from lab.toolchain import Toolchain

Output = Literal["serial", "serial2", "debug-console", "screen"]
LOGS: Mapping[Output, str] = {"serial": "console.log", "serial2": "serial2.log", "debug-console": "debug-console.log"}
"""Where each output is recorded while the guest is listened to on its first serial line."""
QUIET_SECONDS = 2.0
"""Without an access to the device for so long, its driver has done what it does by itself."""
HELP_SECONDS = 15.0
"""For a boot to the prompt, and for the answer to "help" there."""
NEVER = "(?!)"
"""A pattern that matches nothing, so that all output is read until the time is over."""
SCREEN_PROMPT_ENDS = tuple(">#$%")
"""Where nothing shows the cursor, fewer characters stand for a prompt."""
SCENARIO = "read/basic"
STEPS = ("detect", "admin-queue", "identify", "io-queues", "read")


@dataclass(frozen=True)
class Look:
    """What the guest printed, and what the device saw."""

    output: Output
    said: str
    steps: tuple[str, ...]  # the stages of which something was seen at the device, without a gap
    trouble: str = ""  # why it ended before its time
    screen: str = ""  # the text that its screen shows
    found_nothing: bool = False  # the firmware says that there is nothing to boot

    @property
    def crash(self) -> str:
        """The line in which it says that it has crashed; "" if it does not."""
        return crash_line((self.said,))

    @property
    def screen_prompt(self) -> str:
        """Return a pattern for the prompt in the last row of its screen; "" if there is none, or it crashed."""
        last = next((row for row in reversed(self.screen.splitlines()) if row.strip()), "")
        is_prompt = last.rstrip().endswith(SCREEN_PROMPT_ENDS) and not crash_line((self.screen,))
        return f"^{_escaped(last.rstrip())} " if is_prompt else ""

    @property
    def is_silent(self) -> bool:
        """Return whether it has said and done nothing at all: another machine may suit it better."""
        return not (self.said.strip() or self.screen.strip() or self.trouble or self.found_nothing or len(self.steps) > 1)

    @property
    def dead(self) -> str:
        """A pattern for the words with which it crashes; "" if none were seen."""
        found = CRASH.search(self.crash)
        return _escaped(found[0]) if found else ""

    @property
    def last_line(self) -> str:
        """The last line of output; a prompt still has its cursor behind it."""
        return next((line for line in reversed(self.said.splitlines()) if line.strip()), "")

    @property
    def prompts(self) -> bool:
        """Return whether the guest waits for input."""
        return bool(self.said) and not self.crash and prompts(self.said)

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
    """Boot a guest once with QEMU's NVMe device and a screen, and listen to all outputs; at most so long.

    It ends when the driver has left the device alone for a while, or when the guest is idle.

    ``boot`` is a manifest's table, with paths relative to ``path``. LabError where QEMU cannot start it.
    """
    place = ARCHITECTURES[boot.get("arch", X86_64)]
    heard_at = "COM1, COM2, port E9h and the screen" if place.is_pc else "its serial port"
    say(f"booting it for at most {seconds:g} s, listening to {heard_at}")
    asked = {**boot, "output": "serial", "input": "none", "screen": place.is_pc, "quiet": QUIET_SECONDS, "seconds": seconds}
    data = {"name": "unknown", "adapter": "generic-serial", "boot": asked, "needs": _needs(boot)}
    driver = manifest.parse(data, path, drivers.adapters())
    scenario = replace(SCENARIOS[SCENARIO].resolve(0), actions=(LOAD,))
    with run_folder() as scratch:
        evidence = Evidence(record(driver, scenario, "qemu", scratch / "evidence", toolchain=toolchain))
        heard = {output: _text(evidence.folder / name) for output, name in LOGS.items()}
        whole_screen = _text(evidence.folder / SCREEN_TEXT)
        screen = without_firmware(whole_screen)
        end = evidence.end
        spoke: Iterator[Output] = (output for output in LOGS if heard[output].strip())
        output: Output = next(spoke, "serial")
        said = heard[output]
        lab_failed = end is not None and end.outcome == "lab-error" and NO_ACCESS not in end.reason
        if end is not None and lab_failed and not said.strip() and "not waiting for the device" not in end.reason:
            raise LabError(f"It does not boot: {end.reason}", remedy="correct the file, or skip this look with --no-boot")
        seen = set(_seen(evidence.events()))
        trouble = end.reason.partition(" while the lab waited")[0] if end and end.outcome == "panic" else ""
    steps = next((STEPS[:count] for count in range(len(STEPS), 0, -1) if seen.issuperset(STEPS[1:count])), STEPS[:1])
    return Look(output, said, steps, trouble, screen, nothing_to_boot((said, whole_screen)))


def help_of(boot: dict[str, Any], path: Path, prompt: str, toolchain: Toolchain) -> str:
    """Boot a guest once more, type "help" at its prompt, and return what it prints; "" if that comes to nothing."""
    asked = {"input": "serial", **boot, "ready": prompt, "seconds": HELP_SECONDS}
    data = {"name": "unknown", "adapter": "generic-serial", "boot": asked, "needs": _needs(boot)}
    driver = manifest.parse(data, path, drivers.adapters())
    scenario = replace(SCENARIOS[SCENARIO].resolve(0), actions=(LOAD,))
    printed: list[str] = []

    kind = ScreenSession if driver.boot.output == "screen" else SerialSession

    def visit(guest: Machine) -> None:
        with suppress(LabError):  # it is only a help
            printed.append(kind(guest, driver, scenario).ask("help", Deadline(HELP_SECONDS)))

    with run_folder() as scratch:
        record(driver, scenario, "qemu", scratch / "evidence", toolchain=toolchain, visit=visit)
    return "".join(printed)


def _needs(boot: dict[str, Any]) -> list[str]:
    """Return what of the toolchain a guest is booted with: a firmware whose name stands in braces."""
    named = str(boot.get("firmware", ""))
    return [named[1:-1]] if named.startswith("{") else []


def _text(path: Path) -> str:
    """Return what an output said; "" where there is no such record."""
    return plain(path.read_bytes().decode(errors="replace")) if path.is_file() else ""


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
