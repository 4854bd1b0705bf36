"""Any driver behind a prompt, or one that does its work without being asked.

All of it is in the manifest, from the boot to the last pattern. The prompt is on a serial line, or it writes to a debug
console and its input on a keyboard.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from lab.architectures import ARCHITECTURES
from lab.data import patterns
from lab.data.image_forms import is_uefi_firmware, require_raw
from lab.data.manifest import ActionSyntax, DriverManifest
from lab.data.patterns import search
from lab.data.plan import Action, Answer, Scenario
from lab.deadline import Deadline
from lab.drivers import shape
from lab.drivers.base import mebibytes, own_file
from lab.drivers.prompt import NEVER, NO_SYNTAX, PromptSession
from lab.errors import NO_ACCESS, GuestNotReadyError, GuestTimeoutError, LabError, UsageError
from lab.guest import keyboard, screen
from lab.guest.arguments import GuestSpec
from lab.guest.console import plain
from lab.guest.idle import IdleWatch
from lab.guest.machine import Machine
from lab.guest.memory import Ram
from lab.toolchain import Toolchain

SCREEN_PICTURE, SCREEN_TEXT = "screen.png", "screen.txt"
"""In the evidence, where a guest with a screen was not ready in time."""
POLL_SECONDS = 0.1
SETTLE_SECONDS = 0.5
FINISHED_SECONDS = 2.0
"""A driver that has waited for nothing for so long has finished what it began."""
_TOOLCHAIN = re.compile(r"\{(.+)\}")


class GenericSerial:
    """See `lab.drivers.base.Adapter`."""

    hotplug = False

    def __init__(self, manifest: DriverManifest, toolchain: Toolchain) -> None:
        """Check the shape of the manifest, and find its files; UsageError."""
        boot = manifest.boot
        shape.check(manifest)
        self.actions = frozenset({"load", *manifest.actions})  # to come up is not a matter of words
        self.panics: tuple[str, ...] = (f"(?m-s:{boot.dead})",) if boot.dead else ()
        named = {key: getattr(boot, key) for key in ("kernel", "initrd", "disk", "iso", "floppy", "firmware")}
        self.files: Mapping[str, Path] = {
            key: _file(manifest, toolchain, f"boot.{key}", name) for key, name in named.items() if name
        }
        self._manifest = manifest

    def guest(self, scenario: Scenario) -> GuestSpec:
        """Return the guest without the device; see `lab.drivers.base.Adapter`."""
        boot = self._manifest.boot
        return GuestSpec(
            arch=boot.arch,
            machine=boot.machine,
            cpu=boot.cpu,
            smp=scenario.guest.get("cpus", boot.cpus),
            memory=mebibytes(boot.memory),
            kernel=self.files.get("kernel"),
            initrd=self.files.get("initrd"),
            append=boot.append,
            disk=self.files.get("disk"),
            iso=self.files.get("iso"),
            floppy=self.files.get("floppy"),
            bios=None if self._in_flash else self.files.get("firmware"),
            flash=self.files.get("firmware") if self._in_flash else None,
            strict_boot=any(getattr(boot, key) for key in shape.SOURCES) and not boot.firmware_driver,
            console="serial" if boot.output == "exit-code" else boot.output,
            heard=shape.heard(self._manifest),
            screen=boot.screen,
            debug_exit=boot.exit_success is not None,
            counted_clock=boot.clock == "instructions" and not (scenario.faults or scenario.hostile),  # they may be timed
            paused=shape.boots_at_load(self._manifest),
            extra=boot.options,
        )

    @property
    def _in_flash(self) -> bool:
        """Return whether the firmware lies in the machine's flash memory.

        One that is as large as that does. So does a UEFI firmware of a PC that boots something else: without a flash memory
        for its variables it looks for them on all disks, by its own NVMe driver, and not only where it shall boot from.
        """
        found, boot = self.files.get("firmware"), self._manifest.boot
        if found is None:
            return False
        place = ARCHITECTURES[boot.arch]
        if place.is_pc:
            return not boot.firmware_driver and is_uefi_firmware(found)
        return place.flash_bytes > 0 and found.stat().st_size == place.flash_bytes

    def seconds(self, action: str) -> float:
        """Return how long the driver may take for an action."""
        words = self._manifest.actions.get(action, NO_SYNTAX)
        return words.seconds if words.commands else self._manifest.boot.seconds

    def open(self, machine: Machine, scenario: Scenario, deadline: Deadline) -> SerialSession:
        """Wait until the guest can be talked to; see `lab.drivers.base.Adapter`."""
        session = SerialSession(machine, self._manifest, scenario)
        if not machine.spec.paused:
            session.come_up(Deadline(min(self._manifest.boot.seconds, deadline.remaining())))
        return session


class SerialSession(PromptSession):
    """See `lab.drivers.base.Session`."""

    def __init__(self, machine: Machine, manifest: DriverManifest, scenario: Scenario) -> None:
        """Take a running guest, which may still be coming up."""
        super().__init__(machine.console, manifest, scenario)
        self._machine = machine
        self._memory: Ram | None = None  # mapped once it is needed
        self._said: str | None = None  # what the guest said while it came up; None before it has

    def come_up(self, deadline: Deadline) -> None:
        """Wait until the guest accepts requests, or has done its work. Raises GuestTimeoutError."""
        boot = self._manifest.boot
        self._busy, self._said = "its boot", ""
        if boot.input == "none" and boot.exit_success is not None:
            self._said = plain(self._console.rest(deadline))
            self._machine.process.wait(deadline)
            self._machine.check("its exit code")
        else:
            try:
                self._said = self._until_ready(deadline)
            except GuestTimeoutError as late:
                self._not_ready(late)
            self._settle(deadline)
        self._busy = ""
        self.build = self._own_build()

    def _own_build(self) -> str:
        """Return which build of the driver it is, by what the boot said or by the firmware's own bytes."""
        boot, bios = self._manifest.boot, self._machine.spec.bios
        said, held = patterns.search(boot.build, self._said or "") if boot.build else None, None
        if boot.build_in_firmware and bios is not None:
            held = patterns.search(boot.build_in_firmware, bios.read_bytes().decode("latin-1"))
        return next((found[0] if found.lastindex is None else found[1] for found in (said, held) if found), "").strip()

    def _not_ready(self, late: GuestTimeoutError) -> NoReturn:
        """Keep the screen, and raise the error for a guest that was not ready in time.

        Only a driver that has begun and not finished is late: one that has nothing to wait for may have done all its work, and
        one that has accessed no register may not have been reached. Then the manifest is in doubt, and not the driver.
        """
        folder = self._machine.console.log.parent
        shown = screen.take_if_possible(self._machine, folder / SCREEN_PICTURE)
        if shown:
            (folder / SCREEN_TEXT).write_text(shown + "\n", encoding="utf-8")
        what = late.what + (f"\nIts screen shows:\n{shown}" if shown else "")
        activity = self._machine.activity
        if not shape.boots_at_load(self._manifest):  # nothing was asked of its driver yet
            untouched = "" if activity is not None and activity.accesses else f"\n{NO_ACCESS}"
            raise GuestNotReadyError(f"{what}{untouched}", last=late.last, remedy=self._guidance(late.last)) from late
        if activity is None:
            raise GuestTimeoutError(what, last=late.last) from late
        remedy = "nvme-lab observe shows what it does; correct boot.ready, or give boot.quiet or boot.after instead"
        if not activity.accesses:
            raise GuestNotReadyError(f"{what}\n{NO_ACCESS}", last=late.last, remedy=remedy) from late
        if not activity.unanswered and (activity.quiet_seconds or 0.0) >= FINISHED_SECONDS:
            why = f"Its driver is not waiting for the device, and has accessed nothing for {activity.quiet_seconds:.0f} s."
            raise GuestNotReadyError(f"{what}\n{why}", last=late.last, remedy=remedy) from late
        raise GuestTimeoutError(what, last=late.last) from late

    def _guidance(self, last: str) -> str:
        """Return what to try where the guest never showed its prompt."""
        boot = self._manifest.boot
        if last.strip():
            return (
                f"correct boot.ready, which is {boot.ready!r}, by its last lines; or raise boot.seconds if it was still booting"
            )
        return (
            f"its output ({boot.output}) said nothing at all: nvme-lab init FILE listens on all outputs and on the screen; "
            "correct boot.output, boot.ready or boot.append (console=ttyS0 for Linux)"
        )

    def _settle(self, deadline: Deadline) -> None:
        """Wait until the driver has left the device alone for `boot.settle` seconds; it may work on behind `boot.ready`."""
        boot, activity = self._manifest.boot, self._machine.activity
        settle = boot.settle if boot.settle is not None else SETTLE_SECONDS if boot.input == "none" and not boot.quiet else 0.0
        began = time.monotonic()
        while settle and activity is not None and not deadline.expired:
            waited = time.monotonic() - began
            if min(waited, activity.quiet_seconds or waited) >= settle:
                break
            self._listen(POLL_SECONDS)

    def _listen(self, seconds: float) -> None:
        """Let time pass. Raises GuestPanicError or GuestDiedError when the guest is gone."""
        with suppress(GuestTimeoutError):
            self._console.expect(NEVER, Deadline(seconds))

    def _until_signs(self, deadline: Deadline) -> str:
        """Wait for the first of the signs that the manifest names; return the guest's output until then."""
        boot, began = self._manifest.boot, time.monotonic()
        activity = self._machine.activity
        idle = IdleWatch(self._machine)
        while True:
            try:
                return plain(self._console.expect(self._ready, Deadline(POLL_SECONDS)).before)
            except GuestTimeoutError:
                pass
            quiet = activity.quiet_seconds if activity is not None and boot.quiet else None
            if (
                (boot.after is not None and time.monotonic() - began >= boot.after)
                or (boot.quiet is not None and quiet is not None and quiet >= boot.quiet)
                or (boot.ready_screen and search(boot.ready_screen, screen.text_of(self._machine)))
            ):
                return plain(self._console.text())
            stopped = idle.why if boot.quiet is not None and quiet is None and not boot.after else ""
            if deadline.expired or stopped:
                signs = [f"boot.{key}" for key in shape.SIGNS if getattr(boot, key)]
                last = self._console.last_lines()
                waited = time.monotonic() - began if stopped else deadline.seconds
                what = f"Timed out after {waited:.0f} s{f' ({stopped})' if stopped else ''}"
                what += f" waiting for the guest to be ready ({', '.join(signs)})"
                raise GuestTimeoutError(f"{what}; its last lines:\n{last or '(none)'}", last=last)

    def _until_ready(self, deadline: Deadline) -> str:
        """Wait until the guest is ready; return its output until then."""
        boot, said = self._manifest.boot, ""
        if boot.ready_screen or boot.quiet or boot.after:
            return self._until_signs(deadline)
        what = f"its prompt, boot.ready {boot.ready!r}" if boot.input != "none" else f"boot.ready {boot.ready!r}"
        if boot.interrupt:
            seen = self._console.expect([self._ready, f"(?m-s:{boot.interrupt})"], deadline, what)
            said = plain(seen.before)
            if seen.which == 0:
                return said
            self._send(boot.interrupt_key)
        return said + plain(self._console.expect(self._ready, deadline, what).before)

    def _unasked(self, words: ActionSyntax, action: Action, deadline: Deadline) -> Answer:
        """Return the answer to ``load`` from the output of the boot."""
        if action.name == "load":
            return self._started(words, action, deadline)
        if self._said is None:
            return Answer("unsupported", {"log": "the guest has not come up yet"})
        if self._busy:
            raise GuestTimeoutError(f"{self._busy} has not ended")
        return self._answer(words, action, self._said)

    def _started(self, words: ActionSyntax, action: Action, deadline: Deadline) -> Answer:
        """Start the guest, once, and return the answer. An exit code can only make it worse."""
        if self._said is not None:
            return Answer("unsupported", {"log": "the driver came up with its guest, which starts once"})
        self._machine.qmp("cont")
        self.come_up(deadline)
        answer, code = self._answer(words, action, self._said or ""), self._machine.exit_code
        if answer.status != "success" or code in (None, self._manifest.boot.exit_success):
            return answer
        return Answer({"words": f"exit code {code:#x}"}, answer.fields)

    def close(self) -> None:
        """Close the guest's memory, if it was mapped."""
        if self._memory:
            self._memory.close()

    def _mapped(self) -> Ram:
        """Return the guest's memory, which the lab reads and writes itself."""
        if self._machine.spec.memory_file is None:
            raise LabError("the manifest wants data by the guest's memory, and this guest does not share it")
        if self._memory is None:
            self._memory = self._machine.memory()
        return self._memory

    def _send(self, text: str) -> None:
        if self._manifest.boot.input == "serial":
            self._console.send(text)
            return
        for character in text:
            keyboard.press(self._machine, character)


def _file(manifest: DriverManifest, toolchain: Toolchain, key: str, name: str) -> Path:
    """Return a file's path: ``{name}`` is a firmware of the toolchain, all else a path."""
    match = _TOOLCHAIN.fullmatch(name)
    if match is None:
        packed = key == "boot.initrd" or (key == "boot.kernel" and not ARCHITECTURES[manifest.boot.arch].is_pc)
        return require_raw(own_file(manifest, key, name), f"{manifest.path}: {key}", may_be_packed=packed)
    if match[1] not in toolchain.firmware:
        if match[1] in manifest.needs:
            raise LabError(f"the firmware {match[1]} was not prepared", remedy="run nvme-lab fetch")
        raise UsageError(f"{manifest.path}: {key}: {name} is no firmware of the toolchain", remedy=f"add {match[1]!r} to needs")
    return toolchain.firmware[match[1]]
