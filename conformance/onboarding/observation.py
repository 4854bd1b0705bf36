"""``nvme-lab observe``: boot a system before one device after the other, ask nothing, and judge the wire."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from conformance.judging.judge import Verdict, judge
from conformance.onboarding.boot_code import BY_BIOS, Starts
from conformance.onboarding.crashes import crash_line, nothing_to_boot, without_firmware
from conformance.onboarding.linux_boot import is_rootless, memories
from conformance.onboarding.rungs import PLAIN, RUNGS, Rung
from conformance.onboarding.steps_seen import Seen, seen
from conformance.suite.check import EVERY, Check, Outcome
from conformance.suite.selection import CHECKS
from lab import drivers
from lab.architectures import ARCHITECTURES, X86_64, Architecture
from lab.data import manifest as manifests
from lab.data.evidence import Evidence
from lab.data.manifest import PROFILES, STAGES, DriverManifest
from lab.deadline import Deadline
from lab.drivers import reading
from lab.errors import NO_ACCESS, GuestError
from lab.guest import keyboard, screen
from lab.guest.console import plain
from lab.guest.idle import prompts
from lab.guest.machine import Machine
from lab.guest.process import kill_all
from lab.recording.record import record
from lab.toolchain import Toolchain

SEED = 7
QUIET_SECONDS = 1.5
"""Without an access to the device for so long, a driver has done what it does by itself."""
CONFIRM_QUIET_SECONDS = 4.5
"""The same where a driver got less far than before: a slow machine may pause between two of its steps."""
FIRST_SECONDS, REACH_SECONDS, PATIENT_SECONDS = 60.0, 20.0, 600.0
"""For the plain boot; for each further attempt to reach the driver at all; for each where there is no limit.

A guest that stands still ends sooner; one that still works after so long would be no faster on another machine.
"""
REACH_BUDGET_SECONDS = 60.0
"""After so long no further machine is tried."""
BUDGET_SECONDS = 110.0
"""After so long no further device is tried."""
LEAST_SECONDS, TIMES = 8.0, 3.0
"""A later boot gets this many times what the plain one took, and at least so long."""
STIMULUS_SECONDS = 5.0
KEY_SECONDS = 0.02
ECHO_SECONDS, SILENT_SECONDS = 5.0, 1.0
"""Until a typed line must be shown, and until something of it must be: the machine may be slow."""
KEYS_AFTER_SECONDS = 15.0
"""Where keys are typed the system need not reach its device before: it has so long to come to its prompt."""
OUTPUTS = ("console.log", "serial.log", "serial2.log", "debug-console.log")
NAMES: Mapping[str, str] = {
    "console.log": "COM1",
    "serial.log": "COM1",
    "serial2.log": "COM2",
    "debug-console.log": "port E9h",
}
TAIL_LINES = 12
ENDED = "ended"


@dataclass(frozen=True)
class BootImage:
    """What is booted, and how; what is None was not chosen and may be varied."""

    boot: Mapping[str, Any]  # keys of [boot]
    folder: Path  # of relative paths
    disk: Path | None = None  # what the first namespace holds
    keys: str = ""
    machine: str | None = None
    cpu: str | None = None
    memory: str | None = None
    arch: str = X86_64
    needs: tuple[str, ...] = ()  # of the toolchain, beside QEMU
    starts: Starts = BY_BIOS  # what of it a PC starts

    @property
    def place(self) -> Architecture:
        """The architecture of the guest."""
        return ARCHITECTURES[self.arch]

    @property
    def wants(self) -> set[str]:
        """What the toolchain must prepare."""
        uefi = {self.place.edk2} if self.starts.uefi else set()
        return {"qemu" if self.arch == X86_64 else f"qemu-{self.arch}", *self.needs, *uefi}

    def variants(self) -> Iterator[dict[str, Any]]:
        """Yield machines on which its driver may be reached, the usual one first."""
        place = self.place
        least, more = memories(self.boot.get("initrd", ""))
        usual = {"machine": self.machine or place.machine, "cpu": self.cpu or place.cpus[0], "memory": self.memory or least}
        other = {"cpu": self.cpu or place.cpus[1], "memory": self.memory or more}
        third = self.machine or self.boot.get("machine") or ("pc" if place.is_pc else place.machine)
        tried = [usual, {**usual, **other}, {"machine": third, **other}]
        if self.starts.uefi:  # what has code for the BIOS, too, is started by that first
            uefi = {"firmware": f"{{{place.edk2}}}"}
            tried = [{**machine, **uefi} for machine in tried] if not self.starts.bios else [usual, {**usual, **uefi}, *tried]
        yield from (machine for number, machine in enumerate(tried) if machine not in tried[:number])


@dataclass
class Boot:
    """What one boot came to."""

    rung: Rung
    evidence: Path
    seen: Seen
    seconds: float
    how: str  # quiet, busy, ended, not-reached, lab-error
    reason: str = ""
    said: Mapping[str, str] = field(default_factory=dict)  # output → what was printed there
    screen: str = ""
    verdicts: tuple[Verdict, ...] = ()
    stimulated: float | None = None  # when the stimulus came, in seconds since 1970

    @property
    def reached(self) -> bool:
        """Return whether the driver has accessed the device."""
        return self.seen.accesses > 0

    @property
    def crash(self) -> str:
        """The line in which the system says that it has crashed; "" if it does not."""
        return crash_line((*self.said.values(), self.screen))

    @property
    def prompt(self) -> tuple[str, str]:
        """Return the output on which it waits at a prompt, and that prompt; two empty words if it does not."""
        for name, text in self.said.items():
            if prompts(text) and not self.crash:
                return name, text.splitlines()[-1]
        return "", ""

    @property
    def is_rootless(self) -> bool:
        """Return whether it is a Linux that has found no root file system: all drivers that it holds have had their turn."""
        return is_rootless(self.crash)

    @property
    def found_nothing(self) -> bool:
        """Return whether the firmware says that there is nothing which it could boot."""
        return nothing_to_boot((*self.said.values(), self.screen))

    @cached_property
    def afterwards(self) -> Seen:
        """What the driver did from the stimulus on."""
        begin = self.stimulated or 0.0
        return seen(event for event in Evidence(self.evidence).events() if event.t >= begin)

    @property
    def own_screen(self) -> str:
        """What the screen shows beside the lines of a PC's firmware."""
        return without_firmware(self.screen)

    def tail(self) -> Iterator[tuple[str, str]]:
        """Yield each output that was used and the last lines there."""
        for name, text in (*self.said.items(), ("screen", self.screen)):
            if lines := [line for line in text.splitlines() if line.strip()]:
                yield name, "\n".join(lines[-TAIL_LINES:])

    @property
    def picture(self) -> Path | None:
        """The picture of the screen, if one was taken."""
        path = self.evidence / "screen.png"
        return path if path.is_file() else None


