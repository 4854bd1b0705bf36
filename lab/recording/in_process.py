"""Recording a driver that needs no guest: device, driver and lab are one process, and no time is spent waiting.

All times are those of the device's clock, which moves on wherever the driver waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from lab.controller.device import Device
from lab.controller.dma import LocalMemory
from lab.controller.in_process import InProcess
from lab.data.evidence import EvidenceWriter
from lab.data.manifest import DriverManifest
from lab.data.plan import Action, Answer, DeviceKind, Scenario
from lab.data.profile import write_profiles
from lab.deadline import Deadline
from lab.device.changes import CHANGES, change_modelled
from lab.device.images import create_images
from lab.device.lab import unservable
from lab.device.modelled_profile import modelled_profiles
from lab.drivers.base import Session
from lab.errors import LabError
from lab.recording.recording import Driver, Recording

MEMORY = 1 << 30
"""Bytes of the host's memory; the operating system only gives what is touched."""


@runtime_checkable
class InProcessAdapter(Driver, Protocol):
    """What an adapter has besides `lab.drivers.base.Adapter` if its driver runs in this process."""

    def open_in_process(self, device: InProcess, scenario: Scenario) -> Session:
        """Return the driver on a device whose memory is strict: the driver opens to it what it allocates."""


class InProcessRecording(Recording):
    """A recording on the programmable controller in this process."""

    _driver: InProcessAdapter

    def __init__(
        self,
        driver: InProcessAdapter,
        manifest: DriverManifest,
        scenario: Scenario,
        evidence: EvidenceWriter,
        kind: DeviceKind,
    ) -> None:
        """Take what is recorded, and where to; `run` starts it."""
        super().__init__(driver, manifest, scenario, evidence)
        self._kind = kind
        self._clock: Callable[[], float] = time.time  # until there is a device
        self._device: Device

    def now(self) -> float:
        """Return the time of the device's clock."""
        return self._clock()

    def _start(self) -> None:
        scenario, folder = self._scenario, self._evidence.folder
        if self._kind != "lab":
            raise LabError("a driver in this process reaches the programmable controller only", remedy="use --device lab")
        if obstacle := unservable(scenario.device, None, scenario.faults):
            raise LabError(f"This cannot be served: {obstacle}.")
        create_images(scenario.device, folder / "namespaces", scenario.seed)
        memory = LocalMemory(MEMORY, strict=True)
        process = self._cleanup.enter_context(
            InProcess(scenario.device, folder / "namespaces", records=folder / "device", faults=scenario.faults, memory=memory)
        )
        self._device = process.device
        self._clock = process.device.clock.now
        write_profiles(folder, modelled_profiles(process.device))
        self._note_plugged(True)
        self._session = self._driver.open_in_process(process, scenario)
        self._cleanup.callback(self._session.close)

    def _change(self, action: Action) -> Answer:
        if action.name == "fault":
            self._device.arm(action.arguments["name"], action.arguments["armed"])
        elif action.name in CHANGES:
            change_modelled(self._device, action)
        else:
            return Answer("unsupported")
        return Answer()

    def _ask(self, action: Action, data: bytes | None) -> Answer:
        return self._session.perform(action, data, Deadline(self._driver.seconds(action.name)))
