"""What the tests of the reference driver stand on: the driver on a programmable controller in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from lab.controller.in_process import InProcess
from lab.data.events import Event, Remark
from lab.data.plan import Controller, DeviceSpec, Fault, Namespace
from lab.data.stream import read_stream
from lab.drivers.reference_in_process import Host, InProcessTransport
from lab.reference import controller as driver
from lab.reference.service import Reply, Service
from lab.reference.settings import Settings

BLOCKS = 1 << 15


class Rig:
    """A device, and the service of the driver on it."""

    def __init__(self, spec: DeviceSpec, folder: Path, faults: tuple[Fault, ...], settings: Settings) -> None:
        self.host = Host()
        self.records = folder
        self.device = InProcess(spec, folder, records=folder, faults=faults, memory=self.host.memory)
        functions = self.device.functions.values()
        self.service = Service(lambda: [InProcessTransport(self.host, self.device, one) for one in functions], settings)

    def ask(self, action: str, data: bytes | None = None, **arguments: Any) -> Reply:
        return self.service.perform(action, arguments, data)

    def load(self) -> driver.Controller:
        """Bring the driver up and return the first controller."""
        reply = self.ask("load")
        assert reply.status == "success", reply
        return self.service.controllers[0]

    def close(self) -> None:
        self.service.close()
        self.device.close()

    def events(self) -> list[Event]:
        """Close the rig and return all events that the device recorded."""
        self.close()
        return [event for path in sorted(self.records.glob("*.rec")) for event in read_stream(path, complete=True)]

    def broken_rules(self) -> set[str]:
        """Return the rules that the driver broke, as the model saw it; it remarks on Dataset Management ranges in any case."""
        return {event.name for event in self.events() if isinstance(event, Remark)} - {"dsm-range"}


Make = Callable[..., Rig]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Return a function that makes a rig: ``namespaces``, ``faults``, ``settings``, fields of `lab.data.plan.Controller`."""
    with ExitStack() as cleanup:

        def one(
            *faults: Fault,
            namespaces: tuple[Namespace, ...] = (Namespace(blocks=BLOCKS),),
            settings: Settings | None = None,
            **fields: Any,
        ) -> Rig:
            spec = DeviceSpec(controllers=(Controller(serial="RIG", namespaces=namespaces, **fields),))
            rig = Rig(spec, tmp_path, faults, settings or Settings(io_queues=2))
            cleanup.callback(rig.close)
            return rig

        yield one
