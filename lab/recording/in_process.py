"""Recording a driver that needs no guest: device, driver and lab are one process, and nobody waits.

All times are those of the device's clock, which moves on by itself wherever the driver waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from lab.controller.controller import ModelController
from lab.controller.device import Device
from lab.controller.in_process import InProcess
from lab.controller.memory import LocalMemory
from lab.data.events import ActionEnded, ActionStarted, Plugged
from lab.data.evidence import EvidenceWriter
from lab.data.plan import Action, Answer, DeviceKind, Scenario
from lab.data.profile import Profile, write_profiles
from lab.deadline import Deadline
from lab.device.changes import LIVE, change_modelled
from lab.device.images import create_images
from lab.device.lab import unservable
from lab.drivers.base import Session, askable, write_payload
from lab.errors import LabError

MEMORY = 1 << 30
"""Bytes of the host's memory; the operating system only gives what is touched."""
LAB_ACTIONS = frozenset({"plug", "unplug", "fault", *LIVE})
"""Actions that are done to the device, not asked of the driver."""


@runtime_checkable
class InProcessAdapter(Protocol):
    """What an adapter has besides `lab.drivers.base.Adapter` if its driver runs in this process."""

    actions: frozenset[str]

    def seconds(self, action: str) -> float:
        """How long the driver may take for an action."""

    def open_in_process(self, device: InProcess, scenario: Scenario) -> Session:
        """The driver, on a device whose memory is strict: the driver opens to it what it allocates."""


class InProcessRecording:
    """One recording, while it lasts."""

    def __init__(
        self, driver: InProcessAdapter, scenario: Scenario, evidence: EvidenceWriter, stops: tuple[str, ...] = ()
    ) -> None:
        """``stops`` are the stages after which the driver can stop."""
        self._driver, self._scenario, self._evidence, self._stops = driver, scenario, evidence, stops
        self.driver_in_place = False
        self.last_words = ""
        self._clock: Callable[[], float] = time.time

    def now(self) -> float:
        """The time on the clock of the events."""
        return self._clock()

    def run(self, kind: DeviceKind) -> None:
        """All of it; when this returns or raises, nothing that was made is left but the evidence."""
        scenario, folder = self._scenario, self._evidence.folder
        if kind != "lab":
            raise LabError("a driver in this process reaches the programmable controller only", remedy="use --device lab")
        if obstacle := unservable(scenario.device, None, scenario.faults):
            raise LabError(f"This cannot be served: {obstacle}.")
        create_images(scenario.device, folder / "namespaces", scenario.seed)
        (folder / "device").mkdir(exist_ok=True)
        memory = LocalMemory(MEMORY, strict=True)
        with InProcess(
            scenario.device, folder / "namespaces", records=folder / "device", faults=scenario.faults, memory=memory
        ) as device:
            self._clock = device.device.clock.now
            write_profiles(folder, profiles(device.device))
            for controller in scenario.device.controllers:
                self._evidence.record(Plugged(t=self.now(), controller=controller.id, present=True))
            session = self._driver.open_in_process(device, scenario)
            try:
                for number, action in enumerate(scenario.actions):
                    self._ask(number, action, device.device, session)
            finally:
                session.close()

    def _ask(self, number: int, action: Action, device: Device, session: Session) -> None:
        self._evidence.record(ActionStarted(t=self.now(), number=number, action=action.name, arguments=action.arguments))
        self.driver_in_place |= action.name == "load"
        if action.name == "fault":
            device.arm(action.arguments["name"], action.arguments["armed"])
            answer = Answer()
        elif action.name in LIVE:
            change_modelled(device, action)
            answer = Answer()
        elif action.name in LAB_ACTIONS or not askable(action, self._driver.actions, self._stops):
            answer = Answer("unsupported")
        else:
            answer = session.perform(action, write_payload(self._scenario, action), Deadline(self._driver.seconds(action.name)))
        said: dict[str, Any] = {"status": answer.status, **answer.fields}
        if answer.data is not None:
            said["data"] = self._evidence.keep_answer(number, answer.data)
        self._evidence.record(ActionEnded(t=self.now(), number=number, action=action.name, answer=said))


def profiles(device: Device) -> dict[str, Profile]:
    """What the controllers of the programmable device are."""
    return {id: _profile(controller) for id, controller in device.controllers.items()}


def _profile(controller: ModelController) -> Profile:
    ids, class_code = (int.from_bytes(controller.config_read(offset, 4), "little") for offset in (0x00, 0x08))
    return Profile(
        cap=controller.registers.cap,
        vs=controller.registers.vs,
        controller=controller.identity,
        namespaces={nsid: controller.identify_namespace(nsid) for nsid in controller.attached},
        pci_class=class_code >> 8,
        pci_id=(ids & 0xFFFF, ids >> 16),
    )
