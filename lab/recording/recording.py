"""What both kinds of recording share: the questions of the scenario, in order, and what was answered."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from lab.data.events import ActionEnded, ActionStarted, Plugged
from lab.data.evidence import EvidenceWriter
from lab.data.machine import MachineReport
from lab.data.manifest import DriverManifest
from lab.data.plan import Action, Answer, Scenario
from lab.device.changes import LAB_ACTIONS
from lab.device.images import image
from lab.drivers.base import Session, askable, write_payload
from lab.errors import LabError

LOG = logging.getLogger(__name__)


class Driver(Protocol):
    """What a recording needs to know of its driver, wherever that runs."""

    actions: frozenset[str]

    def seconds(self, action: str) -> float:
        """Return how long the driver may take for an action."""


class Recording(ABC):
    """One scenario while it is recorded: constructed, started and closed by a ``with`` block, run in between.

    ::

        with GuestRecording(…) as recording:
            recording.run()

    When the block has ended, nothing that was started is left but the evidence.
    """

    def __init__(self, driver: Driver, manifest: DriverManifest, scenario: Scenario, evidence: EvidenceWriter) -> None:
        """Take the driver, the scenario and the evidence to write; nothing is started."""
        self.driver_in_place = False
        """The driver may have begun its work: what the guest says from now on is the driver's."""
        self.timed_out = False
        """An action was not answered in its time."""
        self.last_words = ""
        """What the guest said when it died."""
        self._driver = driver
        self._manifest = manifest
        self._scenario = scenario
        self._evidence = evidence
        self._session: Session
        self._cleanup = ExitStack()

    def __enter__(self) -> Self:
        """Start it; if that fails, nothing is left."""
        with ExitStack() as cleanup:
            self._cleanup = cleanup
            self._start()
            self._cleanup = cleanup.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Close all that was started, the last first."""
        self._cleanup.__exit__(kind, error, traceback)

    def run(self, loaded: Callable[[], None] = lambda: None) -> None:
        """Do all actions of the scenario; call ``loaded`` whenever the driver has answered a load in its time."""
        for number, action in enumerate(self._scenario.actions):
            self._perform(number, action)
            if action.name == "load" and not self.timed_out:
                loaded()

    def damage(self) -> list[str]:
        """Return what was damaged of all that the recording was made from; to be asked after a panic or a time-out."""
        return []

    @property
    def made_of(self) -> tuple[Path, ...]:
        """Return what of the cache it was made from: files, and folders of whole entries."""
        return ()

    @property
    def machine_report(self) -> MachineReport | None:
        """How promptly the machine has run the guest; None where there is none."""
        return None

    @property
    def build(self) -> str:
        """Which build of the driver it is, as that says itself; "" where it does not (`lab.drivers.base.Session`)."""
        return str(getattr(getattr(self, "_session", None), "build", ""))

    @abstractmethod
    def now(self) -> float:
        """Return the time on the clock of the events."""

    @abstractmethod
    def _start(self) -> None:
        """Bring up device and driver, into `_session`; what must end is entered into `_cleanup`."""

    @abstractmethod
    def _change(self, action: Action) -> Answer:
        """Do an action of the lab to the device (`LAB_ACTIONS`)."""

    def _inspect(self, action: Action) -> Answer:
        """Return blocks of the disk as they are, whatever the driver says of them: an emulated one is a file."""
        asked = action.arguments
        spec = self._scenario.device
        controller = spec.controller(asked["controller"]) if "controller" in asked else spec.controllers[0]
        namespace = controller.namespace(asked["nsid"]) if controller else None
        if controller is None or namespace is None:
            raise LabError(f"scenario {self._scenario.id}: inspect names namespace {asked['nsid']}, which is not there")
        with image(self._evidence.folder / "namespaces", controller.id, namespace.nsid).open("rb") as file:
            file.seek(asked["lba"] * namespace.block_size)
            return Answer(data=file.read(asked["blocks"] * namespace.block_size))

    @abstractmethod
    def _ask(self, action: Action, data: bytes | None) -> Answer:
        """Return the driver's answer; ``data`` is what a write must write."""

    def _begin_loading(self) -> None:
        """Take what happens from now on for the driver's doing: it is asked to load."""
        self.driver_in_place = True

    def _perform(self, number: int, action: Action) -> None:
        """Do one action, and write down question and answer."""
        LOG.debug("%s: action %d, %s %s", self._evidence.folder, number, action.name, dict(action.arguments))
        self._evidence.record(ActionStarted(t=self.now(), number=number, action=action.name, arguments=action.arguments))
        if action.name == "load":
            self._begin_loading()
        if action.name == "inspect":
            answer = self._inspect(action)
        elif action.name in LAB_ACTIONS:
            answer = self._change(action)
        elif not askable(action, self._driver.actions, self._manifest.stops):
            answer = Answer("unsupported")
        else:
            answer = self._ask(action, write_payload(self._scenario, action))
        self.timed_out |= answer.status == "timeout"
        fields: dict[str, Any] = {"status": answer.status, **answer.fields}
        if answer.data is not None:
            fields["data"] = self._evidence.keep_answer(number, answer.data)
        self._evidence.record(ActionEnded(t=self.now(), number=number, action=action.name, answer=fields))

    def _note_plugged(self, present: bool) -> None:
        for controller in self._scenario.device.controllers:
            self._evidence.record(Plugged(t=self.now(), controller=controller.id, present=present))
