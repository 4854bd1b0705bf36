"""The reference driver as a driver under test, once for each of its transports.

In process it drives the programmable controller, in this very process; over qtest, QEMU's device in a machine that stands
still. `lab.drivers.reference_vfio` is its third transport. The answers come from the same `Service` each time.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from lab import defects, variants
from lab.controller.dma import LocalMemory
from lab.controller.in_process import InProcess
from lab.data.manifest import DriverManifest
from lab.data.plan import Action, Answer, DeviceKind, Scenario
from lab.deadline import Deadline
from lab.drivers.base import explicit_arguments
from lab.drivers.reference_in_process import Host, InProcessTransport
from lab.drivers.reference_qtest import Ram, find
from lab.drivers.watchdog import Hung, Watchdog
from lab.errors import GuestPanicError, LabError, UsageError
from lab.guest.arguments import MIB, GuestSpec
from lab.guest.machine import Machine
from lab.guest.qtest import Qtest
from lab.reference.controller import Controller
from lab.reference.core import TIMEOUT_UNIT
from lab.reference.service import ACTIONS, Service
from lab.reference.settings import Settings
from lab.toolchain import Toolchain

SECONDS = 60.0
"""Time limit of any action: longer than all of the driver's own time-outs together."""
QTEST_MEMORY = 256
"""MiB: enough for the longest transfer with its bounce buffer."""
DEPTH = 64
"""Entries of an I/O queue in scenarios: few enough to wrap, enough to keep a device busy."""
SETTINGS = ("io_queues", "depth", "polling")
"""The fields of `Settings` that a manifest's [variables] may set."""
DEFECT = "defect"
"""The variable that names a mistake to seed into the driver (`lab.defects`)."""
VARIANT = "variant"
"""The variable that names legal variants of the driver, joined by "+" (`lab.variants`)."""
SEEDS = (DEFECT, VARIANT)


class ReferenceAdapter:
    """The common part of the three adapters; see `lab.drivers.base.Adapter`."""

    hotplug = False
    actions = ACTIONS
    panics: tuple[str, ...] = ()
    files: Mapping[str, Path] = {}
    driver: type[Controller] = Controller
    service: type[Service] = Service

    def __init__(self, manifest: DriverManifest, toolchain: Toolchain) -> None:
        """Check the variables of the manifest; UsageError."""
        del toolchain  # part of the protocol
        unknown = manifest.variables.keys() - {*SETTINGS, *SEEDS}
        if unknown:
            raise UsageError(
                f"{manifest.path}: variables: there is no {sorted(unknown)[0]!r} (there are: {', '.join((*SETTINGS, *SEEDS))})"
            )
        self._manifest = manifest
        self.defect = manifest.variables.get(DEFECT, "")
        if self.defect not in ("", defects.LIAR):
            defect = defects.find(self.defect)
            self.driver, self.service = defect.driver, defect.service
        self._changed_settings: Mapping[str, Any] = {}
        if chosen := manifest.variables.get(VARIANT, ""):
            if self.defect:
                raise UsageError(f"{manifest.path}: variables: a defect and a variant cannot be seeded at once")
            combination = variants.combination(chosen)
            self.driver, self.service = combination.driver, combination.service
            self._changed_settings = combination.settings

    def refuse_variant(self) -> None:
        """Raise UsageError for a variant on a transport that cannot do what variants do."""
        if self._manifest.variables.get(VARIANT):
            raise UsageError(f"{self._manifest.path}: legal variants run in process only", remedy="use the driver reference")

    def seconds(self, action: str) -> float:
        """Return the time limit of an action."""
        del action  # part of the protocol
        return SECONDS

    def settings(self, scenario: Scenario) -> Settings:
        """Return the manifest's settings, with a queue pair for each CPU of the scenario and its command time-out."""
        try:
            numbers = {name: int(value) for name, value in self._manifest.variables.items() if name in SETTINGS}
        except ValueError as error:
            raise UsageError(f"{self._manifest.path}: variables: {error}") from error
        chosen: dict[str, Any] = {"io_queues": scenario.guest.get("cpus", 2), "depth": DEPTH, **numbers}
        chosen["keep_alive"] = bool(scenario.guest.get("keep_alive"))
        if "command_seconds" in scenario.guest:
            chosen["command_seconds"] = float(scenario.guest["command_seconds"])
        return replace(Settings(), **{**chosen, "polling": bool(chosen.get("polling")), **self._changed_settings})