def checks_of(rung: Rung) -> list[Check]:
    """Return what a rung is judged by: the invariants of the wire, and its own. Nothing that rests on an answer."""
    invariants = [
        check
        for check in CHECKS.values()
        if check.invariant and "wire" in check.witnesses and check.stage not in (EVERY, *PROFILES)
    ]
    return invariants + [CHECKS[name] for name in rung.checks]


def manifest_of(
    name: str, target: BootImage, machine: Mapping[str, Any], seconds: float, quiet: float = QUIET_SECONDS
) -> DriverManifest:
    """Return the manifest that a rung is recorded with: nothing is asked, and quiet on the wire is the end of the boot."""
    typed = {"after": KEYS_AFTER_SECONDS} if target.keys else {}
    boot = {"screen": target.place.is_pc, "arch": target.arch, **typed, **target.boot, **machine, "input": "none"}
    boot |= {"quiet": quiet, "seconds": seconds}
    data = {"name": name, "adapter": "generic-serial", "stages": [], "boot": boot, "needs": needs_of(target, machine)}
    if target.disk:
        data["disk"] = {"contents": str(target.disk)}
    return manifests.parse(data, target.folder / f"{name}.toml", drivers.adapters())


def needs_of(target: BootImage, machine: Mapping[str, Any]) -> list[str]:
    """Return what of the toolchain a boot takes beside QEMU."""
    named = str(machine.get("firmware", ""))
    return [*target.needs, *([named[1:-1]] if named.startswith("{") else [])]


def machine_words(machine: Mapping[str, Any]) -> str:
    """Return a machine in a few words."""
    return ", ".join("UEFI" if key == "firmware" else str(value) for key, value in machine.items())


