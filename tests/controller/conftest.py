"""A host for the controller in process: just enough of a driver to send any command and to break any rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from lab.controller.dma import LocalMemory
from lab.controller.in_process import Function, InProcess
from lab.data.events import Event, FaultInjected, Remark
from lab.data.plan import Controller, DeviceSpec, Fault, Namespace
from lab.data.stream import read_stream
from lab.testing import Ring
from lab.testing import host as testing
from lab.testing.host import PAGE, READY

__all__ = ["PAGE", "READY", "Host", "MakeHost", "Ring"]


class Host(testing.Host):
    """Drives one function, and reads what the device has recorded."""

    def __init__(self, device: InProcess, function: Function, records: Path) -> None:
        super().__init__(device, function)
        self._records = records

    # -- the record

    def events(self) -> list[Event]:
        """Everything recorded; ends the device."""
        self.device.close()
        return list(read_stream(self._records / f"{self.function.controller.spec.id}.rec", complete=True))

    def remarks(self) -> list[str]:
        """Return the rules that were broken, in order; ends the device."""
        return [event.name for event in self.events() if isinstance(event, Remark)]

    def strikes(self) -> list[str]:
        """Return the faults that struck, in order; ends the device."""
        return [event.fault for event in self.events() if isinstance(event, FaultInjected)]


class MakeHost:
    """Makes devices and hosts for them; everything is closed when the test ends."""

    def __init__(self, folder: Path, cleanup: ExitStack) -> None:
        self._folder, self._cleanup = folder, cleanup
        self._count = 0

    def __call__(
        self, *faults: Fault, namespaces: tuple[Namespace, ...] = (Namespace(blocks=4096),), strict: bool = False, **fields: Any
    ) -> Host:
        """Return a host of a device with one controller; ``fields`` are those of `lab.data.plan.Controller`."""
        controller = Controller(**{"serial": "LAB1", "namespaces": namespaces, **fields})
        (host,) = self.many(DeviceSpec(controllers=(controller,)), *faults, strict=strict)
        return host

    def many(self, spec: DeviceSpec, *faults: Fault, strict: bool = False) -> list[Host]:
        """Return a host for each controller of a device."""
        self._count += 1
        folder = self._folder / f"device{self._count}"
        folder.mkdir()
        device = InProcess(spec, folder, records=folder, faults=faults, memory=LocalMemory(16 << 20, strict=strict))
        self._cleanup.callback(device.close)
        return [Host(device, function, folder) for function in device.functions.values()]


@pytest.fixture
def make_host(tmp_path: Path) -> Iterator[MakeHost]:
    with ExitStack() as cleanup:
        yield MakeHost(tmp_path, cleanup)


@pytest.fixture
def host(make_host: MakeHost) -> Host:
    """Return a plain device's host: enabled, with one I/O queue pair and a namespace of 4096 blocks."""
    return make_host().up()


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Return a function that waits for a condition that another thread brings about."""
    import time

    def wait(condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < end, "timed out after 10 s"
            time.sleep(0.001)

    return wait
