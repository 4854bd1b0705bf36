"""Two systems on one device, one after the other: the second finds the controllers as the first has left them.

`LinuxKexec`: Linux starts the next Linux by kexec(2). `LoaderThenLinux`: U-Boot uses the disk at its prompt, and starts Linux.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path

from lab.data.manifest import DriverManifest
from lab.data.plan import Action, Answer, Scenario
from lab.deadline import Deadline
from lab.drivers.base import Session
from lab.drivers.generic_serial import GenericSerial
from lab.drivers.linux import Linux
from lab.drivers.linux_guest import IN_GUEST, linux_guest
from lab.drivers.serial_session import SerialSession
from lab.errors import GuestError, GuestTimeoutError, LabError, UsageError
from lab.guest.arguments import GuestSpec
from lab.guest.machine import Machine
from lab.toolchain import LinuxGuest, Toolchain

HAND_OVER = "hand-over"
HAND_OVER_SECONDS = 180.0
"""For a kernel to end, the next one to start, and its agent: seconds on an idle machine, under emulation."""
READY = re.escape("NVME-LAB READY")
"""What the guest says when its SSH server listens (images/recipes/linux-init.sh)."""
Successor = Callable[[Deadline], Session]


class Succession:
    """See `lab.drivers.base.Session`. The first system, until it is asked to hand over; then the second."""

    def __init__(self, first: Session, actions: Collection[str], second: Successor, second_actions: Collection[str]) -> None:
        """Take the first system and what it can be asked; ``second`` starts the other one, and returns it."""
        self._current, self._actions = first, frozenset(actions)
        self._second, self._second_actions = second, frozenset(second_actions)
        self._handed_over = False

    @property
    def build(self) -> str:
        """Which build the driver of the current system is."""
        return str(getattr(self._current, "build", ""))

    @property
    def loaded(self) -> bool:
        """Whether the driver was loaded before its device was there."""
        return bool(getattr(self._current, "loaded", False))

    def plugged(self, controllers: int, deadline: Deadline) -> None:
        """Wait until the guest has followed a plug."""
        self._current.plugged(controllers, deadline)

    def perform(self, action: Action, data: bytes | None, deadline: Deadline) -> Answer:
        """Return the answer of the current system."""
        if action.name != HAND_OVER:
            return self._current.perform(action, data, deadline) if action.name in self._actions else Answer("unsupported")
        if self._handed_over:
            return Answer("unsupported", {"log": "there is no third system"})
        try:
            self._current = self._second(deadline)
        except GuestTimeoutError as late:
            self._actions = frozenset()  # nobody knows which system is there
            return Answer("timeout", {"log": late.what})
        self._actions, self._handed_over = self._second_actions, True
        return Answer()

    def close(self) -> None:
        """Close the session of the current system."""
        self._current.close()


class LinuxKexec(Linux):
    """Linux, which can be replaced by the next Linux without a reset of the machine."""

    def __init__(self, manifest: DriverManifest, toolchain: Toolchain) -> None:
        """Find modules and files of the manifest, and the kernel that comes second."""
        super().__init__(manifest, toolchain)
        self._linux_actions = self.actions
        self.actions = self.actions | {HAND_OVER}
        self._kernel = _bootable(manifest, self._guest)

    def seconds(self, action: str) -> float:
        """Return how long the driver may take for an action."""
        return HAND_OVER_SECONDS if action == HAND_OVER else super().seconds(action)

    def open(self, machine: Machine, scenario: Scenario, deadline: Deadline) -> Session:  # type: ignore[override]
        """Wait until the guest can be talked to."""
        first = super().open(machine, scenario, deadline)

        def second(deadline: Deadline) -> Session:
            agent, paths = first.agent, {}
            for name, file in (("kernel", self._kernel), ("initrd", self._guest.initrd)):
                paths[name] = f"{IN_GUEST}/{name}"
                agent.put(file, paths[name], 0o600, deadline)
            machine.console.skip()
            begun = agent.ask({"action": "kexec", **paths, "append": machine.spec.append}, deadline=deadline)
            if begun.head["status"] != "success":
                raise GuestError(f"Linux does not start another kernel: {begun.head['status']}.")
            machine.console.expect(READY, deadline, "the next system to be ready")
            self.start(machine, deadline)
            return self.session(machine, scenario, deadline)

        return Succession(first, self._linux_actions, second, self._linux_actions)


class LoaderThenLinux:
    """See `lab.drivers.base.Adapter`. A firmware with a prompt, which starts Linux by the commands of ``hand-over``."""

    hotplug = False
    needs = ("linux-guest", "u-boot")

    def __init__(self, manifest: DriverManifest, toolchain: Toolchain) -> None:
        """Check the manifest, and find firmware, kernel and modules; UsageError."""
        words = manifest.actions.get(HAND_OVER)
        if words is None or not words.commands:
            raise UsageError(
                f"{manifest.path}: actions.{HAND_OVER}: this key is required", remedy="give the commands that start Linux"
            )
        self._commands = words.commands
        of_loader = {name: words for name, words in manifest.actions.items() if name != HAND_OVER}
        self._loader_manifest = manifest.model_copy(update={"actions": of_loader})
        self._loader = GenericSerial(self._loader_manifest, toolchain)
        self._linux = Linux(manifest.model_copy(update={"actions": {}}), toolchain)
        self._kernel = _bootable(manifest, linux_guest(manifest, toolchain))
        self.actions = self._loader.actions | self._linux.actions | {HAND_OVER}
        self.panics = (*self._loader.panics, *self._linux.panics)
        self.files: Mapping[str, Path] = {**self._linux.files, **self._loader.files}

    def guest(self, scenario: Scenario) -> GuestSpec:
        """Return the guest without the device: the kernel is where the firmware finds it."""
        spec = self._linux.guest(scenario)
        return replace(spec, bios=self._loader.files["firmware"], kernel=self._kernel, root_ports=0, vmgenid=False)

    def seconds(self, action: str) -> float:
        """Return how long the driver may take for an action."""
        return HAND_OVER_SECONDS if action == HAND_OVER else max(self._loader.seconds(action), self._linux.seconds(action))

    def open(self, machine: Machine, scenario: Scenario, deadline: Deadline) -> Session:
        """Wait until the firmware can be talked to."""
        first = SerialSession(machine, self._loader_manifest, scenario)
        first.come_up(Deadline(min(self._loader_manifest.boot.seconds, deadline.remaining())))

        def second(deadline: Deadline) -> Session:
            *before, last = self._commands
            for line in before:
                first.ask(line, deadline)
            machine.console.send(last + self._loader_manifest.boot.enter)
            machine.console.expect(READY, deadline, "Linux to be ready")
            self._linux.start(machine, deadline)
            linux = self._linux.session(machine, scenario, deadline)
            first.close()
            return linux

        return Succession(first, self._loader.actions, second, self._linux.actions)


def _bootable(manifest: DriverManifest, guest: LinuxGuest) -> Path:
    """Return the guest's kernel in the form that boot loaders and kexec take."""
    if guest.packed is None:
        raise LabError(
            f"{manifest.path}: the kernel that was named is no bzImage, and nothing but QEMU starts it",
            remedy="name a bzImage by --kernel, or none",
        )
    return guest.packed