class Observer:
    """Boots a system on the rungs of the ladder, the plain one first."""

    def __init__(self, name: str, target: BootImage, out: Path, toolchain: Toolchain, say: Callable[[str], None]) -> None:
        """Boot nothing yet. ``out`` is where the evidence goes."""
        self.name, self.target, self.out = name, target, out
        self.machine: Mapping[str, Any] = {}
        self._toolchain, self._say = toolchain, say
        self._seconds = FIRST_SECONDS
        self._until: Deadline | None = None
        self._stopped = False
        self.tried: list[str] = []

    def plain(self, *, patient: bool = False) -> Boot:
        """Boot before the plain device, on further machines until a register is accessed; return the best boot."""
        best: Boot | None = None
        deadline = Deadline(REACH_BUDGET_SECONDS)
        for number, machine in enumerate(self.target.variants()):
            if best is not None and deadline.expired:
                break
            self.machine = machine
            self.tried.append(machine_words(machine))
            self._say(f"plain: booting it ({self.tried[-1]})")
            self._seconds = PATIENT_SECONDS if patient else FIRST_SECONDS if number == 0 else REACH_SECONDS
            boot = self.boot(_rung(PLAIN), suffix=f"-{number}" if number else "")
            if best is None or boot.reached or (len("".join(boot.said.values())) > len("".join(best.said.values()))):
                best = boot
            if boot.reached or boot.how == "lab-error" or boot.prompt[0]:
                break
            if boot.is_rootless or (boot.found_nothing and not self.target.starts.uefi):
                break
        assert best is not None
        if best.reached:
            self._seconds = max(LEAST_SECONDS, best.seconds * TIMES)
        return best

    def all_beside(self, plain: Boot, rungs: Sequence[Rung], jobs: int, seconds: float) -> Iterator[tuple[Rung, Boot | None]]:
        """Boot on these rungs, ``jobs`` at once, and yield each in its order with its boot.

        None where it could not end within so many seconds; 0: without a limit.
        """
        self._until = Deadline(seconds) if seconds else None

        def climb(rung: Rung) -> Boot | None:
            return None if self._stopped or self._left() < plain.seconds else self.beside(plain, rung)

        with ThreadPoolExecutor(jobs, thread_name_prefix="rung") as pool:
            try:
                yield from zip(rungs, pool.map(climb, rungs), strict=True)
            except BaseException:  # a Ctrl-C reaches this thread only: what the others wait for ends
                self._stopped = True
                kill_all()
                raise

    def _left(self) -> float:
        """Return the seconds until all boots are to have ended; infinite without a limit."""
        return self._until.remaining() if self._until else math.inf

    def _timeout_seconds(self) -> float:
        """Return how long to wait for a driver now."""
        return min(self._seconds, max(self._left(), LEAST_SECONDS))

    def beside(self, plain: Boot, rung: Rung) -> Boot | None:
        """Boot on a rung; once more, and with more patience, where the driver gets less far than before the plain device.

        None where that would be proven only by a second boot, for which no time is left.
        """
        boot = self.boot(rung)
        if compared(plain, boot).is_worse and not self._stopped:
            if self._left() < boot.seconds:
                return None
            self._say(f"{rung.name}: once more, for it got less far")
            boot = self.boot(rung, suffix="-again", quiet=CONFIRM_QUIET_SECONDS)
        return boot

    def boot(self, rung: Rung, *, suffix: str = "", quiet: float = QUIET_SECONDS) -> Boot:
        """Boot once and judge what was seen."""
        folder = self.out / "evidence" / (rung.name + suffix)
        driver = manifest_of(self.name, self.target, self.machine, self._timeout_seconds() + quiet, quiet)
        shown: list[str] = []
        stimulated: list[float] = []
        began = time.monotonic()

        def visit(guest: Machine) -> None:
            with suppress(GuestError):  # what it ended by stands in the record
                if self.target.keys:
                    _type(guest, self.target.keys)
                    _until_quiet(guest, self._timeout_seconds())
                stimulated.append(time.time())
                self._stimulate(guest, rung)
            shown.append(screen.take_if_possible(guest, folder / "screen.png"))

        record(driver, rung.scenario(SEED), rung.kind, folder, toolchain=self._toolchain, visit=visit)
        boot = _boot(rung, Evidence(folder), shown[0] if shown else "", time.monotonic() - began)
        boot.stimulated = stimulated[0] if stimulated and rung.stimulus else None
        return boot

    def _stimulate(self, guest: Machine, rung: Rung) -> None:
        before = guest.activity.accesses if guest.activity else 0
        if rung.stimulus == "reset":
            guest.qmp("set-action", {"reboot": "reset"})
            guest.qmp("system_reset")
            _until_quiet(guest, self._timeout_seconds(), before)
        elif rung.stimulus == "power-button":
            guest.qmp("system_powerdown")
            _until_quiet(guest, STIMULUS_SECONDS, before)


def _rung(name: str) -> Rung:
    return next(rung for rung in RUNGS if rung.name == name)