class LocalSession:
    """A service in this process; see `lab.drivers.base.Session`. A driver that hung or crashed is not used again."""

    def __init__(self, service: Service, scenario: Scenario, watchdog: Watchdog, cleanup: ExitStack) -> None:
        """Take a service that is ready."""
        self._service, self._scenario, self._watchdog, self._cleanup = service, scenario, watchdog, cleanup
        self._hung = ""
        self._ready_seconds = max(c.crto.get("CRWMT", 0) * TIMEOUT_UNIT for c in scenario.device.controllers)
        """How long a controller may take to be ready by its own word: a driver that waits for it does not hang."""

    def plugged(self, controllers: int, deadline: Deadline) -> None:
        """Return at once: the driver reaches the device directly."""

    def perform(self, action: Action, data: bytes | None, deadline: Deadline) -> Answer:
        """Return the driver's answer; "timeout" once it has hung (`lab.drivers.base.Session`)."""
        if self._hung:
            return Answer("timeout", {"log": f"the driver still hangs in {self._hung}"})
        self._watchdog.start(deadline.remaining() + self._ready_seconds)
        try:
            arguments, payload = explicit_arguments(self._scenario, action, data)
            reply = self._service.perform(action.name, arguments, payload)
        except Hung:
            self._hung = action.name
            return Answer("timeout", {"log": f"the driver did not come back from {action.name}"})
        except LabError:
            raise
        except Exception as error:
            raise GuestPanicError(f"The driver crashed at {action.name}: {error!r}", last=traceback.format_exc()) from error
        return Answer(reply.status, reply.fields, reply.data)

    def close(self) -> None:
        """Close the driver, unless it hangs; ignore errors, because a driver that has crashed may crash again."""
        with self._cleanup, suppress(Exception, Hung):
            if not self._hung:
                self._watchdog.start(SECONDS)
                self._service.close()


class ReferenceInProcess(ReferenceAdapter):
    """The driver on the programmable controller in this process: no guest, no QEMU."""

    devices: tuple[DeviceKind, ...] = ("lab",)
    in_qemu = False

    def guest(self, scenario: Scenario) -> None:
        """Return None: no guest is needed."""

    def open(self, machine: Machine, scenario: Scenario, deadline: Deadline) -> LocalSession:
        """Refuse any guest with a LabError: this driver runs in process."""
        del machine, scenario, deadline  # part of the protocol
        raise LabError(f"{self._manifest.path}: this driver runs in no machine", remedy="use --device lab")

    def open_in_process(self, device: InProcess, scenario: Scenario) -> LocalSession:
        """Start the driver on a device of this process, whose memory must be strict: the driver's allocations open it."""
        with ExitStack() as cleanup:
            if self.defect == defects.LIAR:
                device = cleanup.enter_context(_twin(device))
            host, watchdog = Host(device.memory), Watchdog(device.device.clock.now, device.wait)

            def functions() -> list[InProcessTransport]:
                watched = bool(scenario.guest.get("watch_memory"))
                functions = device.functions.values()
                return [InProcessTransport(host, device, function, watchdog, watched=watched) for function in functions]

            service = self.service(functions, self.settings(scenario), self.driver)
            return LocalSession(service, scenario, watchdog, cleanup.pop_all())


def _twin(device: InProcess) -> InProcess:
    """Return a device with the same images, without faults and record: the liar gets its answers from it."""
    images = next((ns.image.parent for ns in device.device.subsystem.all_namespaces()), Path())  # of none, nothing is opened
    return InProcess(device.device.spec, images, memory=LocalMemory(device.memory.size, strict=True))


class ReferenceQtest(ReferenceAdapter):
    """The driver on QEMU's device in a machine whose processor never starts."""

    devices: tuple[DeviceKind, ...] = ("qemu",)

    def __init__(self, manifest: DriverManifest, toolchain: Toolchain) -> None:
        """Refuse the liar, who lives in process only."""
        super().__init__(manifest, toolchain)
        if self.defect == defects.LIAR:
            raise UsageError(f"{manifest.path}: the liar lives in process only", remedy="use the driver reference")
        self.refuse_variant()

    def guest(self, scenario: Scenario) -> GuestSpec:
        """Return the guest that the driver needs, if any."""
        del scenario  # part of the protocol
        return GuestSpec(memory=QTEST_MEMORY, extra=("-S",))

    def open(self, machine: Machine, scenario: Scenario, deadline: Deadline) -> LocalSession:
        """Start the driver in this process, on the guest's memory (`lab.drivers.base.Adapter`)."""
        del deadline  # part of the protocol
        if machine.spec.memory_file is None:
            raise LabError("the qtest transport needs the machine's RAM in a file")
        with ExitStack() as cleanup:
            qtest = cleanup.enter_context(Qtest(machine))
            ram = Ram(machine.spec.memory_file, machine.spec.memory * MIB)
            watchdog = Watchdog(time.monotonic, time.sleep)
            service = self.service(lambda: list(find(qtest, ram, watchdog)), self.settings(scenario), self.driver)
            return LocalSession(service, scenario, watchdog, cleanup.pop_all())
