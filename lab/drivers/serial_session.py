"""A session with a guest whose prompt is on a serial line, or on a debug console with its input on a keyboard."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import NoReturn

from lab.data import patterns
from lab.data.manifest import ActionSyntax, DriverManifest
from lab.data.patterns import search
from lab.data.plan import Action, Answer, Scenario
from lab.deadline import Deadline
from lab.drivers import shape
from lab.drivers.prompt import NEVER, PromptSession
from lab.errors import NO_ACCESS, GuestNotReadyError, GuestTimeoutError, LabError
from lab.guest import keyboard, screen
from lab.guest.console import plain
from lab.guest.idle import AT_PROMPT, IdleWatch
from lab.guest.machine import Machine
from lab.guest.memory import Ram

SCREEN_PICTURE, SCREEN_TEXT = "screen.png", "screen.txt"
"""In the evidence, where a guest with a screen was not ready in time."""
POLL_SECONDS = 0.1
SETTLE_SECONDS = 0.5
FINISHED_SECONDS = 2.0
"""A driver that has waited for nothing for so long has finished what it began."""


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
                or (boot.after is not None and boot.quiet is not None and idle.why == AT_PROMPT)  # it waits to be typed at
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
        boot = self._manifest.boot
        if boot.ready_screen or boot.quiet or boot.after:
            return self._until_signs(deadline)
        return self._await_prompt(deadline)[0]

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