def _type(guest: Machine, keys: str) -> None:
    """Type lines on the keyboard, and on the first serial port, as a person would who does not know which one is heard.

    Where a line is shown as it is typed, the next ones are typed there only: some systems hear both, and mix them.
    """
    ways: tuple[Callable[[Machine, str], None], ...] = (_press, _send) if ARCHITECTURES[guest.spec.arch].is_pc else (_send,)
    for line in keys.splitlines():
        for way in ways:
            before = _shown(guest)
            way(guest, line)
            is_echoed = _await_echo(guest, before, line)
            way(guest, "\n")
            if is_echoed:
                ways = (way,)
                break
        _until_quiet(guest, STIMULUS_SECONDS)


def _await_echo(guest: Machine, before: Sequence[str], line: str) -> bool:
    """Wait until a line is shown; return False where nothing is shown for a while, or never all of it."""
    deadline, silent = Deadline(ECHO_SECONDS), Deadline(SILENT_SECONDS)
    while not deadline.expired:
        shown = _shown(guest)
        if _is_echoed(before, shown, line):
            return True
        if silent.expired and shown == before:
            return False
        _listen(guest, KEY_SECONDS * 5)
    return False


def _press(guest: Machine, text: str) -> None:
    for character in text:
        with suppress(KeyError):
            keyboard.press(guest, character)
        _listen(guest, KEY_SECONDS)


def _send(guest: Machine, text: str) -> None:
    guest.console.send(text)


def _shown(guest: Machine) -> tuple[str, ...]:
    """Return what each output and the screen show by now."""
    return (*map(_text, (guest.console.log, *guest.outputs.values())), screen.text_of(guest))


def _is_echoed(before: Iterable[str], after: Iterable[str], line: str) -> bool:
    """Return whether a line was shown since: on an output behind what was there, or on the screen."""
    for was, now in zip(before, after, strict=True):
        new = now[len(was) :] if now.startswith(was) else now
        if line.strip() and now != was and reading.holds_in_order(new, line):
            return True
    return False


def _listen(guest: Machine, seconds: float) -> None:
    with suppress(GuestError):
        guest.console.expect("(?!)", Deadline(seconds))


def _until_quiet(guest: Machine, seconds: float, before: int = -1) -> None:
    """Wait until the device was accessed more often than before, and then left alone for a while; or until QEMU has ended."""
    began, deadline = time.monotonic(), Deadline(seconds)
    while guest.process.alive and not deadline.expired:
        _listen(guest, QUIET_SECONDS / 10)
        waited = time.monotonic() - began
        quiet = guest.activity.quiet_seconds if guest.activity else None
        if guest.activity and guest.activity.accesses <= before:
            continue
        if waited >= QUIET_SECONDS and (quiet is None or quiet >= QUIET_SECONDS):
            return


def _boot(rung: Rung, evidence: Evidence, shown: str, seconds: float) -> Boot:
    found = seen(evidence.events())
    end = evidence.end
    assert end is not None
    reason = end.reason
    if end.outcome == "lab-error" and not found.accesses and NO_ACCESS in reason:
        how = "not-reached"
    elif end.outcome == "panic":
        how = ENDED
    elif end.outcome == "lab-error":
        how = "lab-error"
    else:
        how = "busy" if _timed_out(evidence) else "quiet"
    if rung.stimulus == "power-button" and how == ENDED:
        how, reason = "quiet", "it switched the machine off"
    said = {NAMES[name]: text for name in OUTPUTS if (text := _text(evidence.folder / name)).strip()}
    if not shown and (evidence.folder / "screen.txt").is_file():
        shown = (evidence.folder / "screen.txt").read_text(encoding="utf-8")
    elif shown:
        (evidence.folder / "screen.txt").write_text(shown + "\n", encoding="utf-8")
    verdicts = tuple(judge(evidence, checks_of(rung))) if how != "lab-error" and found.accesses else ()
    return Boot(rung, evidence.folder, found, seconds, how, reason, said, shown, verdicts)


def _timed_out(evidence: Evidence) -> bool:
    return any(getattr(event, "answer", {}).get("status") == "timeout" for event in evidence.events())


def _text(path: Path) -> str:
    try:
        return plain(path.read_bytes().decode(errors="replace"))
    except OSError:
        return ""


# -- what it comes to -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Group:
    """One broken rule: where it was seen, one example, and the rules whose violations only follow from it."""

    verdict: Verdict  # of the plainest boot in which it was seen
    boots: tuple[str, ...]
    follows: tuple[str, ...] = ()

    @property
    def is_mandatory(self) -> bool:
        """Return whether a rule was broken that drivers must keep."""
        return self.verdict.outcome is Outcome.FAIL


