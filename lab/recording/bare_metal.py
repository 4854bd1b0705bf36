"""Recording a driver on a real machine: what it says, and what its disk holds. What its device saw, nobody can say."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from lab.data.evidence import EvidenceWriter
from lab.data.manifest import DriverManifest
from lab.data.plan import MACHINE, Action, Answer, Controller, DeviceKind, DeviceSpec, Namespace, Scenario
from lab.deadline import Deadline
from lab.errors import LabError
from lab.recording.recording import Driver, Recording

if TYPE_CHECKING:
    from lab.drivers.bare_metal import MachineSession  # imports paramiko, which takes a tenth of a second

INSPECT_SECONDS = 60.0


@runtime_checkable
class MachineAdapter(Driver, Protocol):
    """What an adapter has besides `lab.drivers.base.Adapter` if its driver runs on a real machine."""

    def open_machine(self, scenario: Scenario, log: Path) -> MachineSession:
        """Open the lines to the machine."""


class BareMetalRecording(Recording):
    """A recording of a driver on a real machine."""

    _driver: MachineAdapter

    def __init__(
        self, driver: MachineAdapter, manifest: DriverManifest, scenario: Scenario, evidence: EvidenceWriter, kind: DeviceKind
    ) -> None:
        """Take what is recorded, and where to."""
        super().__init__(driver, manifest, scenario, evidence)
        self._kind = kind
        self._session: MachineSession

    def now(self) -> float:
        """Return the host's time."""
        return time.time()

    def _start(self) -> None:
        if self._kind != MACHINE:
            raise LabError("a real machine has a device of its own", remedy=f"use --device {MACHINE}")
        self._session = self._driver.open_machine(self._scenario, self._evidence.folder / "console.log")
        self._cleanup.callback(self._session.close)

    def _change(self, action: Action) -> Answer:
        if action.name == "cut-power":
            return self._session.restart(Deadline(self._driver.seconds("load")))
        return Answer("unsupported", {"log": "the device of a real machine cannot be changed"})

    def _inspect(self, action: Action) -> Answer:
        return self._session.hands.inspect(action, Deadline(INSPECT_SECONDS))

    def _ask(self, action: Action, data: bytes | None) -> Answer:
        return self._session.perform(action, data, Deadline(self._driver.seconds(action.name)))


def on_machine(manifest: DriverManifest, scenario: Scenario) -> Scenario:
    """Return the scenario about the machine's own disk: its LBAs lie in the part that may be overwritten.

    Nothing is known of what the disk holds at the start.
    """
    disk = manifest.machine.disk
    namespace = Namespace(nsid=disk.nsid, blocks=disk.blocks, block_size=disk.block_size, contents="the machine's own")
    controller = Controller(serial=disk.serial, namespaces=(namespace,))

    def moved(action: Action) -> Action:
        arguments = dict(action.arguments)
        if "lba" in arguments:
            arguments |= {"lba": arguments["lba"] + disk.scratch}
        if "nsid" in arguments:
            arguments |= {"nsid": disk.nsid}
        return replace(action, arguments=arguments)

    return replace(scenario, device=DeviceSpec(controllers=(controller,)), actions=tuple(map(moved, scenario.actions)))
