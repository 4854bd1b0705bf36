"""EDK2's NVMe driver behind the prompt of programs/edk2.c: `generic-serial`, and what a firmware's guest can do besides.

Its guest is booted once and then forked, because firmware takes seconds to come up; so its disks are plugged. No program in the
firmware watches the slots, so the prompt enables its hot plug before the driver sees anything.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from lab.data.plan import Action, Answer, Scenario
from lab.deadline import Deadline
from lab.drivers.generic_serial import GenericSerial
from lab.drivers.serial_session import SerialSession
from lab.errors import GuestTimeoutError
from lab.guest.arguments import GuestSpec
from lab.guest.machine import Machine
from lab.guest.template import SnapshotPreparer

VERSION = "v"
"""The prompt's command to say which firmware it is."""
FOLLOW = "h"
"""The prompt's command to follow the slots."""
SHUTDOWN = "s"
"""The one that does not come back."""
ROOT_PORTS = 2
"""Of a template, which all scenarios with no more controllers share."""
POLL_SECONDS = 0.02
_FUNCTIONS = re.compile(r"functions ([0-9a-f]+)")


class Edk2(GenericSerial):
    """See `lab.drivers.base.Adapter` and `lab.guest.template.Forkable`."""

    hotplug = True
    base: SnapshotPreparer | None = None
    cache_key = sha256(Path(__file__).read_bytes()).hexdigest()

    def guest(self, scenario: Scenario) -> GuestSpec:
        """Return the guest without the device; see `lab.drivers.base.Adapter`."""
        return replace(super().guest(scenario), root_ports=max(ROOT_PORTS, len(scenario.device.controllers)))

    def snapshot_preparers(self, scenario: Scenario) -> Sequence[SnapshotPreparer]:
        """Return the prompt's own one; see `lab.guest.template.Forkable`."""
        del scenario  # part of the protocol
        return [self]

    def prepare(self, machine: Machine, deadline: Deadline) -> None:
        """Wait for the prompt, at which forks go on."""
        machine.console.expect(f"(?m-s:{self._manifest.boot.ready})", deadline, "that it is ready (boot.ready)")

    def open(self, machine: Machine, scenario: Scenario, deadline: Deadline) -> Edk2Session:
        """Wait until the guest can be talked to; see `lab.drivers.base.Adapter`."""
        if machine.spec.state is None:  # it was booted; what is forked stands at the prompt
            self.prepare(machine, Deadline(min(self._manifest.boot.seconds, deadline.remaining())))
        session = Edk2Session(machine, self._manifest, scenario)
        session.ask_build(Deadline(min(self.seconds("info"), deadline.remaining())))
        return session


class Edk2Session(SerialSession):
    """See `lab.drivers.base.Session`."""

    def ask_build(self, deadline: Deadline) -> None:
        """Ask the firmware which one it is."""
        self.build = self.ask(VERSION, deadline).strip().removeprefix("firmware ")

    def plugged(self, controllers: int, deadline: Deadline) -> None:
        """Wait until the guest has followed a plug or unplug; see `lab.drivers.base.Session`."""
        while (there := self._functions(deadline)) != controllers:
            if deadline.expired:
                raise GuestTimeoutError(f"EDK2 sees {there} NVMe functions behind its root ports, not {controllers}.")
            time.sleep(POLL_SECONDS)

    def perform(self, action: Action, data: bytes | None, deadline: Deadline) -> Answer:
        """Return the driver's answer; see `lab.drivers.base.Session`."""
        if action.name != "shutdown":
            return super().perform(action, data, deadline)
        self._machine.console.send(f"{SHUTDOWN}\n")
        try:
            self._machine.event("SHUTDOWN", deadline)
        except GuestTimeoutError as late:
            return Answer("timeout", {"log": late.what})
        return Answer()

    def _functions(self, deadline: Deadline) -> int:
        said = self.ask(FOLLOW, deadline)
        found = _FUNCTIONS.search(said)
        return int(found[1], 16) if found else 0