@dataclass(frozen=True)
class DeviceComparison:
    """A boot beside the plain one."""

    boot: Boot
    sentence: str
    is_worse: bool  # on a healthy device it got less far than on the plain one


def groups(boots: Iterable[Boot]) -> list[Group]:
    """Return the broken rules, mandatory ones first; what follows from another one is folded into it."""
    boots = list(boots)
    found: dict[str, list[tuple[str, Verdict]]] = {}
    follows: dict[str, dict[str, None]] = {}
    for boot in boots:
        for verdict in boot.verdicts:
            if verdict.outcome in (Outcome.FAIL, Outcome.WARN):
                found.setdefault(verdict.check.id, []).append((boot.rung.name, verdict))
            elif verdict.because:
                follows.setdefault(verdict.because, {})[verdict.check.id] = None
    made = [
        Group(seen[0][1], tuple(name for name, _ in seen), tuple(id for id in follows.get(check, ()) if id not in found))
        for check, seen in found.items()
    ]
    return sorted(made, key=lambda group: (not group.is_mandatory, -len(group.boots)))


def compared(plain_boot: Boot, boot: Boot) -> DeviceComparison:
    """Say what the driver did on a rung, beside what it did on the plain device."""
    rung, now = boot.rung, boot.seen
    if boot.how == "lab-error":
        return DeviceComparison(boot, f"not judged: {boot.reason.splitlines()[0]}", is_worse=False)
    if rung.stimulus and boot.stimulated is not None:
        return _after_stimulus(plain_boot, boot)
    missing = [step for step in _missing(plain_boot.seen, now) if step not in rung.without]
    sentence = "the same steps as on the plain device"
    if not boot.reached:
        sentence = "no register was accessed"
    elif missing:
        sentence = f"{_listed(now)}; not {', '.join(missing)}"
    elif rung.counts == "namespaces" and now.namespaces:
        sentence += f"; Identify of namespace {_shortened(sorted(now.namespaces))}"
    elif rung.counts == "controllers":
        sentence += f"; {now.controllers} of 2 controllers came up"
    if boot.how == ENDED:
        sentence += f"; the machine ended: {boot.reason.splitlines()[0].partition(' while the lab waited')[0]}"
    elif boot.crash and not plain_boot.crash:
        sentence += f"; it printed: {boot.crash}"
    if now.waiting and not plain_boot.seen.waiting:
        sentence += f"; it still waits for {now.waiting}"
    elif boot.how == "busy" and plain_boot.how != "busy":
        sentence += "; it was still busy at the end"
    elif missing and now.failed:
        sentence += f"; {now.failed[-1]}"
    elif missing and now.last:
        sentence += f"; the last thing that it began: {now.last}"
    ended = boot.how == ENDED and plain_boot.how != ENDED
    crashed = bool(boot.crash and not plain_boot.crash)
    return DeviceComparison(
        boot, sentence, is_worse=not rung.hostile and not rung.stimulus and bool(missing or ended or crashed)
    )


def _missing(before: Seen, now: Seen) -> list[str]:
    return [step for step in STAGES if step in before.steps and step not in now.steps]


def _listed(found: Seen) -> str:
    return f"only {', '.join(step for step in STAGES if step in found.steps)}"


def _shortened(numbers: list[int], most: int = 6) -> str:
    shown = ", ".join(map(str, numbers[:most]))
    return shown if len(numbers) <= most else f"{shown} … ({len(numbers)} in all)"


def _after_stimulus(plain_boot: Boot, boot: Boot) -> DeviceComparison:
    """Say what the driver did after the machine was reset, or the power button was pressed."""
    after = boot.afterwards
    if boot.rung.stimulus == "reset":
        missing = _missing(plain_boot.seen, after)
        if not after.accesses:
            text = "after the reset no register was accessed"
        elif missing:
            text = f"after the reset {_listed(after)}; not {', '.join(missing)}"
        else:
            text = "after the reset it does the same steps again"
        if missing and after.waiting:
            text += f"; it still waits for {after.waiting}"
        return DeviceComparison(boot, text, is_worse=bool(missing))
    off = boot.reason if boot.how == "quiet" else ""
    told = any("shutdown" in what for what in after.steps.get("reset", ()))
    done = ["tells the controller (CC.SHN)"] if told else ["does not tell the controller (CC.SHN)"] if off else []
    done += ["switches the machine off"] if off else ["leaves the machine on"] if told or after.accesses else []
    text = "after the power button it " + (" and ".join(done) or "does nothing to the device, and leaves the machine on")
    return DeviceComparison(boot, text, is_worse=False)
